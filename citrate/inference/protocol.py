"""What the parent and its model process say to each other: JSON, one line a message, over pipes.

The model process reads hostile files, so the parent believes nothing it says beyond the shape checked here: a line
has a bounded length, and nothing in it is ever evaluated or used as a path.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TypeAlias

from citrate.core.records import Format

MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Request:
    """The one message to the model process."""

    path: str
    format: Format
    prompts: tuple[str, ...]
    """Answered one after the other, each as if it were the only one."""
    max_tokens: int
    temperature: float
    seed: int
    context: int
    chat: bool
    sandbox: bool
    memory_bytes: int
    """Address space that it may take beyond what it has once its libraries are loaded."""
    threads: int
    parent_pid: int
    adapter: str = ""
    """The path of an adapter in the form that the format's runtime takes; empty for none."""
    scale: float = 1.0
    """By how much of what it was trained for the adapter is added."""


@dataclass(frozen=True)
class Ready:
    """The model is loaded; ``context`` is the window it got, in tokens."""

    context: int


@dataclass(frozen=True)
class Text:
    """The next piece of an answer; whole characters only."""

    text: str


@dataclass(frozen=True)
class Done:
    """An answer is complete. Times are seconds since its prompt was begun."""

    prompt_tokens: int
    tokens: int
    first_token_s: float
    last_token_s: float
    finish: str
    """``stop``: the model ended; ``length``: it reached max_tokens or the context."""


@dataclass(frozen=True)
class Failure:
    """An error of `citrate.core.errors` by its class name."""

    type: str
    message: str
    hint: str


Event: TypeAlias = Ready | Text | Done | Failure

_EVENTS: dict[str, type[Ready] | type[Text] | type[Done] | type[Failure]] = {
    "ready": Ready,
    "text": Text,
    "done": Done,
    "failure": Failure,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}
_TYPES: dict[str, type] = {"int": int, "str": str, "float": float}


def encode_request(request: Request) -> bytes:
    """One line of JSON, newline included."""
    return json.dumps(dataclasses.asdict(request)).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """The inverse of `encode_request`; it comes from our own parent, so its shape is taken on trust."""
    fields = json.loads(line)
    return Request(**{**fields, "format": Format(fields["format"]), "prompts": tuple(fields["prompts"])})


def encode_event(event: Event) -> bytes:
    """One line of JSON, newline included."""
    return json.dumps({"event": _NAMES[type(event)], **dataclasses.asdict(event)}).encode() + b"\n"


def decode_event(line: bytes) -> Event:
    """Parse one line.

    Raises:
        ValueError: no event of this protocol.
    """
    try:
        fields = json.loads(line)
        kind = _EVENTS[fields.pop("event")]
        event = kind(**fields)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not an event") from error
    for field in dataclasses.fields(event):
        if type(getattr(event, field.name)) is not _TYPES[str(field.type)]:
            raise ValueError(f"{field.name} is of the wrong type")
    return event
