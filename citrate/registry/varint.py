"""Unsigned LEB128 numbers, as every format of IPFS writes its lengths and codes.

Source: https://github.com/multiformats/unsigned-varint.
"""

from __future__ import annotations

from citrate.core.errors import FormatError


def varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(block: bytes, at: int) -> tuple[int, int]:
    """Decode the number at ``at``; returns it and the position after it.

    Raises:
        FormatError: the bytes end, or the number does not fit 63 bits or is not in its shortest form.
    """
    number = shift = 0
    while at < len(block) and shift < 63:
        byte = block[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            if byte == 0 and shift > 7:
                break
            return number, at
    raise FormatError("malformed number in an IPFS block or CID")
