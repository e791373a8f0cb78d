"""The rows of a dataset: what each training method wants of them, and their canonical bytes.

The shapes are those of TRL (https://huggingface.co/docs/trl/dataset_formats): a value is text, or a conversation of
messages; all rows of a dataset have one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from citrate.core import canonical
from citrate.core.canonical import Json
from citrate.core.errors import ConfigError, FormatError

ROLES = ("system", "user", "assistant", "tool")
MESSAGES_MAX = 4096


class Method(StrEnum):
    """How a model is trained."""

    SFT = "sft"
    """To complete as the rows do."""
    DPO = "dpo"
    """To prefer what the rows prefer (direct preference optimisation)."""
    REWARD = "reward"
    """To score what the rows prefer higher: a reward model."""
    GRPO = "grpo"
    """To please a reward model, by groups of answers to a prompt."""
    RLOO = "rloo"
    """As GRPO, each answer against the mean of the others."""
    KTO = "kto"
    """By answers that are each called good or bad."""


def method_of(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in list(Method):
        raise ConfigError(f"no training method {name!r}", hint=f"one of: {', '.join(Method)}")
    return Method(name)


Row: TypeAlias = dict[str, Json]


@dataclass(frozen=True)
class Shape:
    """The columns of a dataset's rows, in byte order of their names, and whether they hold conversations."""

    columns: tuple[str, ...]
    conversational: bool

    def __str__(self) -> str:
        kind = "conversations" if self.conversational else "text"
        return f"{' + '.join(self.columns)} ({kind})"


_PREFERENCE = (("chosen", "rejected"), ("chosen", "prompt", "rejected"))
_COLUMNS: dict[Method, tuple[tuple[str, ...], ...]] = {
    Method.SFT: (("text",), ("completion", "prompt"), ("messages",)),
    Method.DPO: _PREFERENCE,
    Method.REWARD: _PREFERENCE,
    Method.GRPO: (("prompt",),),
    Method.RLOO: (("prompt",),),
    Method.KTO: (("completion", "label", "prompt"),),
}


def takes(method: Method, columns: tuple[str, ...]) -> bool:
    """Whether a method is trained by rows with these columns."""
    return columns in _COLUMNS[method]


def shape_of(row: Row, method: Method) -> Shape:
    """Check one row.

    Raises:
        FormatError: it lacks a column, has one too many, or one holds what it must not; the message names it.
    """
    columns = tuple(sorted(row))
    allowed = _COLUMNS[method]
    if columns not in allowed:
        wanted = ", or ".join(" + ".join(each) for each in allowed)
        found = " + ".join(name[:40] for name in columns[:8]) or "nothing"
        raise FormatError(f"has {found}; {method} wants {wanted}")
    kinds = {_is_conversation(name, row[name]) for name in columns if name != "label"}
    if "label" in row and not isinstance(row["label"], bool):
        raise FormatError("label is neither true nor false")
    if len(kinds) > 1:
        raise FormatError("holds text in one column and a conversation in another")
    for name in columns:
        if name != "label" and _is_empty(row[name]) and (name != "prompt" or len(columns) == 1):
            raise FormatError(f"{name} is empty")
    if "rejected" in row and row["chosen"] == row["rejected"]:
        raise FormatError("chosen and rejected are the same")
    return Shape(columns, kinds.pop())


def canonical_row(row: Row) -> bytes:
    """The bytes that stand for a row: what is hashed, and what is stored, a line each (RFC 8785, no line break).

    Raises:
        FormatError: it holds a number that is no integer, or text that is no Unicode.
    """
    return canonical.dumps(row)


def _is_conversation(name: str, value: Json) -> bool:
    if isinstance(value, str):
        if name == "messages":
            raise FormatError("messages is text, not a list of messages")
        return False
    if not isinstance(value, list):
        raise FormatError(f"{name} is neither text nor a list of messages")
    if name == "text":
        raise FormatError("text is a list, not text")
    if not 0 < len(value) <= MESSAGES_MAX:
        raise FormatError(f"{name} has {len(value)} messages: 1 to {MESSAGES_MAX} are allowed")
    for number, message in enumerate(value, 1):
        _check_message(f"{name}, message {number}", message)
    return True


def _is_empty(value: Json) -> bool:
    """Whether there is nothing in a text, or in any message of a conversation. Both were checked to be that."""
    if isinstance(value, list):
        return all(_is_empty(message["content"]) for message in value if isinstance(message, dict))
    return not str(value).strip()


def _check_message(where: str, message: Json) -> None:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        raise FormatError(f"{where}: a message has role and content, and nothing else")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise FormatError(f"{where}: the role is one of {', '.join(ROLES)}, not {str(role)[:40]!r}")
    if not isinstance(content, str):
        raise FormatError(f"{where}: the content is not text")
