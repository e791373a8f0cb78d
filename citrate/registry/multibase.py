"""Bytes as text with a letter in front that names the alphabet.

Source: https://github.com/multiformats/multibase. citrate writes base32 (and base58 for CIDs of version 0); it reads
the alphabets that people paste.
"""

from __future__ import annotations

import base64
import binascii
import re

from citrate.core.errors import FormatError

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE32_TEXT = re.compile("[a-z2-7]+")
_DIGITS = str.maketrans(_BASE32, "0123456789abcdefghijklmnopqrstuv")
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
TEXT_MAX_CHARS = 400
"""No CID that IPFS accepts is longer; it bounds the arithmetic of base58."""


def decode(text: str) -> bytes:
    """The bytes behind a multibase text.

    Raises:
        FormatError: an unknown letter in front, a character outside the alphabet, or a text of unreasonable length.
    """
    if 1 < len(text) <= TEXT_MAX_CHARS:
        try:
            return _decode(text[0], text[1:])
        except (ValueError, binascii.Error):
            pass
    raise FormatError("it is in no alphabet of multibase")


def _decode(letter: str, text: str) -> bytes:
    match letter:
        case "b":
            return _base32_decode(text)
        case "B":
            return _base32_decode(_only(text.lower(), text.upper() == text))
        case "z":
            return base58_decode(text)
        case "k":
            return _positional(text, _BASE36)
        case "K":
            return _positional(_only(text.lower(), text.upper() == text), _BASE36)
        case "f" | "F":
            return bytes.fromhex(_only(text, text.isalnum()))
        case "u":
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        case "m":
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    raise ValueError(letter)


def _only(text: str, fits: bool) -> str:
    if not fits:
        raise ValueError(text)
    return text


def _base32_decode(text: str) -> bytes:
    if not _BASE32_TEXT.fullmatch(text) or len(text) % 8 in (1, 3, 6):  # lengths that no number of bytes has
        raise ValueError(text)
    bits = 5 * len(text)
    return (int(text.translate(_DIGITS), 32) >> bits % 8).to_bytes(bits // 8, "big")


def base32_encode(data: bytes) -> str:
    """``b`` and the bytes in lower-case base32 without padding."""
    number = int.from_bytes(data, "big") << (-8 * len(data) % 10)  # filled up to pairs of letters
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(-(-8 * len(data) // 10) * 10 - 10, -1, -10)]
    return "b" + "".join(pairs)[: -(-8 * len(data) // 5)]


def base58_encode(data: bytes) -> str:
    """The bytes in base58 (Bitcoin's alphabet), without a letter in front."""
    number, out = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = _BASE58[digit] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def base58_decode(text: str) -> bytes:
    """The bytes behind a base58 text.

    Raises:
        ValueError: a character outside the alphabet.
    """
    return _positional(text, _BASE58)


def _positional(text: str, alphabet: str) -> bytes:
    number = 0
    for character in text:
        number = number * len(alphabet) + alphabet.index(character)
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
