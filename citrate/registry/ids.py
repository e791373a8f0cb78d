"""Keccak-256 and the ids made with it, without the second that importing an Ethereum library takes.

``keccak`` is pure Python (0.3 ms a block of 136 bytes): enough for ids, selectors and checksums, of which a command
needs some dozen. Signing uses eth-account's own.
"""

from __future__ import annotations

import functools

_ROUNDS = 24
_RATE = 136
"""Bytes absorbed a permutation: 1600 bits less twice the 256 of the output."""
_MASK = (1 << 64) - 1


def _round_constants() -> tuple[int, ...]:
    """The 24 constants of the iota step, from their shift register (FIPS 202, algorithm 5)."""
    constants = []
    register = 1
    for _ in range(_ROUNDS):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(constants)


def _rotations() -> tuple[tuple[int, int], ...]:
    """Where pi takes lane ``x + 5y`` and by how much rho rotates it: (destination, bits) by lane."""
    offsets = [0] * 25
    x, y = 1, 0
    for t in range(_ROUNDS):
        offsets[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return tuple((y + 5 * ((2 * x + 3 * y) % 5), offsets[x + 5 * y]) for y in range(5) for x in range(5))


_CONSTANTS = _round_constants()
_MOVES = _rotations()


def _permute(lanes: list[int]) -> list[int]:
    for constant in _CONSTANTS:
        parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        mix = [parity[x - 1] ^ ((parity[(x + 1) % 5] << 1 | parity[(x + 1) % 5] >> 63) & _MASK) for x in range(5)]
        moved = [0] * 25
        for lane, (place, bits) in enumerate(_MOVES):
            value = lanes[lane] ^ mix[lane % 5]
            moved[place] = (value << bits | value >> (64 - bits)) & _MASK
        lanes = [moved[i] ^ (~moved[i - i % 5 + (i + 1) % 5] & moved[i - i % 5 + (i + 2) % 5]) for i in range(25)]
        lanes[0] ^= constant
    return lanes


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (padding 0x01, not SHA-3's 0x06)."""
    return _absorb([0] * 25, data)


def keccak_after(state: bytes, absorbed: int, data: bytes) -> bytes:
    """Keccak-256 of ``absorbed`` bytes, which left the sponge in ``state`` (200 bytes), and then ``data``."""
    lanes = [int.from_bytes(state[8 * i : 8 * i + 8], "little") for i in range(25)]
    return _absorb(lanes, bytes(absorbed % _RATE) + data)


def _absorb(lanes: list[int], data: bytes) -> bytes:
    padding = _RATE - len(data) % _RATE
    padded = data + (b"\x81" if padding == 1 else b"\x01" + bytes(padding - 2) + b"\x80")
    for start in range(0, len(padded), _RATE):
        for i in range(_RATE // 8):
            lanes[i] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


@functools.lru_cache(maxsize=4096)
def checksum(address: str) -> str:
    """Spell an address in EIP-55 mixed case."""
    digits = address[2:].lower()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(mark, 16) > 7 else c for c, mark in zip(digits, marks, strict=False))


def model_id(publisher: str, name: str) -> str:
    """``keccak256(abi.encode(address publisher, string name))``."""
    return _id(bytes.fromhex(publisher[2:]).rjust(32, b"\0"), name)


def version_id(model: str, version: str) -> str:
    """``keccak256(abi.encode(bytes32 modelId, string version))``."""
    return _id(bytes.fromhex(model[2:]), version)


def _id(first: bytes, text: str) -> str:
    data = text.encode()
    padded = data + bytes(-len(data) % 32)
    return "0x" + keccak(first + (64).to_bytes(32, "big") + len(data).to_bytes(32, "big") + padded).hex()
