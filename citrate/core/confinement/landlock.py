"""Landlock: the folders that a model process may read, and nothing else of the user's.

A second wall behind seccomp, where the kernel has it (Linux 5.13 and newer, if enabled). It binds the calling thread
and those it starts, so it goes up before any library is loaded. Besides files it also keeps the process from looking
into the memory of any process outside, the parent's included (landlock(7)).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_EVERYTHING = (1 << 13) - 1
"""Every right of the first version: those four, and removing and making entries of each kind."""

_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/opt", "/nix", "/sys"),
    *("/proc/self", "/proc/sys", "/proc/driver", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version"),
    *("/proc/devices", "/proc/filesystems", "/proc/modules", "/proc/loadavg", "/proc/uptime"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/OpenCL", "/etc/vulkan"),
)
_DEVICES = "/dev"


def restrict_to(models: Sequence[Path], scratch: Path) -> bool:
    """Let this thread and its children read ``models``, Python and the system, and write to ``scratch`` and devices.

    Returns:
        Whether the kernel has Landlock; without it nothing is changed, and seccomp stands alone.

    Raises:
        OSError: the kernel has it and refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("=Q", _EVERYTHING)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in _readable(models):
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
        _allow(libc, ruleset, Path(_DEVICES), _READ_FILE | _READ_DIR | _WRITE_FILE)
        _allow(libc, ruleset, scratch, _EVERYTHING & ~_EXECUTE)
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _readable(models: Sequence[Path]) -> Iterable[Path]:
    """The models, and where the interpreter and its libraries are."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path}
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    package = Path(__file__).parents[2]
    folders = [model for model in models if model.is_dir()]
    linked = [entry for folder in folders for entry in folder.iterdir() if entry.is_symlink()]  # as in hf's cache
    for path in {*models, package, *linked, *map(Path, (*python, *libraries, *_SYSTEM))}:
        if path.is_absolute() and path != Path("/") and path.exists():
            yield path.resolve()


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    if not path.is_dir():
        access &= ~_READ_DIR  # a right that only folders have
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, descriptor)
        _check(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")


def available() -> bool:
    """Whether this kernel can restrict a process to folders."""
    if platform.system() != "Linux":
        return False
    return int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, 1)) > 0
