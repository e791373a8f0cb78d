"""merge.json: from what a model was merged, and how. It is published with the model, so that anybody can merge again.

Ids and references stand there for parents that are registered; the SHA-256 names every parent's content. Numbers are
decimals in text, and there is no time, host or path in it: the same merge gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.core.records import SHA256_PATTERN
from citrate.formats.documents import encoded, pretty, read_optional
from citrate.formats.merging import How, Method

FILE = "merge.json"
_SCHEMA = "citrate.merge/1"
_ID = re.compile(r"0x[0-9a-f]{64}")
_WEIGHT = re.compile(r"-?\d{1,9}(\.\d{1,18})?")
_PARENTS_MAX = 64


@dataclass(frozen=True)
class Parent:
    """What went into a merge."""

    kind: str
    """``base``, ``adapter`` or ``model``."""
    sha256: str
    """Of its content, as the registry tells it or would."""
    weight: str = ""
    """A decimal; empty for the base."""
    id: str = ""
    """Version id or LoRA id; empty where it was a folder."""
    ref: str = ""
    """The full reference, likewise."""

    def document(self) -> dict[str, Json]:
        """As it stands in merge.json."""
        told = {"kind": self.kind, "sha256": self.sha256, "weight": self.weight, "id": self.id, "ref": self.ref}
        return {key: value for key, value in told.items() if value}


@dataclass(frozen=True)
class MergeRecord:
    """A merge: the method with the settings that it used, and the parents, the base first."""

    method: str
    settings: Mapping[str, str]
    parents: tuple[Parent, ...]

    def encode(self) -> bytes:
        """The file's bytes."""
        parents: list[Json] = [parent.document() for parent in self.parents]
        return pretty({"schema": _SCHEMA, "method": self.method, "settings": dict(self.settings), "parents": parents})


def settings_of(how: How) -> Mapping[str, str]:
    """The settings that a method used."""
    used = {Method.SVD: ("rank",), Method.TIES: ("density",), Method.DARE: ("density", "seed")}
    return {key: f"{getattr(how, key):.12g}" for key in used.get(how.method, ())}


def read(root: Path) -> MergeRecord | None:
    """The record in a model directory; None where there is none.

    Raises:
        FormatError: it is malformed.
    """
    document = read_optional(root, FILE)
    if document is None:
        return None
    method, settings, parents = document.get("method"), document.get("settings"), document.get("parents")
    if document.get("schema") != _SCHEMA or set(document) != {"schema", "method", "settings", "parents"}:
        raise _malformed(f"is not {_SCHEMA}")
    if method not in list(Method) or not isinstance(settings, dict):
        raise _malformed("names no method that is known")
    if not all(isinstance(value, str) and len(value) <= 64 for value in settings.values()):
        raise _malformed("has settings that are no text")
    if not isinstance(parents, list) or not 1 <= len(parents) <= _PARENTS_MAX:
        raise _malformed("has no parents")
    texts = {key: str(value) for key, value in settings.items()}
    return MergeRecord(str(method), texts, tuple(map(_parent, parents)))


def card(licence: str, record: MergeRecord) -> bytes:
    """README.md of a merged model: its licence, and what it was made of."""
    lines = [f"- {parent.kind}: {parent.ref or parent.sha256}{_times(parent)}" for parent in record.parents]
    settings = "".join(f", {key} {value}" for key, value in record.settings.items())
    front = f"---\nlicense: {licence.lower() if not licence.startswith('LicenseRef-') else licence}\n---\n"
    text = f"# Merged\n\nBy `citrate merge`, method {record.method}{settings}, of\n\n"
    return encoded((front if licence else "") + text + "\n".join(lines) + f"\n\n{FILE} tells it for machines.\n")


def _times(parent: Parent) -> str:
    return f", weight {parent.weight}" if parent.weight else ""


def _parent(entry: Json) -> Parent:
    if not isinstance(entry, dict) or not set(entry) <= {"kind", "sha256", "weight", "id", "ref"}:
        raise _malformed("has a parent with unknown fields")
    fields = {key: value for key, value in entry.items() if isinstance(value, str) and len(value) <= 256}
    parent = Parent(**{"kind": "", "sha256": "", **fields})
    right = SHA256_PATTERN.fullmatch(parent.sha256) and (not parent.id or _ID.fullmatch(parent.id))
    if len(fields) != len(entry) or not right or parent.kind not in ("base", "adapter", "model"):
        raise _malformed("has a parent that is none")
    if parent.weight and not _WEIGHT.fullmatch(parent.weight):
        raise _malformed("has a weight that is no number")
    return parent


def _malformed(why: str) -> FormatError:
    return FormatError(f"{FILE} {why}", hint=f"merge again, or leave {FILE} out of the folder")


def lineage(record: MergeRecord) -> Sequence[tuple[str, str]]:
    """The registered parents: id, and how each went into the merge."""
    return [(p.id, f"merge {record.method} {p.kind} {p.weight}".strip()) for p in record.parents if p.id]
