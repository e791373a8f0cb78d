"""A seccomp filter for a process that reads untrusted weights: no sockets, no new programs, no writing to files.

Written by hand as classic BPF (Linux: Documentation/userspace-api/seccomp_filter.rst), so that no library is needed.
The filter is a list of what is refused, since the libraries above it use a wide and changing set of calls; what
it must stop is a way out: a socket, another program, another process, a changed file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_LD_WORD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes each, low word first
_X32_BIT = 0x40000000

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _FILTER_FLAG_TSYNC = 1, 1
_CLONE_NEW_NAMESPACE = 0x7E020000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CREATES = os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class _Machine:
    """The system call numbers of one architecture (``asm/unistd.h``)."""

    audit_arch: int
    seccomp: int
    sockets: tuple[int, ...]
    """EPERM: every way to one, also to one that another process listens on."""
    refused: tuple[int, ...]
    """EPERM: programs, tracing, namespaces, mounts, keys, and every call that changes a file or a folder."""
    signals: tuple[int, ...]
    """kill, tgkill: allowed to this process only."""
    clone: int
    openat: int
    open: int | None


_COMMON = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442, 452, 463, 466)
"""pidfd_send_signal, io_uring (which opens sockets without socket()), the mount calls, pidfd_open, pidfd_getfd,
mount_setattr, fchmodat2, setxattrat, removexattrat: the same numbers everywhere."""
_IO_URING = (425, 426, 427)
_CLONE3, _OPENAT2 = 435, 437
"""ENOSYS: their arguments lie in memory that a filter cannot read, and callers fall back to clone and openat."""

_MACHINES = {
    "x86_64": _Machine(
        audit_arch=0xC000003E,
        seccomp=317,
        sockets=(41, 42, 43, 49, 50, 53, 288),  # socket, connect, accept, bind, listen, socketpair, accept4
        refused=(
            *(59, 322, 101, 310, 311, 57, 58),  # execve, execveat, ptrace, process_vm_readv/writev, fork, vfork
            *(272, 308, 155, 165, 166, 161, 304),  # unshare, setns, pivot_root, (u)mount, chroot, open_by_handle_at
            *(248, 249, 250, 298, 321, 323),  # add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd
            *(129, 297, 200),  # rt_sigqueueinfo, rt_tgsigqueueinfo, tkill
            *(76, 77, 82, 83, 84, 85, 86, 87, 88),  # (f)truncate, rename, mkdir, rmdir, creat, (un)link, symlink
            *(90, 91, 92, 93, 94, 132, 133, 235),  # chmod, fchmod, chown, fchown, lchown, utime, mknod, utimes
            *(188, 189, 190, 197, 198, 199),  # setxattr and removexattr with their variants
            *(258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 316),  # the same with -at; renameat2
        ),
        signals=(62, 234),
        clone=56,
        openat=257,
        open=2,
    ),
    "aarch64": _Machine(
        audit_arch=0xC00000B7,
        seccomp=277,
        sockets=(198, 199, 200, 201, 202, 203, 242),  # socket, socketpair, bind, listen, accept, connect, accept4
        refused=(
            *(221, 281, 117, 270, 271),  # execve, execveat, ptrace, process_vm_readv/writev
            *(97, 268, 41, 40, 39, 51, 265),  # unshare, setns, pivot_root, mount, umount2, chroot, open_by_handle_at
            *(217, 218, 219, 241, 280, 282),  # add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd
            *(138, 240, 130),  # rt_sigqueueinfo, rt_tgsigqueueinfo, tkill
            *(45, 46, 33, 34, 35, 36, 37, 38, 276),  # truncate, ftruncate, mknodat ... renameat, renameat2
            *(52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16),  # fchmod ... fchown, utimensat, setxattr, removexattr
        ),
        signals=(129, 131),
        clone=220,
        openat=56,
        open=None,
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(*, devices: bool) -> None:
    """Put the filter on every thread of this process, for good. Children inherit it.

    Args:
        devices: leave existing files open to writing, as GPU drivers need for their device nodes. Creating a file
            stays refused, and RLIMIT_FSIZE must stop what regular files could still take.

    Raises:
        OSError: the kernel or the architecture has no such filter.
    """
    machine = _this_machine()
    _put_on(machine, program(machine, os.getpid(), _CREATES if devices else _WRITES))


def install_offline() -> None:
    """Put a filter on this process that refuses sockets and nothing else, for good.

    Raises:
        OSError: the kernel or the architecture has no such filter.
    """
    machine = _this_machine()
    steps = _begin(machine) + _refusals((*machine.sockets, *_IO_URING)) + [(_RETURN, 0, 0, _ALLOW)]
    _put_on(machine, _packed(steps))


def _this_machine() -> _Machine:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no system call filter is written for {platform.machine()}")
    return machine


def _put_on(machine: _Machine, code: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")
    argument = _Program(len(code) // 8, code)
    # TSYNC: libraries started threads when they were imported, and a filter otherwise binds the calling thread only.
    if libc.syscall(machine.seccomp, _SECCOMP_SET_MODE_FILTER, _FILTER_FLAG_TSYNC, ctypes.byref(argument)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def program(machine: _Machine, pid: int, refused_open_flags: int) -> bytes:
    """The filter as an array of ``struct sock_filter`` (16-bit code, two 8-bit jumps, 32-bit operand)."""
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = _begin(machine) + _refusals((*machine.sockets, *machine.refused, *_COMMON))
    for number in (_CLONE3, _OPENAT2):
        steps += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, missing)]
    for number in machine.signals:
        steps += _when_argument(number, 0, (_JUMP_EQUAL, 1, 0, pid), refuse)
    steps += _when_argument(machine.clone, 0, (_JUMP_ANY_BIT, 0, 1, _CLONE_NEW_NAMESPACE), refuse)
    steps += _when_argument(machine.openat, 2, (_JUMP_ANY_BIT, 0, 1, refused_open_flags), _ERRNO | errno.EACCES)
    if machine.open is not None:
        steps += _when_argument(machine.open, 1, (_JUMP_ANY_BIT, 0, 1, refused_open_flags), _ERRNO | errno.EACCES)
    steps.append((_RETURN, 0, 0, _ALLOW))
    return _packed(steps)


def _begin(machine: _Machine) -> list[tuple[int, int, int, int]]:
    """Load the call's number; other architectures and the x32 interface, whose numbers mean other calls, end here."""
    return [
        (_LD_WORD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, machine.audit_arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LD_WORD, 0, 0, _NR),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]


def _refusals(numbers: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    return [step for number in numbers for step in ((_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM))]


def _packed(steps: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _when_argument(
    number: int, index: int, test: tuple[int, int, int, int], verdict: int
) -> list[tuple[int, int, int, int]]:
    """For call ``number``: load argument ``index``; ``test`` skips a step to allow it, or falls to ``verdict``."""
    return [
        (_JUMP_EQUAL, 0, 4, number),
        (_LD_WORD, 0, 0, _ARGUMENTS + 8 * index),
        test,
        (_RETURN, 0, 0, verdict),
        (_RETURN, 0, 0, _ALLOW),
    ]
