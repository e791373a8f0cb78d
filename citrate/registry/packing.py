"""Fields of packed payloads and records: written with the contracts' limits checked, read never past the end."""

from __future__ import annotations

import re

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import SHA256_PATTERN
from citrate.registry import cid

LICENCE_PATTERN = re.compile(r"[ -~]{1,64}")


class Reader:
    """Takes fields from the front of bytes, never past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether all is taken."""
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            FormatError: there are not so many.
        """
        if self._at + count > len(self._data):
            raise FormatError(f"not a record: it ends at byte {len(self._data)}, inside a field")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int) -> int:
        """An unsigned integer of ``count`` bytes."""
        return int.from_bytes(self.take(count), "big")

    def word(self) -> str:
        """A bytes32, ``0x`` and 64 digits."""
        return "0x" + self.take(32).hex()

    def address(self) -> str:
        """An address, ``0x`` and 40 digits in lower case."""
        return "0x" + self.take(20).hex()

    def text(self, length: int | None = None) -> str:
        """A text of ``length`` bytes, or of as many as its first byte says."""
        try:
            return self.take(self.number(1) if length is None else length).decode("ascii")
        except UnicodeDecodeError as error:
            raise FormatError("not a record: a text is not ASCII") from error

    def cid(self, codec: int, digest: bytes) -> str:
        """A CID in text, of a codec that the contracts take."""
        if codec not in (cid.RAW, cid.DAG_PB):
            raise FormatError(f"not a record: unknown codec {codec:#x}")
        return cid.encode(codec, digest)


def text(value: str) -> bytes:
    """A text with its length byte."""
    return bytes([len(value)]) + value.encode()


def digest(sha256: str, what: str) -> bytes:
    """A SHA-256, not zero.

    Raises:
        ConfigError: it is none.
    """
    if not SHA256_PATTERN.fullmatch(sha256) or not int(sha256, 16):
        raise ConfigError(f"{sha256!r} is no SHA-256 of the {what}", hint="a SHA-256 is 64 lower-case hex digits")
    return bytes.fromhex(sha256)


def require(pattern: re.Pattern[str], value: str, what: str) -> None:
    """Check a name.

    Raises:
        ConfigError: the contract would refuse it.
    """
    if not pattern.fullmatch(value):
        raise ConfigError(f"{value!r} cannot be a {what}", hint=f"a {what} is {pattern.pattern}")


def require_licence(licence: str) -> None:
    """Check a licence.

    Raises:
        ConfigError: the contract would refuse it.
    """
    if not LICENCE_PATTERN.fullmatch(licence):
        raise ConfigError(
            f"the licence {licence!r} cannot stand on chain", hint="1 to 64 plain characters, such as apache-2.0"
        )


def split_cid(where: str, what: str) -> tuple[int, bytes]:
    """Codec and digest of a CID.

    Raises:
        ConfigError: its digest is zero.
    """
    codec, found = cid.decode(where)
    if not any(found):
        raise ConfigError(f"{what} has an empty CID digest", hint="citrate store verify")
    return codec, found
