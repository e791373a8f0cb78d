"""Compile the kernels: without fast-math, so that every rounding is that of scalar C, and cached for the machine.

The machine code is kept under the user's cache folder, in a subfolder named by the hash of the kernels' sources:
numba's own rule (modification time and size of one file) misses a change in another module of this package, and
wheels are installed with equal times.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding as llvm
import numba
import numba.core.config
import platformdirs

F = TypeVar("F", bound=Callable[..., object])


def _look_for_blas_later() -> None:
    """Have numba's first compilation not import SciPy, only to see whether there is a BLAS: a third of a second, for
    functions that no kernel of ours calls. Whoever calls one has numba look again."""
    linalg: Any = importlib.import_module("numba.np.linalg")
    if "numba.np.arraymath" in sys.modules or not hasattr(linalg, "ensure_blas"):
        return
    look, linalg.ensure_blas = linalg.ensure_blas, _no_blas
    try:
        arraymath: Any = importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = look
    arraymath.ensure_blas, arraymath._HAVE_BLAS = look, importlib.util.find_spec("scipy") is not None


def _no_blas() -> None:
    raise ImportError


_look_for_blas_later()

# numba's settings are module attributes that it makes at run time, and its decorators return what they make of types.
_settings: Any = numba.core.config
_njit: Any = numba.njit


def kernel(function: F) -> F:
    """Compile ``function`` on first call; it runs without the GIL."""
    folder = _cache_folder()
    options = {"nogil": True, "error_model": "numpy", "fastmath": False}
    if not folder:
        return cast(F, _njit(**options)(function))
    before = _settings.CACHE_DIR
    _settings.CACHE_DIR = folder  # read once, while the function is decorated
    try:
        return cast(F, _njit(cache=True, **options)(function))
    finally:
        _settings.CACHE_DIR = before


@cache
def _cache_folder() -> str:
    """Where machine code is kept; empty where nothing can be written, and each process compiles for itself."""
    _prefer_wide_vectors()
    sources = hashlib.sha256()
    package = Path(__file__).parent
    for path in (*sorted(package.glob("*.py")), *sorted(package.parent.glob("*_kernels.py"))):
        sources.update(path.read_bytes())
    folder = Path(platformdirs.user_cache_dir("citrate")) / f"kernels-{sources.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


def _prefer_wide_vectors() -> None:
    """Let LLVM use 512-bit vectors, which it avoids by default on CPUs that had to lower their clock for them.

    Holds for the process and must precede its first compilation. The bytes do not depend on it: a lane is a block.
    """
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and not _settings.CPU_NAME:
        _settings.CPU_NAME = llvm.get_host_cpu_name()
        _settings.CPU_FEATURES = features.flatten() + ",-prefer-256-bit"
