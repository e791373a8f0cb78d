"""The views of ModelAccess: what access costs, and who has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from citrate.core.errors import ChainError
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import MODEL_ACCESS
from citrate.registry.ids import checksum
from citrate.registry.views import NOWHERE, View

T = TypeVar("T")


@dataclass(frozen=True)
class Quote:
    """What access to one id costs at a block."""

    price_wei: int
    """0: the version is free, or the model is not for sale as a whole."""
    fee_wei: int
    """The part of the price that is the protocol's."""
    seller: str
    """Who is credited with the rest: the model's owner."""


def quote(id_: str) -> View[Quote]:
    """What access to a version or model costs."""
    return _view(_quote, "quote(bytes32)", id_)


def has_access(id_: str, account: str) -> View[bool]:
    """Whether an account may use a version, or a model as a whole."""
    return _view(lambda frame: frame.flag(0), "hasAccess(bytes32,address)", id_, account)


def granted_at(id_: str, account: str) -> View[int]:
    """When an account got access to just this id, in Unix seconds; 0 if it did not."""
    return _view(lambda frame: frame.number(0), "grantedAt(bytes32,address)", id_, account)


def _quote(frame: Frame) -> Quote:
    if frame.address(2) == NOWHERE:  # every model has an owner; "free" is not believed of whatever answers with zeros
        raise ChainError("the chain answers with a price that nobody asks", hint="citrate verify-contracts")
    return Quote(frame.number(0), frame.number(1), checksum(frame.address(2)))


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(MODEL_ACCESS, encode_call(signature, *arguments), decode)
