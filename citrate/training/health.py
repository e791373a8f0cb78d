"""How a run went, from its log: where the loss began and ended, gradients that had to be scaled down, spikes.

A spike is a step whose value is above the median of the 20 steps before it (of 5 at least) by more than six robust
standard deviations (1.4826 times the median absolute deviation) **and** by more than a factor: 1.5 for the loss, 3 for
the gradient norm. Medians, because one spike must not hide the next; a factor too, because late in a run the deviation
is next to nothing and every step would be one. The loss of ``grpo`` and ``rloo`` goes around zero and says little: of
them only gradients are looked at, and the reward is told.

Numbers are decimal text of six digits, so that the same log gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citrate.core import canonical, faults
from citrate.core.errors import FormatError
from citrate.training.lengths import RowCount
from citrate.training.recipe import Recipe

HEALTH = "health.json"
HEALTH_MAX_BYTES = 1 << 20
_POINTS = 240
_WINDOW, _WINDOW_MIN = 20, 5
_SIGMAS, _MAD = 6.0, 1.4826
_LOSS_FACTOR, _NORM_FACTOR = 1.5, 3.0
_SPIKES_MAX = 100
_LINE_MAX_BYTES = 1024

Text = Annotated[
    str, StringConstraints(pattern=r"^(-?\d(\.\d+)?(e[+-]\d{2,3})?|-?\d+(\.\d+)?|-?inf|nan)$", max_length=24)
]
Step = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Rows(_Part):
    """What became of the dataset's rows; see ``lengths.RowCount``."""

    rows: Count
    cut: Count
    dropped: Count
    max_length: Count
    past: Count | None = None
    context: Count | None = None


class Loss(_Part):
    """The loss: at the first and the last step, its least, and the mean over the first and the last tenth."""

    first: Text
    last: Text
    least: Text
    least_step: Step
    begin: Text
    end: Text


class Norm(_Part):
    """Gradient norms before they are scaled down, and of how many steps they were."""

    median: Text
    largest: Text
    largest_step: Step
    clipped: Count


class Spike(_Part):
    """A step that stands out: its value, and the median of the steps before it."""

    step: Step
    what: Literal["loss", "grad_norm"]
    value: Text
    usual: Text


class Point(_Part):
    """Of a stretch of steps that ends at ``step``: mean loss, largest gradient norm, mean reward if there is one."""

    step: Step
    loss: Text
    grad_norm: Text
    reward: Text | None = None


class Health(_Part):
    """How a run went. ``not_finite``: steps whose loss or gradient is no number; a run ends at the first."""

    schema_: Literal["citrate.training-health/1"] = Field(alias="schema")
    steps: Step
    rows: Rows | None
    loss: Loss
    grad_norm: Norm
    not_finite: Count
    spikes: Annotated[tuple[Spike, ...], Field(max_length=_SPIKES_MAX)]
    """The first hundred."""
    spike_count: Count
    curve: Annotated[tuple[Point, ...], Field(min_length=1, max_length=_POINTS)]

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return canonical.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    @property
    def row_count(self) -> RowCount | None:
        """What became of the rows, where the trainer cuts any."""
        return RowCount(**self.rows.model_dump()) if self.rows else None

    @classmethod
    def parse(cls, data: bytes) -> Health:
        """Read it.

        Raises:
            FormatError: malformed.
        """
        try:
            return cls.model_validate({"rows": None, **canonical.loads(data)})
        except ValidationError as error:
            raise FormatError(f"not a training run's health: {faults.first(error, cls).message}") from error


class Logged(_Part):
    """A line of a run's log."""

    step: Step
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: Count
    reward: float | None = None


def read_log(path: Path, steps: int) -> tuple[Logged, ...]:
    """A run's log, a line a step.

    Raises:
        FormatError: malformed, or not of so many steps.
    """
    try:
        with path.open("rb") as file:
            lines = [Logged.model_validate(json.loads(file.readline(_LINE_MAX_BYTES))) for _ in range(steps)]
            rest = file.read(1)
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        raise FormatError(f"the run's {path.name} has not a line of numbers for each of its {steps} steps") from error
    if rest or [line.step for line in lines] != list(range(1, steps + 1)):
        raise FormatError(f"the run's {path.name} has other steps than 1 to {steps}")
    return tuple(lines)


def summarise(log: Sequence[Logged], recipe: Recipe, rows: RowCount | None) -> Health:
    """How a run went.

    Args:
        log: a line a step, all of them.
        recipe: what was done; decides what a clipped gradient is, and whether the loss can spike.
        rows: what became of the dataset's rows, if the trainer cuts any.
    """
    losses, norms = [line.loss for line in log], [line.grad_norm for line in log]
    spikes = [] if recipe.reinforcement else _spikes("loss", losses, _LOSS_FACTOR)
    spikes = sorted([*spikes, *_spikes("grad_norm", norms, _NORM_FACTOR)], key=lambda spike: (spike.step, spike.what))
    tenth = max(1, len(log) // 10)
    least, largest = min(range(len(log)), key=losses.__getitem__), max(range(len(log)), key=norms.__getitem__)
    return Health(
        schema="citrate.training-health/1",
        steps=len(log),
        rows=Rows(**asdict(rows)) if rows else None,
        loss=Loss(
            first=text_of(losses[0]), last=text_of(losses[-1]), least=text_of(losses[least]), least_step=least + 1,
            begin=text_of(fmean(losses[:tenth])), end=text_of(fmean(losses[-tenth:])),
        ),
        grad_norm=Norm(
            median=text_of(median(norms)), largest=text_of(norms[largest]), largest_step=largest + 1,
            clipped=sum(norm > float(recipe.optimizer.max_grad_norm) for norm in norms),
        ),
        not_finite=sum(not (math.isfinite(line.loss) and math.isfinite(line.grad_norm)) for line in log),
        spikes=tuple(spikes[:_SPIKES_MAX]),
        spike_count=len(spikes),
        curve=tuple(_point(log[begin:end]) for begin, end in _stretches(len(log))),
    )  # fmt: skip


def _spikes(what: Literal["loss", "grad_norm"], values: Sequence[float], factor: float) -> list[Spike]:
    found: list[Spike] = []
    for at in range(_WINDOW_MIN, len(values)):
        before = values[max(0, at - _WINDOW) : at]
        usual = median(before)
        deviation = _MAD * median(abs(value - usual) for value in before)
        if values[at] > usual + _SIGMAS * deviation and values[at] > usual * factor and usual > 0:
            found.append(Spike(step=at + 1, what=what, value=text_of(values[at]), usual=text_of(usual)))
    return found


def _stretches(steps: int) -> list[tuple[int, int]]:
    points = min(steps, _POINTS)
    ends = [(number + 1) * steps // points for number in range(points)]
    return list(zip([0, *ends], ends, strict=False))


def _point(lines: Sequence[Logged]) -> Point:
    rewards = [line.reward for line in lines if line.reward is not None]
    return Point(
        step=lines[-1].step,
        loss=text_of(fmean(line.loss for line in lines)),
        grad_norm=text_of(max(line.grad_norm for line in lines)),
        reward=text_of(fmean(rewards)) if rewards else None,
    )


def text_of(value: float) -> str:
    """A number as decimal text of six digits."""
    return f"{value:.6g}"
