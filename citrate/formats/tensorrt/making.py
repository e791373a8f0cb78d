"""ModelOpt in a child process: it wants the whole model in memory, changes the classes it works on, and talks a lot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from citrate.core.confinement import endings
from citrate.core.errors import BackendMissingError, FormatError, UnavailableError
from citrate.formats.checks.network import first_line
from citrate.formats.source import SourceModel
from citrate.formats.streaming import default_threads
from citrate.formats.tensorrt import calibration
from citrate.formats.tensorrt.schemes import Scheme

_LIBRARIES = 2 << 30
_MAPPED, _MAPPED_A_THREAD = 4 << 30, 256 << 20
"""Address space (not memory) of the libraries' files, and of each thread's stack and arena."""
_SECONDS, _SECONDS_A_MILLION = 1800.0, 30.0
"""Time: some ten times what AWQ's search took on two cores, two to three minutes a hundred million weights."""
_PACKAGES = ("modelopt", "torch", "transformers", "tokenizers")
_MEMORY_HINT = "leave the tensorrt_llm variants out here, and add them on a larger machine: citrate add-variant"
_HINT = "pip install 'citrate[nvidia,gguf]'"


def make(model: SourceModel, outs: Mapping[Scheme, Path], scratch: Path, threads: int | None) -> Mapping[str, str]:
    """Quantise ``model`` by each scheme into its folder.

    Args:
        model: the source; decoders only.
        outs: where each scheme's checkpoint goes.
        scratch: a folder for what libraries keep beside it.
        threads: default: all cores this process may use.

    Returns:
        The versions that the bytes depend on, by package.

    Raises:
        FormatError: ModelOpt cannot quantise this model.
        BackendMissingError: ModelOpt is not installed.
        UnavailableError: it takes more memory than there is.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise BackendMissingError(f"TensorRT-LLM checkpoints need {package}", hint=_HINT)
    needed = _require_memory(model, max(scheme.bytes_per_weight for scheme in outs))
    threads = threads or default_threads()
    request = {
        "parent_pid": os.getpid(),
        "source": str(model.root.absolute()),
        "recipes": {scheme.recipe: str(out) for scheme, out in outs.items()},
        "sequences": calibration.sequences(model),
        "threads": threads,
        "memory_bytes": needed + _MAPPED + _MAPPED_A_THREAD * threads,
    }
    seconds = _SECONDS + _SECONDS_A_MILLION * len(outs) * model.architecture.parameters / 1e6
    return _ask(json.dumps(request).encode(), scratch, seconds)


def installed_versions() -> Mapping[str, str]:
    """The versions that the bytes depend on, by package; empty for one that is not installed."""
    return {"modelopt": _version("nvidia-modelopt"), "torch": _torch(), "transformers": _version("transformers")}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _torch() -> str:
    """With what it was built for behind a plus, which its package's metadata lacks."""
    try:
        import torch
    except ModuleNotFoundError:
        return ""
    return str(torch.__version__)


def _require_memory(model: SourceModel, bytes_per_weight: int) -> int:
    """The memory in bytes that it takes.

    Raises:
        UnavailableError: there is less.
    """
    needed = bytes_per_weight * model.architecture.parameters + _LIBRARIES
    available = psutil.virtual_memory().available
    if needed > available:
        raise UnavailableError(
            f"ModelOpt takes {needed / 1e9:.1f} GB of memory for this model, there are {available / 1e9:.1f} GB",
            hint=_MEMORY_HINT,
        )
    return needed


def _ask(request: bytes, scratch: Path, seconds: float) -> Mapping[str, str]:
    command = [sys.executable, "-P", "-m", "citrate.formats.tensorrt.making_process"]
    environment = endings.environment(os.environ, str(scratch))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for us: we end it
    )
    try:
        said, talk = process.communicate(request, seconds)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"ModelOpt was not done within {seconds:.0f} s", hint=_MEMORY_HINT) from None
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise endings.crash(process.returncode, talk, "ModelOpt failed", _MEMORY_HINT)
    try:
        answer: dict[str, str] = json.loads(said)
    except ValueError as error:
        raise FormatError(f"ModelOpt answers nonsense: {first_line(error)}") from error
    if "error" in answer:
        hint = answer["hint"] or _MEMORY_HINT
        raise endings.failure(answer["error"], answer["message"], hint, talk, _MEMORY_HINT)
    return answer
