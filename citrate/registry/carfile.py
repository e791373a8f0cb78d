"""CAR files, read: every block is compared with its CID before anybody sees it.

Source: https://ipld.io/specs/transport/car/carv1/ and carv2/ (of which the version 1 inside is read and the index left
aside). The file is untrusted: no length in it is believed before it was compared with a bound, so that memory stays at
one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from citrate.core.errors import FormatError, IntegrityError
from citrate.registry import dagcbor
from citrate.registry.cid import Cid
from citrate.registry.dagpb import BLOCK_MAX_BYTES

HEADER_MAX_BYTES = 1 << 20
_CID_MAX_BYTES = 256
_PRAGMA_V2 = bytes.fromhex("0aa16776657273696f6e02")
_HEADER_V2_BYTES = 40
_SKIP_BYTES = 1 << 20
_HINT = "fetch it again; ipfs dag export CID writes one"


class CarFile:
    """A CAR from a stream, which need not be seekable.

    Args:
        stream: at the file's first byte. ``read`` may return fewer bytes than asked for, but none only at the end.
        rootless: whether it may name no root, as gateways may answer who knows already what was asked for.

    Raises:
        FormatError: no CAR, of another version, or with a header that is malformed or past its bound.
    """

    def __init__(self, stream: BinaryIO, *, rootless: bool = False) -> None:
        self._stream = stream
        self._left: int | None = None
        """Bytes of the version 1 inside a version 2; None: all that the stream has."""
        self.read_bytes = 0
        """How much of the stream was read."""
        length = self._header_length()
        if length + 1 == len(_PRAGMA_V2):
            body = self._exactly(length, "its header")
            if bytes((length,)) + body == _PRAGMA_V2:
                self._enter_v2()
                length = self._header_length()
                body = self._exactly(length, "its header")
        else:
            body = self._exactly(length, "its header")
        self.roots = _roots(body, rootless)

    def _header_length(self) -> int:
        length = self._varint("its header")
        if length is None or not 0 < length <= HEADER_MAX_BYTES:
            raise FormatError("this is no CAR file", hint=_HINT)
        return length

    def _enter_v2(self) -> None:
        fields = self._exactly(_HEADER_V2_BYTES, "its header")
        start, size = int.from_bytes(fields[16:24], "little"), int.from_bytes(fields[24:32], "little")
        if start < self.read_bytes or size == 0:
            raise FormatError("malformed header of a CAR of version 2", hint=_HINT)
        while self.read_bytes < start:
            self._exactly(min(_SKIP_BYTES, start - self.read_bytes), "its header")
        self._left = size

    def blocks(self) -> Iterator[tuple[Cid, bytes]]:
        """The blocks in the file's order; blocks that are their own CID too, where the file repeats them.

        Raises:
            FormatError: cut off, malformed, a block of more than 2 MiB, or of an unknown hash function.
            IntegrityError: a block is not what its CID says.
        """
        while (length := self._varint("a block")) is not None:
            if not 0 < length <= BLOCK_MAX_BYTES + _CID_MAX_BYTES:
                raise FormatError(
                    f"CAR with a block of {length} bytes at {self.read_bytes}; IPFS moves up to {BLOCK_MAX_BYTES}",
                    hint=_HINT,
                )
            section = self._exactly(length, "a block")
            cid, at = Cid.read(section, 0)
            block = section[at:]
            if len(block) > BLOCK_MAX_BYTES:
                raise FormatError(f"block {cid} has {len(block)} bytes; IPFS moves up to {BLOCK_MAX_BYTES}")
            if not cid.matches(block):
                raise IntegrityError(
                    f"block {cid} of the CAR is not what its CID says",
                    path=str(cid), expected=cid.digest.hex(), actual=cid.hash(block)[: len(cid.digest)].hex(),
                    hint=_HINT,
                )  # fmt: skip
            yield cid, block

    def _varint(self, where: str) -> int | None:
        """The next number; None at the end of the file."""
        number = shift = 0
        while True:
            byte = self._read(1)
            if not byte and shift == 0:
                return None
            if not byte or shift > 56:
                raise FormatError(f"CAR cut off or malformed in {where} at byte {self.read_bytes}", hint=_HINT)
            number |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return number

    def _exactly(self, length: int, where: str) -> bytes:
        pieces = []
        while length:
            piece = self._read(length)
            if not piece:
                raise FormatError(f"CAR cut off in {where} at byte {self.read_bytes}", hint=_HINT)
            pieces.append(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, length: int) -> bytes:
        if self._left is not None:
            length = min(length, self._left)
        piece = self._stream.read(length) if length else b""
        self.read_bytes += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        return piece


def _roots(body: bytes, rootless: bool) -> list[Cid]:
    try:
        header = dagcbor.decode(body)
    except FormatError as error:
        raise FormatError(f"this is no CAR file: {error.message}", hint=_HINT) from error
    roots = header.get("roots") if isinstance(header, dict) else None
    if not isinstance(header, dict) or header.get("version") != 1 or not isinstance(roots, list):
        raise FormatError("this is no CAR file of version 1 or 2", hint=_HINT)
    found = [root for root in roots if isinstance(root, Cid)]
    if len(found) != len(roots) or not (found or rootless):
        raise FormatError("the CAR names no root, so nothing of it could be found again", hint=_HINT)
    return list(dict.fromkeys(found))
