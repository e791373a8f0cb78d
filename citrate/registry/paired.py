"""Two SHA-256 in one loop: of the same bytes, a whole file's and its leaf's; or of two leaves side by side.

Of the same bytes, both hashes see the same 64-byte blocks, since a leaf is a multiple of them. So the message schedule
is computed once for both, and the two chains of rounds, each of which waits on its own last step, fill each other's
gaps. On a processor with SHA extensions this runs as fast as one SHA-256 of OpenSSL (1.75 GB/s for both). Two leaves
side by side fill each other's gaps as well, although each needs a schedule of its own: 3.4 GB/s, where OpenSSL hashes
one after the other at 1.76.

The loops are LLVM code for ``llvmlite``, which comes with numba and compiles it in 40 ms. Where that is not installed,
or the processor has no such instructions, ``kernel`` is None and hashlib does the same work. Before their first use
the loops are compared with hashlib.

Source: FIPS 180-4; Intel, "Intel SHA Extensions" (the order of the state's words, and what the instructions compute).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

BLOCK_BYTES = 64
STATE_BYTES = 32

_VECTOR = "<4 x i32>"
_DECLARATIONS = f"""
declare {_VECTOR} @llvm.x86.sha256rnds2({_VECTOR}, {_VECTOR}, {_VECTOR})
declare {_VECTOR} @llvm.x86.sha256msg1({_VECTOR}, {_VECTOR})
declare {_VECTOR} @llvm.x86.sha256msg2({_VECTOR}, {_VECTOR})
declare {_VECTOR} @llvm.bswap.v4i32({_VECTOR})
"""
_START = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_NEEDED = ("sha", "sse4.1", "ssse3")


@dataclass(frozen=True)
class Kernel:
    """The compiled loops: ``one(state, data, blocks)`` advances a state of 32 bytes, ``two`` a pair of them, in place;
    ``apart(states, first, second, blocks)`` a pair of which each sees data of its own.
    The addresses are those of memory that the caller keeps alive; the interpreter's lock is not held."""

    one: Callable[[int, int, int], None]
    two: Callable[[int, int, int], None]
    apart: Callable[[int, int, int, int], None]
    engine: Any  # owns the code


def start_state() -> bytes:
    """The state of a SHA-256 before its first block, as the instructions want it."""
    a, b, c, d, e, f, g, h = _START
    return struct.pack("<8I", f, e, b, a, h, g, d, c)


def digest_of(state: bytes) -> bytes:
    """The digest in a state after the last, padded block."""
    f, e, b, a, h, g, d, c = struct.unpack("<8I", state)
    return struct.pack(">8I", a, b, c, d, e, f, g, h)


def padded(tail: bytes, size_bytes: int) -> bytes:
    """The last block or two of a message of ``size_bytes``, of which ``tail`` is what filled no block."""
    zeros = -(len(tail) + 9) % BLOCK_BYTES
    return tail + b"\x80" + bytes(zeros) + struct.pack(">Q", 8 * size_bytes)


@functools.cache
def kernel() -> Kernel | None:
    """The compiled loops, or None where they cannot be had."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return None
    if not all(llvm.get_host_cpu_features().get(feature) for feature in _NEEDED):
        return None
    try:
        made = _compiled(llvm)
    except RuntimeError:  # an LLVM that does not know this code: hashlib does the same work
        return None
    return made if _is_right(made) else None


def _compiled(llvm: Any) -> Kernel:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # No other instructions than these: virtual machines announce some that they trap.
    features = ",".join(f"+{feature}" for feature in _NEEDED)
    machine = llvm.Target.from_default_triple().create_target_machine(cpu="x86-64", features=features, opt=3)
    # One engine for both loops: it owns the machine, and a second one would free that twice.
    code = _code("one", [0]) + _code("two", [0, 0]) + _code("apart", [0, 1])
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_DECLARATIONS + code), machine)
    engine.finalize_object()
    shared = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    apart = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    one, two = (shared(engine.get_function_address(name)) for name in ("one", "two"))
    return Kernel(one, two, apart(engine.get_function_address("apart")), engine)


def _is_right(made: Kernel) -> bool:
    """Compare the loops with hashlib: both states of the pair, then the single one."""
    message = bytes(range(256)) * 40
    data = ctypes.create_string_buffer(message + padded(b"", len(message)))
    blocks = len(message) // BLOCK_BYTES
    states = ctypes.create_string_buffer(start_state() * 3, 3 * STATE_BYTES)
    made.two(ctypes.addressof(states), ctypes.addressof(data), blocks)
    made.two(ctypes.addressof(states), ctypes.addressof(data) + len(message), 1)
    made.one(ctypes.addressof(states) + 2 * STATE_BYTES, ctypes.addressof(data), blocks + 1)
    found = {digest_of(states.raw[at : at + STATE_BYTES]) for at in (0, STATE_BYTES, 2 * STATE_BYTES)}
    return found == {hashlib.sha256(message).digest()} and _is_right_apart(made, message)


def _is_right_apart(made: Kernel, message: bytes) -> bool:
    other = message[::-1]
    first, second = (ctypes.create_string_buffer(data + padded(b"", len(data))) for data in (message, other))
    states = ctypes.create_string_buffer(start_state() * 2, 2 * STATE_BYTES)
    made.apart(ctypes.addressof(states), ctypes.addressof(first), ctypes.addressof(second), len(first) // BLOCK_BYTES)
    found = [digest_of(states.raw[at : at + STATE_BYTES]) for at in (0, STATE_BYTES)]
    return found == [hashlib.sha256(data).digest() for data in (message, other)]


def _round_constants() -> Iterator[int]:
    """The first 32 bits of the fractional parts of the cube roots of the first 64 primes, as signed numbers."""
    found = 0
    number = 2
    while found < 64:
        if all(number % smaller for smaller in range(2, number)):
            scaled = number << 96
            root = 1 << 37
            while root**3 > scaled:  # Newton's method from above
                root = (2 * root + scaled // root**2) // 3
            constant = root & 0xFFFFFFFF
            yield constant - (1 << 32) if constant >> 31 else constant
            found += 1
        number += 1


class _Code:
    """Collects lines of LLVM code, naming the results."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return name


def _code(name: str, lanes: list[int]) -> str:
    """``void NAME(states*, data0*, ..., blocks)`` for states that lie one behind the other; blocks > 0.

    Args:
        name: the function's.
        lanes: for each state the number of the data that it sees.
    """
    data = sorted(set(lanes))
    halves = [(lane, half) for lane in range(len(lanes)) for half in range(2)]
    before = "".join(
        f"  %p{lane}{half} = getelementptr i8, ptr %state, i64 {32 * lane + 16 * half}\n"
        f"  %i{lane}{half} = load {_VECTOR}, ptr %p{lane}{half}, align 1\n"
        for lane, half in halves
    )
    carried = "".join(
        f"  %s{lane}{half} = phi {_VECTOR} [%i{lane}{half}, %entry], [%n{lane}{half}, %loop]\n" for lane, half in halves
    )
    code = _Code()
    states = [[f"%s{lane}0", f"%s{lane}1"] for lane in range(len(lanes))]
    _rounds(code, states, lanes)
    summed = "".join(
        f"  %n{lane}{half} = add {_VECTOR} %s{lane}{half}, {states[lane][half]}\n" for lane, half in halves
    )
    after = "".join(f"  store {_VECTOR} %n{lane}{half}, ptr %p{lane}{half}, align 1\n" for lane, half in halves)
    given = "".join(f"ptr %data{number}, " for number in data)
    places = "".join(f"  %at{number} = getelementptr i8, ptr %data{number}, i64 %offset\n" for number in data)
    return (
        f"define void @{name}(ptr %state, {given}i64 %blocks) {{\nentry:\n{before}  br label %loop\n"
        f"loop:\n  %block = phi i64 [0, %entry], [%next, %loop]\n{carried}"
        f"  %offset = shl i64 %block, 6\n{places}"
        + "\n".join(code.lines)
        + f"\n{summed}  %next = add i64 %block, 1\n  %more = icmp ult i64 %next, %blocks\n"
        f"  br i1 %more, label %loop, label %end\nend:\n{after}  ret void\n}}\n"
    )


def _rounds(code: _Code, states: list[list[str]], lanes: list[int]) -> None:
    """The 64 rounds, four at a time; ``states`` holds each chain's two halves and is left at its new ones, ``lanes``
    the data that each sees."""
    constants = list(_round_constants())
    words: dict[int, list[str]] = {number: [] for number in lanes}
    for group in range(16):
        four = ", ".join(f"i32 {constant}" for constant in constants[4 * group : 4 * group + 4])
        sums = {}
        for number, schedule in words.items():
            schedule.append(_message_words(code, schedule, group, number))
            first = code.add(f"add {_VECTOR} {schedule[group]}, <{four}>")
            upper = f"{_VECTOR} {first}, {_VECTOR} {first}, <4 x i32> <i32 2, i32 3, i32 0, i32 0>"
            sums[number] = (first, code.add(f"shufflevector {upper}"))
        for into, given in ((1, 0), (0, 1)):
            for state, number in zip(states, lanes, strict=True):
                state[into] = code.add(
                    f"call {_VECTOR} @llvm.x86.sha256rnds2("
                    f"{_VECTOR} {state[into]}, {_VECTOR} {state[given]}, {_VECTOR} {sums[number][given]})"
                )


def _message_words(code: _Code, words: list[str], group: int, number: int) -> str:
    """Four words of the message schedule: from the block itself, or from those before."""
    if group < 4:
        at = code.add(f"getelementptr i8, ptr %at{number}, i64 {16 * group}")
        loaded = code.add(f"load {_VECTOR}, ptr {at}, align 1")
        return code.add(f"call {_VECTOR} @llvm.bswap.v4i32({_VECTOR} {loaded})")
    a, b, c, d = words[-4:]
    sums = code.add(f"call {_VECTOR} @llvm.x86.sha256msg1({_VECTOR} {a}, {_VECTOR} {b})")
    shifted = code.add(f"shufflevector {_VECTOR} {c}, {_VECTOR} {d}, <4 x i32> <i32 1, i32 2, i32 3, i32 4>")
    added = code.add(f"add {_VECTOR} {sums}, {shifted}")
    return code.add(f"call {_VECTOR} @llvm.x86.sha256msg2({_VECTOR} {added}, {_VECTOR} {d})")
