"""The walls around a model process: what it may take, and that it can reach neither network nor other programs.

Linux: Landlock for the files it may read (`landlock`, where the kernel has it), then, once the libraries are loaded and
before the first byte of a model is read, a seccomp filter (`seccomp`) and resource limits, all put on by the process
itself. macOS: `sandbox-exec` around the process, and the limits.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import resource
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from citrate.core.confinement import landlock, seccomp
from citrate.core.errors import UnavailableError

NO_SANDBOX_HINT = "run it without one, if you trust the model: --no-sandbox"

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 512
_GRACE_S = 5
_SANDBOX_EXEC = Path("/usr/bin/sandbox-exec")
_PROFILE = (
    "(version 1)(allow default)(deny network*)(deny file-write*)"
    '(allow file-write* (literal "/dev/null") (subpath (param "SCRATCH")))'
)
_GPU_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri")


def wrap(command: Sequence[str], scratch: Path) -> list[str]:
    """The command that starts ``command`` inside the platform's sandbox, where ``scratch`` is the one folder to write.

    Raises:
        UnavailableError: this platform has none that we can use.
    """
    if platform.system() == "Linux":
        return list(command)  # it locks itself in: see `lock_down`
    if platform.system() == "Darwin" and _SANDBOX_EXEC.exists():
        return [str(_SANDBOX_EXEC), "-D", f"SCRATCH={scratch.resolve()}", "-p", _PROFILE, *command]
    raise UnavailableError(f"no sandbox for a model process on {platform.system()}", hint=NO_SANDBOX_HINT)


def restrict_files(models: Sequence[Path], scratch: Path) -> None:
    """Leave this process the files it needs and no others, where the kernel can do that (Landlock).

    Called once, in the model process, before it starts a thread or loads a library.

    Args:
        models: absolute paths of the files and folders that it will open.
        scratch: a folder for libraries that want a temporary one while they load.

    Raises:
        UnavailableError: the kernel has Landlock and refuses.
    """
    if platform.system() == "Linux":
        try:
            landlock.restrict_to(models, scratch)
        except OSError as error:
            raise UnavailableError(
                f"the model process cannot be shut in: {error.strerror}", hint=NO_SANDBOX_HINT
            ) from error


def lock_down(memory_bytes: int, processor_seconds: int | None = None) -> None:
    """Limit this process and shut it in. Called once, in the model process, before it opens a model.

    Args:
        memory_bytes: address space that it may take beyond what it has now. With a GPU, whose driver reserves address
            space by the terabyte, that limit is left out.
        processor_seconds: that it may compute from now on; past them SIGXCPU ends it. None: no limit.

    Raises:
        UnavailableError: the kernel refuses; nothing of the model has been read.
    """
    limit_resources(memory_bytes, processor_seconds)
    if platform.system() != "Linux":
        return
    try:
        seccomp.install(devices=has_gpu_nodes())
    except OSError as error:
        raise UnavailableError(
            f"the model process cannot be shut in: {error.strerror}", hint=NO_SANDBOX_HINT
        ) from error
    try:
        socket.socket().close()
    except PermissionError:
        return
    raise UnavailableError("the model process can still open sockets", hint=NO_SANDBOX_HINT)


def go_offline() -> None:
    """Let this process open no socket any more, whatever else it may do.

    Raises:
        UnavailableError: the kernel refuses.
    """
    if platform.system() != "Linux":
        return
    try:
        seccomp.install_offline()
    except OSError as error:
        raise UnavailableError(f"the network cannot be shut off here: {error.strerror}") from error
    try:
        socket.socket().close()
    except PermissionError:
        return
    raise UnavailableError("sockets can still be opened")


def limit_resources(memory_bytes: int, processor_seconds: int | None = None) -> None:
    """No core dumps, no growing files, few open files, bounded address space and processor time. A lower hard limit is
    kept."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit shall fail, not kill
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    limit_memory(memory_bytes)
    if processor_seconds is not None:
        used = math.ceil(time.process_time())
        # SIGKILL, at the hard limit, looks like a want of memory: SIGXCPU comes first
        _lower(resource.RLIMIT_CPU, used + processor_seconds, grace=_GRACE_S)


def limit_memory(memory_bytes: int) -> None:
    """Bound the address space of this process to what it has and ``memory_bytes``, where that says something: on Linux
    without a GPU."""
    if platform.system() == "Linux" and not has_gpu_nodes():
        _lower(resource.RLIMIT_AS, _address_space_bytes() + memory_bytes)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere the end of stdin tells it)."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it ended before the call
            os._exit(1)


def has_gpu_nodes() -> bool:
    """Whether a GPU driver's device nodes are here."""
    return any(Path(node).exists() for node in _GPU_NODES)


def _lower(which: int, value: int, grace: int = 0) -> None:
    _, hard = resource.getrlimit(which)
    soft, most = (limit if hard == resource.RLIM_INFINITY else min(limit, hard) for limit in (value, value + grace))
    resource.setrlimit(which, (soft, most))


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
