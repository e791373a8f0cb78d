"""The record of a training run, ``citrate.training-proof/v1``: what it committed to, and where its parts lie.

::

    recipe.json            the bound recipe
    proof.json             this record, canonical JSON
    leaves.jsonl           a leaf a step
    checkpoints/step-.../  the state after every segment but the last, whose outcome is the adapter

The record is public and believed by nobody: ``check`` holds its parts against each other and against what the chain
says, and ``replay`` does segments again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citrate.core import canonical, faults
from citrate.core.errors import FormatError, IntegrityError, NotFoundError
from citrate.formats.documents import read_bounded
from citrate.training import checkpoint, merkle
from citrate.training.commitment import Leaf
from citrate.training.recipe import RECIPE_MAX_BYTES, Bound

RECIPE, PROOF, LEAVES, CHECKPOINTS = "recipe.json", "proof.json", "leaves.jsonl", "checkpoints"
_LEAF_MAX_BYTES = 1024
PROOF_MAX_BYTES = 1 << 20

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Environment(BaseModel):
    """What a run ran on. It is told, not proved; a replay elsewhere says how much it matters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    machine: str
    """Processor architecture."""
    instructions: str
    """The instruction set that torch used."""
    threads: int
    packages: dict[str, str]
    """Name -> version of the libraries that take part in a step; of bitsandbytes where the base is quantised."""


class Proof(BaseModel):
    """A run's commitment. ``root``: the Merkle root (RFC 6962) over its leaves, as the ledger records it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["citrate.training-proof/v1"] = Field(alias="schema")
    recipe_sha256: Digest
    base_sha256: Digest
    dataset_root: Digest
    steps: Annotated[int, Field(gt=0)]
    checkpoint_every: Annotated[int, Field(gt=0)]
    root: Digest
    weights_sha256: Digest
    """Of the adapter's tensors, as the last leaf has it."""
    environment: Environment

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return canonical.dumps(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a proof.

        Raises:
            FormatError: not canonical JSON, or no proof.
        """
        try:
            return cls.model_validate(canonical.loads(data))
        except ValidationError as error:
            raise FormatError(f"not a training proof: {faults.first(error, cls).message}") from error


class Record:
    """A proof's folder, read in bounded pieces."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError where there is no proof, FormatError where it is malformed."""
        self.folder = folder
        if not (folder / PROOF).is_file():
            raise NotFoundError(f"{folder} holds no training proof", hint="citrate train writes one beside the adapter")
        self.proof = Proof.parse(read_bounded(folder / PROOF, PROOF_MAX_BYTES))
        self.bound = Bound.parse(read_bounded(folder / RECIPE, RECIPE_MAX_BYTES))
        self.leaves = tuple(_leaves(folder / LEAVES, self.proof.steps))

    def checkpoint(self, step: int) -> Path:
        """Where the state after a step lies."""
        return checkpoint.folder_of(self.folder / CHECKPOINTS, step)

    def segment(self, number: int) -> tuple[int, int]:
        """The step before a segment, and its last step. Segments count from 0."""
        every, steps = self.proof.checkpoint_every, self.proof.steps
        return number * every, min((number + 1) * every, steps)

    def check(self) -> None:
        """Hold the record's parts against each other: recipe, leaves, root, and every checkpoint's tensors.

        Raises:
            FormatError: a part is missing or malformed.
            IntegrityError: two of them contradict each other; the message names them.
        """
        proof, bound = self.proof, self.bound
        expected = (
            ("the recipe", RECIPE, proof.recipe_sha256, bound.sha256),
            ("the recipe's base", RECIPE, proof.base_sha256, bound.base_sha256),
            ("the recipe's dataset", RECIPE, proof.dataset_root, bound.dataset_root),
            ("the number of steps", RECIPE, str(proof.steps), str(bound.recipe.steps)),
            ("the length of a segment", RECIPE, str(proof.checkpoint_every), str(bound.recipe.checkpoint_every)),
            ("the determinism profile", RECIPE, proof.environment.profile, bound.recipe.determinism),
            ("the root over the steps", LEAVES, proof.root, root_of(self.leaves)),
            ("the last step's weights", LEAVES, proof.weights_sha256, self.leaves[-1].weights),
        )
        for what, path, wanted, found in expected:
            require_equal(f"{what} is not what the proof says", path, wanted, found, hint=checkpoint.DAMAGED)
        for number in range(1, bound.recipe.segments):
            step, _ = self.segment(number)
            checkpoint.check(self.checkpoint(step), self.leaves[step - 1])


def require_equal(message: str, path: str, expected: str, actual: str, hint: str = "") -> None:
    """Raise IntegrityError unless the two are equal."""
    if expected != actual:
        raise IntegrityError(message, path=path, expected=expected, actual=actual, hint=hint)


def root_of(leaves: Iterable[Leaf]) -> str:
    """The Merkle root over the steps."""
    return merkle.root(leaf.to_bytes() for leaf in leaves).hex()


def choose(seed: str, segments: int, wanted: int) -> tuple[int, ...]:
    """Which segments a verifier replays: ``wanted`` of them without repetition, ascending, decided by ``seed`` alone.

    The n-th draw is SHA-256(seed bytes, n as 8 bytes big-endian), read as a number, modulo how many are left.

    Args:
        seed: hex, such as the ledger drew from a later block's hash.
        segments: how many there are.
        wanted: how many to choose; more than there are means all.
    """
    left, chosen = list(range(segments)), []
    for draw in range(min(wanted, segments)):
        number = int.from_bytes(hashlib.sha256(bytes.fromhex(seed) + draw.to_bytes(8, "big")).digest(), "big")
        chosen.append(left.pop(number % len(left)))
    return tuple(sorted(chosen))


def _leaves(path: Path, steps: int) -> Iterator[Leaf]:
    try:
        with path.open("rb") as file:
            for step in range(1, steps + 1):
                line = file.readline(_LEAF_MAX_BYTES)
                try:
                    leaf = Leaf.parse(line.removesuffix(b"\n"))
                except FormatError as error:
                    raise FormatError(f"{LEAVES} has no whole line for step {step}", hint=checkpoint.DAMAGED) from error
                if leaf.step != step:
                    raise FormatError(
                        f"{LEAVES}: step {leaf.step} stands where step {step} should", hint=checkpoint.DAMAGED
                    )
                yield leaf
            if file.read(1):
                raise FormatError(f"{LEAVES} has more than {steps} steps", hint=checkpoint.DAMAGED)
    except OSError as error:
        raise FormatError(f"the proof's {LEAVES} cannot be read: {error.strerror}", hint=checkpoint.DAMAGED) from error
