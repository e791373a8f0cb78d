"""The views of LoRARegistry: adapters, merges, and whose adapters a model takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from citrate.core.adapters import Acceptance, Lora, LoraRecord, MergeRecord, Parent, Training
from citrate.core.errors import ChainError, FormatError
from citrate.core.records import NAME_PATTERN, VERSION_PATTERN
from citrate.registry import cid
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.ids import checksum
from citrate.registry.packing import LICENCE_PATTERN
from citrate.registry.standing import hash_at, known
from citrate.registry.views import NOWHERE, PAGE, Head, Page, View, checked

T = TypeVar("T")

LORA, MERGE = "lora", "merge"
_KINDS = ("", LORA, MERGE)
_MODULES = re.compile(r"[ -~]{1,600}")
"""Any printable ASCII, as the contract takes it: for being compared and shown, never a path."""


@dataclass(frozen=True)
class LoraItem:
    """One record of LoRARegistry: a LoRA, or a merge (then without a name)."""

    record: str
    """The account that holds it."""
    kind: str
    """``lora`` or ``merge``."""
    id: str
    """The LoRA's id, or that of the version that resulted from a merge."""
    base: str
    creator: str
    name: str
    version: str
    created_at: int
    """Unix seconds of its block."""


@dataclass(frozen=True)
class Counts:
    """How many LoRAs of a creator were accepted: today (UTC), and ever, which is the nonce of a signed request."""

    today: int
    ever: int


def get_lora(lora_id: str, block_number: int) -> View[LoraRecord]:
    """A LoRA, with the whole of its training; its standing is another view."""
    return _view(lambda frame: _lora_record(lora_id, frame.frame(0), block_number), "getLoRA(bytes32)", lora_id)


def get_merge(result: str) -> View[MergeRecord]:
    """From what a version was merged."""
    return _view(lambda frame: _merge_record(result, frame.frame(0)), "getMerge(bytes32)", result)


def base_of(version_or_lora_id: str) -> View[str]:
    """The version a LoRA was trained on, or the base of a merge's parents; the zero word for every other id."""
    return _view(lambda frame: frame.word(0), "baseOf(bytes32)", version_or_lora_id)


def creator_of(lora_id: str) -> View[str]:
    """Who answers for a LoRA; empty if there is none."""
    return _view(
        lambda frame: "" if frame.address(0) == NOWHERE else checksum(frame.address(0)), "creatorOf(bytes32)", lora_id
    )


def counts_of(creator: str) -> View[Counts]:
    """How many LoRAs of a creator were accepted."""
    return _view(lambda frame: Counts(frame.number(0), frame.number(1)), "countsOf(address)", creator)


def acceptance_of(model_id: str) -> View[Acceptance]:
    """Whose LoRAs a model takes."""
    return _view(_acceptance, "acceptanceOf(bytes32)", model_id)


def accepts(model_id: str, creator: str) -> View[bool]:
    """Whether a model takes a creator's LoRAs now."""
    return _view(lambda frame: frame.flag(0), "accepts(bytes32,address)", model_id, creator)


def lora_head() -> View[Head]:
    """The newest record and how many there are."""
    return _view(lambda frame: Head(frame.address(0), frame.number(1)), "head()")


def lora_records(cursor: str) -> View[Page[LoraItem]]:
    """A page of all records, newest first."""
    return _view(
        lambda frame: Page(tuple(_item(row) for row in frame.frames(0)), frame.address(1)),
        "records(address,uint256)",
        cursor,
        PAGE,
    )


def _acceptance(frame: Frame) -> Acceptance:
    return known(list(Acceptance), frame.number(0), "acceptance")


def _lora_record(lora_id: str, row: Frame, block_number: int) -> LoraRecord:
    where = row.text(6)
    try:
        cid.decode(where)
    except FormatError as error:
        raise ChainError(f"the node answered {where[:80]!r} for a CID", hint="check rpc_url") from error
    lora = Lora(
        name=checked(NAME_PATTERN, row.text(1)),
        version=checked(VERSION_PATTERN, row.text(2)),
        licence=checked(LICENCE_PATTERN, row.text(3)),
        base=row.word(4),
        base_sha256=row.word(5)[2:],
        cid=where,
        sha256=row.word(7)[2:],
        size_bytes=row.number(8),
        rank=row.number(9),
        alpha_thousandths=row.number(10),
        target_modules=tuple(checked(_MODULES, row.text(11)).split(",")),
        steps=row.number(12),
        training=Training(hash_at(row, 13), hash_at(row, 14), hash_at(row, 15), row.number(16), row.flag(17)),
    )
    return LoraRecord(lora_id, checksum(row.address(0)), lora, row.number(18), row.address(19), block_number)


def _merge_record(result: str, row: Frame) -> MergeRecord:
    if row.word(1) != result:
        raise ChainError(f"the node answered another merge than {result}", hint="check rpc_url")
    parents = tuple(Parent(parent.word(0), parent.number(1)) for parent in row.rows(3, 2))
    return MergeRecord(result, row.word(2), checksum(row.address(0)), parents, row.number(4), row.address(5))


def _item(row: Frame) -> LoraItem:
    kind = known(list(_KINDS), row.number(1), "kind of record")
    name, version = row.text(5), row.text(6)
    if kind == LORA:
        checked(NAME_PATTERN, name), checked(VERSION_PATTERN, version)
    elif kind != MERGE or name or version:
        raise ChainError("the node answered a record that the registry cannot hold", hint="check rpc_url")
    return LoraItem(
        record=row.address(0),
        kind=kind,
        id=row.word(2),
        base=row.word(3),
        creator=checksum(row.address(4)),
        name=name,
        version=version,
        created_at=row.number(7),
    )


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(LORA_REGISTRY, encode_call(signature, *arguments), decode)
