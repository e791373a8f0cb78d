"""The nouns of adapters and of their training, as frozen dataclasses; conventions as in `citrate.core.records`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from citrate.core.records import Format, Status, Variant, VariantRecord

ADAPTER_MAX_BYTES = 500_000_000
RANK_MAX = 4096
PARENTS_MAX = 8
SAFETENSORS = Variant(Format.SAFETENSORS)
"""What an adapter's bytes are, where a variant has to be told."""
WHOLE_BASIS_POINTS = 10_000
"""What the weights of a merge add up to."""


class Acceptance(StrEnum):
    """Whose LoRAs a model takes; its number on chain is its place here."""

    OPEN = "open"
    ALLOW_LIST = "allow-list"
    CLOSED = "closed"


class Grade(StrEnum):
    """How well a replay of a training run agreed; its number on chain is its place here, counted from 1."""

    EXACT = "exact"
    """Every leaf is equal."""
    NUMERIC = "numeric"
    """Other hardware, within tolerance."""
    FUNCTIONAL = "functional"
    """The same behaviour on a committed set of prompts."""
    ATTESTED = "attested"
    """Nothing was replayed."""


@dataclass(frozen=True)
class Training:
    """How an adapter was trained: told by its creator, or by a run of the training ledger. Empty is not told."""

    dataset: str = ""
    """Merkle root over the dataset's canonical rows."""
    recipe: str = ""
    """SHA-256 of the recipe's canonical JSON."""
    proof_root: str = ""
    """Merkle root over the leaves of the training steps; empty if no proof was made."""
    run_id: int = 0
    """The run of the ledger that says so; 0 is none."""
    confirmed: bool = False
    """Whether the ledger's run is committed, by this creator, on this base and with this adapter as its outcome."""


@dataclass(frozen=True)
class Lora:
    """What a creator says of an adapter; ``base_sha256`` is the content digest of the base version."""

    name: str
    version: str
    licence: str
    base: str
    """Version id."""
    base_sha256: str
    """Load the adapter on no other bytes."""
    cid: str
    sha256: str
    size_bytes: int
    rank: int
    alpha_thousandths: int
    target_modules: tuple[str, ...]
    steps: int
    """Training steps; 0 is not told."""
    training: Training

    @property
    def alpha(self) -> float:
        """The scale's numerator: an adapter is added at ``alpha / rank``."""
        return self.alpha_thousandths / 1000


@dataclass(frozen=True)
class LoraRecord:
    """An adapter as it stands on chain at ``block_number``."""

    lora_id: str
    creator: str
    lora: Lora
    created_at: int
    """Unix seconds of the block."""
    record: str
    """The account that holds it."""
    block_number: int
    status: Status | None = None
    """As moderation sees it, the worse of its own and its base's; None where nobody moderates."""

    @property
    def ref(self) -> str:
        """The full reference, ``creator/name@version``."""
        return f"{self.creator}/{self.lora.name}@{self.lora.version}"

    @property
    def variant(self) -> VariantRecord:
        """The adapter's bytes, as those of a version's variant are told."""
        return VariantRecord(SAFETENSORS, self.lora.cid, self.lora.sha256, self.lora.size_bytes)

    @property
    def quarantined(self) -> bool | None:
        """Whether it is quarantined or removed; None where nobody moderates."""
        return None if self.status is None else self.status.is_quarantined


@dataclass(frozen=True)
class Applied:
    """An adapter as a runtime takes it, beside the model that it is put on."""

    path: Path
    """A GGUF file for llama.cpp, PEFT's or mlx-lm's folder for the others; verified."""
    scale: float = 1.0
    """By how much of what it was trained for it is added."""


@dataclass(frozen=True)
class Parent:
    """An adapter that went into a merge, and with what weight."""

    lora_id: str
    basis_points: int


@dataclass(frozen=True)
class MergeRecord:
    """From what a version was merged, as its owner recorded it."""

    result: str
    """Version id."""
    base: str
    """Version id: what all parents were trained on."""
    creator: str
    """Who owned the resulting version's model when it was recorded."""
    parents: tuple[Parent, ...]
    created_at: int
    record: str


@dataclass(frozen=True)
class TrainingRun:
    """A training run in the ledger. What has not happened yet is empty or zero."""

    run_id: int
    trainer: str
    recipe: str
    dataset: str
    base_sha256: str
    proof_root: str
    adapter_sha256: str
    seed: str
    """From which a verifier draws the segments to replay."""
    announced_at: int
    committed_at: int
    target_block: int
    """The block whose hash gives the seed."""
    misses: int
    """How often that hash was gone before anybody drew. More than a few: the trainer may be choosing."""
    attestations: int

    @property
    def state(self) -> str:
        """``announced``, ``committed`` or ``challenged``."""
        if self.seed:
            return "challenged"
        return "committed" if self.committed_at else "announced"


@dataclass(frozen=True)
class Attestation:
    """What one verifier says the replay of a run came to."""

    verifier: str
    grade: Grade
    segments: int
    """How many parts were replayed."""
    attested_at: int
    report_sha256: str
    """Of the verifier's report, which is also its CID (raw)."""
