"""The views of LoRARegistry: adapters, merges, whose adapters a model takes, and how an id stands with moderation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from citrate.core.errors import ChainError
from citrate.core.records import Status
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.views import View

T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """How an id stands with moderation; ``status`` is None where no contract moderates."""

    status: Status | None


def standing_of(version_or_lora_id: str) -> View[Standing]:
    """How a version or LoRA stands: a LoRA or merged version as the worse of itself and its base."""
    return _view(
        lambda frame: Standing(status_at(frame, 1) if frame.flag(0) else None), "statusOf(bytes32)", version_or_lora_id
    )


def status_at(frame: Frame, place: int) -> Status:
    """The status whose number stands at ``place``.

    Raises:
        ChainError: a number that this release does not know.
    """
    number = frame.number(place)
    known = list(Status)
    if number >= len(known):
        raise ChainError(f"the chain answers with the unknown status {number}", hint="update citrate")
    return known[number]


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(LORA_REGISTRY, encode_call(signature, *arguments), decode)
