"""How a version or an adapter stands with moderation: asked with every version, so it needs little to be imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from citrate.core.errors import ChainError
from citrate.core.records import Status
from citrate.registry.abi_codec import Frame, encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.views import View

T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """How an id stands with moderation; ``status`` is None where no contract moderates."""

    status: Status | None


def standing_of(version_or_lora_id: str) -> View[Standing]:
    """How a version or LoRA stands: a LoRA or merged version as the worse of itself and its base."""
    return View(
        LORA_REGISTRY,
        encode_call("statusOf(bytes32)", version_or_lora_id),
        lambda frame: Standing(status_at(frame, 1) if frame.flag(0) else None),
    )


def status_at(frame: Frame, place: int) -> Status:
    """The status whose number stands at ``place``.

    Raises:
        ChainError: a number that this release does not know.
    """
    return known(list(Status), frame.number(place), "status")


def known(words: list[T], number: int, what: str) -> T:
    """The word of a number on chain.

    Raises:
        ChainError: a number that this release does not know.
    """
    if number >= len(words):
        raise ChainError(f"the chain answers with the unknown {what} {number}", hint="update citrate")
    return words[number]


def hash_at(frame: Frame, place: int) -> str:
    """The digest at ``place``, without ``0x``; empty for the zero word."""
    digest = frame.word(place)[2:]
    return digest if int(digest, 16) else ""
