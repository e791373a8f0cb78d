"""Calls and answers of the contract's views, in the ABI's encoding, without importing an Ethereum library.

Only what the views use: words, texts, bytes, arrays of structs. An answer comes from a node and is hostile: every
offset and length is bounded by the answer's own size, and anything odd is a ``ChainError``.
Source: the Solidity documentation, "Contract ABI Specification".
"""

from __future__ import annotations

import functools
from typing import TypeAlias

from citrate.core.errors import ChainError
from citrate.registry.ids import keccak

Argument: TypeAlias = int | str | bytes
"""An integer, an address or bytes32 in hex, a text, or bytes, as the signature says."""

_WORD = 32


@functools.cache
def selector(signature: str) -> bytes:
    """The four bytes that name a function or an error: ``getVersion(bytes32)``."""
    return keccak(signature.encode())[:4]


def encode_call(signature: str, *arguments: Argument) -> bytes:
    """Encode a call; the types are read from the signature."""
    names = signature[signature.index("(") + 1 : -1]
    return selector(signature) + encode(names.split(",") if names else [], *arguments)


def encode(types: list[str], *arguments: Argument) -> bytes:
    """Encode arguments of the types ``address``, ``bytes32``, ``uint256``, ``string``, ``bytes``."""
    head, tail = b"", b""
    for kind, argument in zip(types, arguments, strict=True):
        if kind in ("string", "bytes"):
            content = argument.encode() if isinstance(argument, str) else argument
            assert isinstance(content, bytes)
            head += (len(types) * _WORD + len(tail)).to_bytes(_WORD, "big")
            tail += len(content).to_bytes(_WORD, "big") + content + bytes(-len(content) % _WORD)
        elif isinstance(argument, int):
            head += argument.to_bytes(_WORD, "big")
        else:
            assert isinstance(argument, str)
            head += bytes.fromhex(argument[2:]).rjust(_WORD, b"\0")
    return head + tail


class Frame:
    """A tuple inside an answer: its fields are read by their place, a nested dynamic one by its offset."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self._start = start

    def number(self, place: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self._word(self._start + place * _WORD), "big")

    def flag(self, place: int) -> bool:
        """A boolean."""
        return self._small(place, 1) == 1

    def word(self, place: int) -> str:
        """A bytes32, ``0x`` and 64 digits."""
        return "0x" + self._word(self._start + place * _WORD).hex()

    def address(self, place: int) -> str:
        """An address, ``0x`` and 40 digits in lower case."""
        return f"0x{self._small(place, (1 << 160) - 1):040x}"

    def text(self, place: int) -> str:
        """A string; all strings of the registry are ASCII."""
        start = self._offset(place)
        size = self._count(start, 1)
        try:
            return self._data[start + _WORD : start + _WORD + size].decode("ascii")
        except UnicodeDecodeError as error:
            raise _odd("a text that is not ASCII") from error

    def frame(self, place: int) -> Frame:
        """A dynamic struct."""
        return Frame(self._data, self._offset(place))

    def words(self, place: int) -> list[str]:
        """An array of bytes32."""
        rows = self.rows(place, 1)
        return [row.word(0) for row in rows]

    def addresses(self, place: int) -> list[str]:
        """An array of addresses."""
        return [row.address(0) for row in self.rows(place, 1)]

    def rows(self, place: int, width: int) -> list[Frame]:
        """An array of static structs of ``width`` words."""
        start = self._offset(place)
        count = self._count(start, width * _WORD)
        return [Frame(self._data, start + _WORD * (1 + i * width)) for i in range(count)]

    def frames(self, place: int) -> list[Frame]:
        """An array of dynamic structs."""
        start = self._offset(place)
        count = self._count(start, _WORD)
        inside = Frame(self._data, start + _WORD)
        return [inside.frame(i) for i in range(count)]

    def _word(self, at: int) -> bytes:
        if at + _WORD > len(self._data):
            raise _odd(f"{len(self._data)} bytes, too few")
        return self._data[at : at + _WORD]

    def _small(self, place: int, limit: int) -> int:
        number = self.number(place)
        if number > limit:
            raise _odd("a value out of its range")
        return number

    def _offset(self, place: int) -> int:
        start = self._start + self._small(place, len(self._data))
        self._word(start)
        return start

    def _count(self, at: int, size: int) -> int:
        """A length word, for elements of at least ``size`` bytes each."""
        count = int.from_bytes(self._word(at), "big")
        if at + _WORD + count * size > len(self._data):
            raise _odd("a length past its end")
        return count


def _odd(what: str) -> ChainError:
    return ChainError(f"the node's answer is not what the registry returns: {what}", hint="check rpc_url")
