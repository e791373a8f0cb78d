"""Views: how a contract is asked, and what its answer becomes; and those of ModelRegistry.

A ``View`` is a contract's name, a call and its decoder. Texts that an answer holds are checked against the registry's
own rules before anybody uses them as a path or prints them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from citrate.core.errors import ChainError, FormatError
from citrate.core.records import NAME_PATTERN, VERSION_PATTERN, Format, Variant, VariantRecord
from citrate.registry import cid
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import MODEL_REGISTRY
from citrate.registry.ids import checksum
from citrate.registry.packing import LICENCE_PATTERN

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PAGE = 500
"""The longest page that the contract gives."""
NOWHERE = "0x" + "0" * 40
_NO_VERSION = "0x" + "0" * 64
_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,14})?")

FIRST_RELEASE, RELEASE, ADDITION = "first_release", "release", "addition"
_KINDS = ("", FIRST_RELEASE, RELEASE, ADDITION)


@dataclass(frozen=True)
class View(Generic[T_co]):
    """One call of a contract, and what turns its answer into a value."""

    contract: str
    """The contract's name; where it is, the chain's connection knows."""
    data: bytes
    decode: Callable[[Frame], T_co]


@dataclass(frozen=True)
class VersionRow:
    """A version without its variants, as ``getVersion`` gives it."""

    model_id: str
    publisher: str
    owner: str
    name: str
    version: str
    licence: str
    price_wei: int
    created_at: int
    deprecated: bool
    replacement: str
    record: str
    manifests: tuple[str, ...]
    senders: tuple[str, ...]

    @property
    def ref(self) -> str:
        """The full reference, ``publisher/name@version``."""
        return f"{self.publisher}/{self.name}@{self.version}"


@dataclass(frozen=True)
class RecordItem:
    """One record of the registry: a release, or variants added to one."""

    record: str
    """The account that holds it."""
    kind: str
    """``first_release`` (of its model), ``release`` or ``addition``."""
    model_id: str
    version_id: str
    publisher: str
    name: str
    version: str
    created_at: int
    """Unix seconds of its block."""
    deprecated: bool
    """Whether the version is deprecated now."""


@dataclass(frozen=True)
class AliasTarget:
    """Where an alias points, and where its history ends."""

    alias: str
    version_id: str
    version: str
    changed_at_block: int
    changes: int


@dataclass(frozen=True)
class Head:
    """The newest record of the registry and how many there are."""

    record: str
    count: int


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some records, newest first, and the cursor of the next page; ``NOWHERE`` at the end."""

    items: tuple[T, ...]
    next: str


def resolve(publisher: str, name: str, alias_or_version: str) -> View[str]:
    """The version id behind a version's name, an alias or ``latest``."""
    return _view(lambda frame: frame.word(0), "resolve(address,string,string)", publisher, name, alias_or_version)


def get_version(version_id: str) -> View[VersionRow]:
    """A version, all of it but its variants."""
    return _view(lambda frame: _version_row(frame.frame(0)), "getVersion(bytes32)", version_id)


def get_variants(version_id: str) -> View[tuple[VariantRecord, ...]]:
    """Every variant of a version."""
    return _view(lambda frame: tuple(_variant(row) for row in frame.frames(0)), "getVariants(bytes32)", version_id)


def alias_of(model_id: str, alias: str) -> View[AliasTarget]:
    """Where an alias points."""
    return _view(
        lambda frame: AliasTarget(
            alias, frame.word(0), checked(VERSION_PATTERN, frame.text(1)), frame.number(2), frame.number(3)
        ),
        "aliasOf(bytes32,string)",
        model_id,
        alias,
    )


def owner_of(model_id: str) -> View[str]:
    """Who may write to a model."""
    return _view(lambda frame: checksum(frame.address(0)), "ownerOf(bytes32)", model_id)


def pending_owner_of(model_id: str) -> View[str]:
    """To whom a model is offered; empty if to nobody."""
    return _view(
        lambda frame: "" if frame.address(0) == NOWHERE else checksum(frame.address(0)),
        "pendingOwnerOf(bytes32)",
        model_id,
    )


def nonce_of(model_id: str) -> View[int]:
    """How many versions a model has."""
    return _view(lambda frame: frame.number(0), "nonceOf(bytes32)", model_id)


def head() -> View[Head]:
    """The newest record and how many there are."""
    return _view(lambda frame: Head(frame.address(0), frame.number(1)), "head()")


def records(cursor: str) -> View[Page[RecordItem]]:
    """A page of all records, newest first."""
    return _view(_page, "records(address,uint256)", cursor, PAGE)


def versions(model_id: str, cursor: str) -> View[Page[RecordItem]]:
    """A page of a model's releases, newest first."""
    return _view(_page, "versions(bytes32,address,uint256)", model_id, cursor, PAGE)


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(MODEL_REGISTRY, encode_call(signature, *arguments), decode)


def checked(pattern: re.Pattern[str], text: str) -> str:
    """``text``, if the registry could hold it.

    Raises:
        ChainError: it could not.
    """
    if not pattern.fullmatch(text):
        raise ChainError(f"the node answered {text[:80]!r}, which the registry cannot hold", hint="check rpc_url")
    return text


def _version_row(row: Frame) -> VersionRow:
    replacement = row.word(9)
    manifests, senders = row.words(11), row.addresses(12)
    if len(manifests) != len(senders) or not manifests:
        raise ChainError("the node answered a version without its manifests", hint="check rpc_url")
    return VersionRow(
        model_id=row.word(0),
        publisher=checksum(row.address(1)),
        owner=checksum(row.address(2)),
        name=checked(NAME_PATTERN, row.text(3)),
        version=checked(VERSION_PATTERN, row.text(4)),
        licence=checked(LICENCE_PATTERN, row.text(5)),
        price_wei=row.number(6),
        created_at=row.number(7),
        deprecated=row.flag(8),
        replacement="" if replacement == _NO_VERSION else replacement,
        record=row.address(10),
        manifests=tuple(manifest[2:] for manifest in manifests),
        senders=tuple(checksum(sender) for sender in senders),
    )


def _variant(row: Frame) -> VariantRecord:
    name = row.text(0)
    if name not in list(Format):
        raise ChainError(f"the registry holds a variant of the format {name[:40]!r}", hint="update citrate")
    variant = Variant(Format(name), checked(_LABEL, row.text(1)), checked(_LABEL, row.text(2)))
    where = row.text(3)
    try:
        cid.decode(where)
    except FormatError as error:
        raise ChainError(f"the node answered {where[:80]!r} for a CID", hint="check rpc_url") from error
    return VariantRecord(variant, where, row.word(4)[2:], row.number(5))


def _page(frame: Frame) -> Page[RecordItem]:
    return Page(tuple(_item(row) for row in frame.frames(0)), frame.address(1))


def _item(row: Frame) -> RecordItem:
    kind = row.number(1)
    if not 0 < kind < len(_KINDS):
        raise ChainError(f"the registry holds a record of the kind {kind}", hint="update citrate")
    return RecordItem(
        record=row.address(0),
        kind=_KINDS[kind],
        model_id=row.word(2),
        version_id=row.word(3),
        publisher=checksum(row.address(4)),
        name=checked(NAME_PATTERN, row.text(5)),
        version=checked(VERSION_PATTERN, row.text(6)),
        created_at=row.number(7),
        deprecated=row.flag(8),
    )
