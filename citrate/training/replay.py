"""Do a segment of somebody's training run again, and say how well it agrees.

Runs in a process of its own, as the run did, with no more than the record, the dataset and the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import IntegrityError
from citrate.formats.adapter import WEIGHTS
from citrate.formats.documents import read_bounded
from citrate.training import checkpoint, functional, stepping
from citrate.training.commitment import Leaf
from citrate.training.determinism import profile
from citrate.training.functional import Ends
from citrate.training.health import HEALTH, HEALTH_MAX_BYTES, Health
from citrate.training.lengths import RowCount
from citrate.training.nearness import LOG_TOLERANCE, NUMERIC_TOLERANCE, logs_apart, optimizers_apart, weights_apart
from citrate.training.proof import Record
from citrate.training.run import LOG, Step, environment, steps_told
from citrate.training.stepping import Inputs, Told

if TYPE_CHECKING:
    from citrate.training.functional import Weights

_SAID_MAX = 500
"""Characters that are repeated of what a run says of its machine: any text may stand there."""


@dataclass(frozen=True)
class Replayed:
    """One segment, done again.

    Attributes:
        first_step: the first step that was replayed, from 1.
        last_step: the last.
        ok: whether it agrees: exactly, or within tolerance or in its behaviour where machines or packages differ.
        exact: whether every hash of every step is equal.
        differs: ``step N: weights, optimizer`` for the first step that is not equal; empty if none.
        error: L2 distance of the weights at its end from those claimed, in units of the segment's update.
        kl: where behaviour was compared, how far it ends from what is claimed, in nats a token; see ``functional``.
        effect: how far the claimed segment went, likewise.
        elsewhere: why equal bits are not asked for where it is not exact: what the run says of its machine that is not
            so here. Empty where they are.
    """

    first_step: int
    last_step: int
    ok: bool
    exact: bool
    differs: str
    error: float
    kl: float | None = None
    effect: float | None = None
    elsewhere: str = ""


def replay(record: Record, number: int, inputs: Inputs, adapter: Path, work: Path) -> Replayed:
    """Do a segment again.

    Args:
        record: the run's proof; its ``check`` has passed.
        number: which segment, from 0.
        inputs: the run's base, dataset and reward model, verified.
        adapter: the run's outcome: what the last segment must end at.
        work: an empty folder that may be written to.

    Raises:
        IntegrityError: the checkpoint that it begins with is of other weights than the recipe trains.
        TrainingError: the segment cannot be done here.
    """
    before, last = record.segment(number)
    stepper = stepping.opened(record.bound.recipe, inputs, work / "trainer")
    found: dict[int, Leaf] = {}
    lines: dict[int, bytes] = {}

    def after(told: Told) -> None:
        found[told.leaf.step] = told.leaf
        lines[told.leaf.step] = Step.of(told, 0).to_line()
        if told.leaf.step == last < record.proof.steps:
            stepper.save(work / "end")

    began = _began(record, before, stepper.weights())
    with steps_told():
        stepper.go(record.checkpoint(before) if before else None, after, stop_after=last)
    ends = Ends(began, _claimed(record, last, adapter), stepper.weights())
    miscounted = _other_rows(record, stepper.row_count) or _other_counts(record, last, work / "end")
    differs = _difference(record.leaves[before:last], found) or _other_line(record, lines) or miscounted
    error, elsewhere = weights_apart(ends), _elsewhere(record)
    done = Replayed(before + 1, last, not differs, not differs, differs, error)
    if not differs or miscounted or not elsewhere or not _all_equal(record, found, done, "batch"):
        return done
    done = replace(done, elsewhere=elsewhere)
    beside = _beside(record, last, lines, work / "end")
    same_draws = _all_equal(record, found, done, "rng")
    if max(error, beside.optimizer) <= NUMERIC_TOLERANCE and same_draws:
        return replace(done, ok=beside.log <= LOG_TOLERANCE)
    wanted = record.bound.recipe.functional
    if wanted is None or error == math.inf or not (same_draws or _draws_otherwise(record)):
        return done
    behaved = functional.compared(wanted, ends, inputs.base, adapter, work / "functional")
    far = math.sqrt(wanted.limit)  # what weights may be off: KL goes with the square of a difference
    return replace(
        done, ok=behaved.alike and max(beside.optimizer, beside.log) <= far, kl=behaved.kl, effect=behaved.effect
    )


@dataclass(frozen=True)
class _Beside:
    """How far what goes with the weights is from what is claimed; see ``nearness``."""

    optimizer: float
    log: float


def _beside(record: Record, last: int, lines: Mapping[int, bytes], end: Path) -> _Beside:
    told = (record.folder / LOG).read_bytes().splitlines(keepends=True)
    steps = sorted(lines)
    log = logs_apart([line for step in steps for line in told[step - 1 : step]], [lines[step] for step in steps])
    if last == record.proof.steps:
        return _Beside(0.0, log)  # nothing goes on from there
    claimed, mine = (checkpoint.load(folder, checkpoint.OPTIMIZER) for folder in (record.checkpoint(last), end))
    return _Beside(optimizers_apart(claimed, mine, float(record.bound.recipe.optimizer.epsilon)), log)


def _all_equal(record: Record, found: Mapping[int, Leaf], done: Replayed, part: str) -> bool:
    """Whether that part of every step's leaf is as claimed."""
    claimed = record.leaves[done.first_step - 1 : done.last_step]
    return all(leaf.step in found and getattr(found[leaf.step], part) == getattr(leaf, part) for leaf in claimed)


def _claimed(record: Record, last: int, adapter: Path) -> Weights:
    """The weights that a segment is said to end with."""
    if last == record.proof.steps:
        return checkpoint.load(adapter, WEIGHTS)
    return checkpoint.load(record.checkpoint(last), checkpoint.WEIGHTS)


def _began(record: Record, before: int, first: Weights) -> Weights:
    """The weights that a segment begins with."""
    if not before:
        return first
    found = checkpoint.load(record.checkpoint(before), checkpoint.WEIGHTS)
    trained, kept = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in (first, found))
    other = min((name for name in trained.keys() | kept.keys() if trained.get(name) != kept.get(name)), default="")
    if other:
        raise IntegrityError(
            f"the checkpoint after step {before} is not of the weights that the recipe trains",
            path=f"{record.checkpoint(before).name}/{checkpoint.WEIGHTS}: {other}",
            expected=str(trained.get(other)), actual=str(kept.get(other)),
        )  # fmt: skip
    return found


def _draws_otherwise(record: Record) -> bool:
    """Whether the run says that it was on a machine whose random numbers come in another order."""
    mine = environment(record.bound.recipe)
    return record.proof.environment.machine != mine.machine or profile(mine.profile).device != "cpu"


def _elsewhere(record: Record) -> str:
    """Why bits may differ here, in a few words; empty where every one must be equal."""
    claimed, mine = record.proof.environment, environment(record.bound.recipe)
    if not profile(mine.profile).exact:
        return f"{mine.profile} promises no equal bits"
    told = {"processor": f"{claimed.machine} {claimed.instructions}", **claimed.packages}
    here = {"processor": f"{mine.machine} {mine.instructions}", **mine.packages}
    other = sorted(name for name in told.keys() | here.keys() if told.get(name) != here.get(name))
    said = "; ".join(
        f"the run says {name} {told.get(name, 'none')}, here is {here.get(name, 'none')}" for name in other
    )
    return said[:_SAID_MAX]


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


def _other_rows(record: Record, found: RowCount | None) -> str:
    """What is told of the rows that were cut is told by nobody else; it is the same on every machine."""
    claimed = Health.parse(read_bounded(record.folder / HEALTH, HEALTH_MAX_BYTES)).row_count
    return "" if claimed == found else f"rows: {_told(claimed)}, not {_told(found)}"


def _other_counts(record: Record, last: int, end: Path) -> str:
    """What the trainer counts is in no leaf; it is the same on every machine."""
    if (
        last == record.proof.steps
        or not end.is_dir()
        or checkpoint.counts(record.checkpoint(last)) == checkpoint.counts(end)
    ):
        return ""
    return f"step {last}: what the trainer counts"


def _told(rows: RowCount | None) -> str:
    return f"{rows.cut} of {rows.rows} cut, {rows.dropped} left out" if rows else "not told"
