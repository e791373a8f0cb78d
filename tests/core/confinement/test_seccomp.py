"""The filter's program, run on paper for both architectures: this machine can only load the one of its own."""

from __future__ import annotations

import errno
import struct

import pytest

from citrate.core.confinement import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003
PID = 4242


def verdict(machine: str, arch: int, number: int, *arguments: int) -> int:
    """Interpret the classic BPF program of ``machine`` on one system call."""
    code = seccomp.program(seccomp._MACHINES[machine], PID, seccomp._WRITES)
    steps = list(struct.iter_unpack("=HBBI", code))
    words = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    at, accumulator = 0, 0
    while True:
        operation, jump_true, jump_false, operand = steps[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", words, operand)
        elif operation == 0x06:
            return operand
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += jump_true if holds[operation] else jump_false


def refused(code: int) -> int:
    return 0x50000 | code


@pytest.mark.parametrize(
    ("machine", "arch", "socket", "execve", "openat", "clone", "kill", "read"),
    [("x86_64", X86_64, 41, 59, 257, 56, 62, 0), ("aarch64", AARCH64, 198, 221, 56, 220, 129, 63)],
)
def test_both_architectures_refuse_and_allow_the_same(
    machine: str, arch: int, socket: int, execve: int, openat: int, clone: int, kill: int, read: int
) -> None:
    def asked(number: int, *arguments: int) -> int:
        return verdict(machine, arch, number, *arguments)

    assert asked(socket, 2, 1, 0) == asked(execve) == refused(errno.EPERM)
    assert asked(425) == refused(errno.EPERM)
    assert asked(435) == asked(437) == refused(errno.ENOSYS)
    assert asked(read) == ALLOW
    assert asked(openat, 0, 0, 0) == ALLOW
    assert asked(openat, 0, 0, 1) == asked(openat, 0, 0, 2) == asked(openat, 0, 0, 0o100) == refused(errno.EACCES)
    assert asked(clone, 0x3D0F00) == ALLOW  # a thread
    assert asked(clone, 0x10000000) == refused(errno.EPERM)
    assert asked(kill, PID, 0) == ALLOW
    assert asked(kill, PID + 1, 0) == asked(kill, 0xFFFFFFFF, 9) == refused(errno.EPERM)


def test_the_numbers_of_another_architecture_end_the_process() -> None:
    assert verdict("x86_64", I386, 0) == KILL
    assert verdict("aarch64", X86_64, 0) == KILL


def test_the_x32_numbers_of_x86_64_do_not_exist() -> None:
    assert verdict("x86_64", X86_64, 0x40000000 | 41) == refused(errno.ENOSYS)


def test_the_program_is_short_enough_for_the_kernel() -> None:
    for machine in seccomp._MACHINES.values():
        assert len(seccomp.program(machine, PID, seccomp._WRITES)) // 8 < 4096
