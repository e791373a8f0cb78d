"""What one custom error means to a user, and how its arguments are written."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from citrate.core.amounts import ether, typed
from citrate.core.errors import CitrateError
from citrate.core.records import Status
from citrate.registry.abi_codec import Frame
from citrate.registry.ids import checksum

PAYLOAD = "this is a fault of the program that packed the payload"
AGAIN = "run it again; if it stays, set another rpc_url"


@dataclass(frozen=True)
class Refusal:
    """The exception for a custom error; ``message`` and ``hint`` are formatted with the error's arguments, in their
    order.

    A number can be written as ``{0:ether}``, ``{0:typed}`` (ether as a command takes it), ``{0:time}`` (Unix seconds),
    ``{0:percent}`` (basis points) or ``{0:status}``.
    """

    error: type[CitrateError]
    message: str
    hint: str


Table: TypeAlias = Mapping[str, Refusal]
"""The error's signature -> its meaning."""


class Number(int):
    """An unsigned integer of an error, which knows the units that errors come in."""

    def __format__(self, spec: str) -> str:
        write = _UNITS.get(spec)
        return write(self) if write else super().__format__(spec)


def arguments(signature: str, data: bytes) -> list[str | Number]:
    """The arguments of an error, from its data behind the selector.

    Raises:
        ChainError: they cannot be read.
    """
    types = signature[signature.index("(") + 1 : -1]
    frame = Frame(data)
    return [_argument(frame, place, kind) for place, kind in enumerate(types.split(",")) if kind]


def _argument(frame: Frame, place: int, kind: str) -> str | Number:
    if kind == "address":
        return checksum(frame.address(place))
    if kind == "string":
        return frame.text(place)
    return Number(frame.number(place)) if kind.startswith(("uint", "int")) else frame.word(place)


def _time(seconds: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M UTC}"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _status(number: int) -> str:
    known = list(Status)
    return str(known[number]) if number < len(known) else f"in the unknown state {number}"


_UNITS: Mapping[str, Callable[[int], str]] = {
    "ether": ether,
    "typed": typed,
    "time": _time,
    "percent": lambda basis_points: f"{basis_points / 100:g} %",
    "status": _status,
}
