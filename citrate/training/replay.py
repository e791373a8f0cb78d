"""Do a segment of somebody's training run again, and say how well it agrees.

Runs in a process of its own, as the run did, with no more than the record, the dataset and the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.formats.adapter import WEIGHTS
from citrate.training import checkpoint, committing, trainers
from citrate.training.commitment import Leaf
from citrate.training.determinism import profile
from citrate.training.proof import Record
from citrate.training.run import LOG, Step, environment, steps_told
from citrate.training.trainers import Inputs

if TYPE_CHECKING:
    import torch

NUMERIC_TOLERANCE = 1e-4
"""The largest error of a segment's end, in units of the segment's own update, that counts as another machine's
rounding. Measured earlier: 5e-7 between instruction sets, 1e-2 and more for any changed recipe (docs/training.md)."""


@dataclass(frozen=True)
class Replayed:
    """One segment, done again.

    Attributes:
        first_step: the first step that was replayed, from 1.
        last_step: the last.
        ok: whether it agrees: exactly, or within tolerance where the machines or the packages differ.
        exact: whether every hash of every step is equal.
        differs: ``step N: weights, optimizer`` for the first step that is not equal; empty if none.
        error: L2 distance of the weights at its end from those claimed, in units of the segment's update.
    """

    first_step: int
    last_step: int
    ok: bool
    exact: bool
    differs: str
    error: float


def replay(record: Record, number: int, inputs: Inputs, adapter: Path, work: Path) -> Replayed:
    """Do a segment again.

    Args:
        record: the run's proof; its ``check`` has passed.
        number: which segment, from 0.
        inputs: the run's base, dataset and reward model, verified.
        adapter: the run's outcome: what the last segment must end at.
        work: an empty folder that may be written to.

    Raises:
        TrainingError: the segment cannot be done here.
    """
    before, last = record.segment(number)
    kind = committing.committing(trainers.trainer_of(record.bound.recipe.method))
    trainer: Any = trainers.build(record.bound.recipe, inputs, work, kind)
    found: dict[int, Leaf] = {}
    lines: dict[int, bytes] = {}

    def after(told: committing.Told) -> None:
        found[told.leaf.step] = told.leaf
        lines[told.leaf.step] = Step.of(told, 0).to_line()

    committing.watching(trainer, after, stop_after=last)
    began: Mapping[str, torch.Tensor] = committing.copied_weights(trainer)
    with steps_told():
        trainer.train(resume_from_checkpoint=str(record.checkpoint(before)) if before else None)
    if before:
        began = checkpoint.load(record.checkpoint(before), checkpoint.WEIGHTS)
    claimed = (
        checkpoint.load(adapter, WEIGHTS)
        if last == record.proof.steps
        else checkpoint.load(record.checkpoint(last), checkpoint.WEIGHTS)
    )
    error = _distance(claimed, committing.weights_of(trainer), began)
    differs = _difference(record.leaves[before:last], found) or _other_line(record, lines)
    same_data = all(
        step in found and found[step].batch == record.leaves[step - 1].batch for step in range(before + 1, last + 1)
    )
    may_round = not _same_environment(record)
    ok = not differs or (may_round and same_data and error <= NUMERIC_TOLERANCE)
    return Replayed(before + 1, last, ok, not differs, differs, error)


def _same_environment(record: Record) -> bool:
    """Whether every bit must be equal here: an exact profile, the same instruction set and the same packages."""
    claimed, mine = record.proof.environment, environment(record.bound.recipe)
    alike = (claimed.machine, claimed.instructions, claimed.packages) == (
        mine.machine,
        mine.instructions,
        mine.packages,
    )
    return alike and profile(mine.profile).exact


def _difference(claimed: tuple[Leaf, ...], found: dict[int, Leaf]) -> str:
    for leaf in claimed:
        mine = found.get(leaf.step)
        if mine is None:
            return f"step {leaf.step}: was not reached"
        parts = [
            part for part in ("batch", "weights", "optimizer", "rng") if getattr(leaf, part) != getattr(mine, part)
        ]
        if parts:
            return f"step {leaf.step}: {', '.join(parts)}"
    return ""


def _other_line(record: Record, found: Mapping[int, bytes]) -> str:
    """The log is told, not committed to: where every hash is equal, what it tells of those steps is, too."""
    claimed = (record.folder / LOG).read_bytes().splitlines(keepends=True)
    wrong = (step for step in sorted(found) if claimed[step - 1 : step] != [found[step]])
    return next((f"step {step}: log" for step in wrong), "")


def _distance(
    claimed: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], began: Mapping[str, torch.Tensor]
) -> float:
    """How far two ends are from each other, in units of how far the claimed one is from the beginning."""
    if set(claimed) != set(found) or set(claimed) != set(began):
        return float("inf")
    off = sum(float((claimed[name].double() - found[name].double()).pow(2).sum()) for name in claimed)
    way = sum(float((claimed[name].double() - began[name].double()).pow(2).sum()) for name in claimed)
    if off == 0:
        return 0.0
    return float("inf") if way == 0 else float((off / way) ** 0.5)
