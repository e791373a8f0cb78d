"""What the contracts' logs say, typed: every change that is no record of a record chain.

Each class states its event's signature; its fields stand in the order of the event's arguments, the indexed ones first
(they come as topics, the others as data). A test holds this table against the ABIs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import ClassVar, TypeAlias

from citrate.core.adapters import Acceptance, Grade
from citrate.core.errors import ChainError
from citrate.registry.abi_codec import Frame
from citrate.registry.artifacts import (
    LORA_REGISTRY,
    MODEL_ACCESS,
    MODEL_REGISTRY,
    MODERATION,
    POLICY,
    TRAINING_LEDGER,
)
from citrate.registry.cases import Outcome
from citrate.registry.ids import checksum, keccak
from citrate.registry.standing import known

RECORD_EVENTS = (
    "Published(bytes32,bytes32,address)",
    "VariantsAdded(bytes32,bytes32,address)",
    "LoRARegistered(bytes32,bytes32,address,address)",
    "LoRAMerged(bytes32,bytes32,address,address)",
)
"""Logs of records, which are chains of their own and not folded into a root."""


@dataclass(frozen=True)
class Event:
    """The root of all events; ``SIGNATURE`` names it, ``INDEXED`` says how many of its arguments are topics."""

    SIGNATURE: ClassVar[str]
    INDEXED: ClassVar[int]


@dataclass(frozen=True)
class AliasSet(Event):
    """An alias was set or moved."""

    SIGNATURE = "AliasSet(bytes32,bytes32,string,uint256,uint256)"
    INDEXED = 2
    model_id: str
    version_id: str
    alias: str
    previous_block: int
    changes: int


@dataclass(frozen=True)
class Deprecated(Event):
    """A version was deprecated, or its replacement changed (the zero word: none)."""

    SIGNATURE = "Deprecated(bytes32,bytes32,bytes32)"
    INDEXED = 2
    model_id: str
    version_id: str
    replacement: str


@dataclass(frozen=True)
class TransferStarted(Event):
    """A model was offered; to the zero address: the offer was withdrawn."""

    SIGNATURE = "TransferStarted(bytes32,address,address)"
    INDEXED = 3
    model_id: str
    from_: str
    to: str


@dataclass(frozen=True)
class Transferred(Event):
    """A model has a new owner."""

    SIGNATURE = "Transferred(bytes32,address)"
    INDEXED = 2
    model_id: str
    to: str


@dataclass(frozen=True)
class AcceptanceSet(Event):
    """A model takes other people's LoRAs, those of a list, or none."""

    SIGNATURE = "AcceptanceSet(bytes32,uint8)"
    INDEXED = 1
    model_id: str
    acceptance: Acceptance = field(metadata={"words": list(Acceptance)})


@dataclass(frozen=True)
class CreatorAllowed(Event):
    """A creator was put on a model's list, or taken off it."""

    SIGNATURE = "CreatorAllowed(bytes32,address,bool)"
    INDEXED = 2
    model_id: str
    creator: str
    allowed: bool


@dataclass(frozen=True)
class RunAnnounced(Event):
    """A training run is about to start."""

    SIGNATURE = "RunAnnounced(uint256,address,bytes32,bytes32,bytes32)"
    INDEXED = 2
    run_id: int
    trainer: str
    recipe: str
    dataset: str
    base: str


@dataclass(frozen=True)
class RunCommitted(Event):
    """A training run has ended."""

    SIGNATURE = "RunCommitted(uint256,bytes32,bytes32,uint256)"
    INDEXED = 1
    run_id: int
    proof_root: str
    adapter: str
    target_block: int


@dataclass(frozen=True)
class RunChallenged(Event):
    """The seed of a run is known."""

    SIGNATURE = "RunChallenged(uint256,bytes32)"
    INDEXED = 1
    run_id: int
    seed: str


@dataclass(frozen=True)
class ChallengeMissed(Event):
    """The hash of a run's target block was gone: another block was named."""

    SIGNATURE = "ChallengeMissed(uint256,uint256)"
    INDEXED = 1
    run_id: int
    target_block: int


@dataclass(frozen=True)
class RunAttested(Event):
    """A verifier says what the replay of a run came to."""

    SIGNATURE = "RunAttested(uint256,address,uint8,uint256,bytes32)"
    INDEXED = 2
    run_id: int
    verifier: str
    grade: Grade = field(metadata={"words": ["none", *Grade]})
    segments: int
    report: str


@dataclass(frozen=True)
class PriceSet(Event):
    """The owner of a model or version asks another price."""

    SIGNATURE = "PriceSet(bytes32,uint256)"
    INDEXED = 1
    id: str
    price_wei: int


@dataclass(frozen=True)
class AccessGranted(Event):
    """An account has access from now on: bought, or given (price 0)."""

    SIGNATURE = "AccessGranted(bytes32,address,address,uint256,uint256,address)"
    INDEXED = 3
    id: str
    account: str
    payer: str
    price_wei: int
    fee_wei: int
    seller: str


@dataclass(frozen=True)
class Withdrawn(Event):
    """Credit was paid out."""

    SIGNATURE = "Withdrawn(address,address,uint256)"
    INDEXED = 2
    account: str
    to: str
    amount_wei: int


@dataclass(frozen=True)
class Staked(Event):
    """An account staked."""

    SIGNATURE = "Staked(address,uint256)"
    INDEXED = 1
    account: str
    amount_wei: int


@dataclass(frozen=True)
class Unstaked(Event):
    """An account took stake back."""

    SIGNATURE = "Unstaked(address,uint256)"
    INDEXED = 1
    account: str
    amount_wei: int


@dataclass(frozen=True)
class Reported(Event):
    """A case was opened; the evidence is a CID by its codec and digest."""

    SIGNATURE = "Reported(uint256,bytes32,address,uint256,uint256,uint8,bytes32)"
    INDEXED = 3
    case_id: int
    subject: str
    reporter: str
    bond_wei: int
    deadline: int
    evidence_codec: int
    evidence_digest: str


@dataclass(frozen=True)
class Voted(Event):
    """An account voted in a case."""

    SIGNATURE = "Voted(uint256,address,bool,uint256)"
    INDEXED = 2
    case_id: int
    voter: str
    for_removal: bool
    weight_wei: int


@dataclass(frozen=True)
class Closed(Event):
    """A case was paid out."""

    SIGNATURE = "Closed(uint256,bytes32,uint8,address)"
    INDEXED = 2
    case_id: int
    subject: str
    outcome: Outcome = field(metadata={"words": list(Outcome)})
    beneficiary: str


@dataclass(frozen=True)
class ModerationAppointed(Event):
    """Another contract moderates from now on."""

    SIGNATURE = "ModerationAppointed(address)"
    INDEXED = 1
    moderation: str


@dataclass(frozen=True)
class FeeSet(Event):
    """Sales from now on pay another fee."""

    SIGNATURE = "FeeSet(address,uint256)"
    INDEXED = 1
    recipient: str
    basis_points: int


@dataclass(frozen=True)
class Unknown(Event):
    """A log that this release has no name for, of a contract newer than it."""

    SIGNATURE = ""
    INDEXED = 0
    topics: tuple[str, ...]
    data: str


LOGGED: Mapping[str, tuple[type[Event], ...]] = {
    MODEL_REGISTRY: (AliasSet, Deprecated, TransferStarted, Transferred),
    LORA_REGISTRY: (AcceptanceSet, CreatorAllowed),
    TRAINING_LEDGER: (RunAnnounced, RunCommitted, RunChallenged, ChallengeMissed, RunAttested),
    MODEL_ACCESS: (PriceSet, AccessGranted, Withdrawn),
    MODERATION: (Staked, Unstaked, Reported, Voted, Closed, Withdrawn),
    POLICY: (ModerationAppointed, FeeSet),
}
"""The contracts that keep a root of their changes, and the events each one folds into it."""

_Value: TypeAlias = str | int | bool | StrEnum

RECORD_TOPICS = frozenset("0x" + keccak(signature.encode()).hex() for signature in RECORD_EVENTS)
_BY_TOPIC = {
    "0x" + keccak(event.SIGNATURE.encode()).hex(): event
    for events in LOGGED.values()
    for event in dict.fromkeys(events)
}


def decode(topics: Sequence[str], data: bytes) -> Event:
    """The event of a log; ``Unknown`` for one that this release has no name for.

    Raises:
        ChainError: a known one whose arguments cannot be read.
    """
    event = _BY_TOPIC.get(topics[0])
    if event is None:
        return Unknown(tuple(topics), "0x" + data.hex())
    if len(topics) != event.INDEXED + 1:
        raise ChainError(f"the node answered a {event.__name__} that is none", hint="check rpc_url")
    types = event.SIGNATURE[event.SIGNATURE.index("(") + 1 : -1].split(",")
    words = Frame(b"".join(bytes.fromhex(topic[2:]) for topic in topics[1:]))
    rest = Frame(data)
    values: list[_Value] = []
    for place, (kind, each) in enumerate(zip(types, fields(event), strict=True)):
        frame, at = (words, place) if place < event.INDEXED else (rest, place - event.INDEXED)
        values.append(_value(frame, at, kind, each.metadata.get("words"), each.name))
    return event(*values)


def _value(frame: Frame, at: int, kind: str, words: list[StrEnum] | None, name: str) -> _Value:
    if words is not None:
        return known(words, frame.number(at), name)
    if kind == "string":
        return frame.text(at)
    if kind == "address":
        return checksum(frame.address(at))
    if kind == "bool":
        return frame.flag(at)
    return frame.word(at) if kind == "bytes32" else frame.number(at)
