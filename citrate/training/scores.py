"""Whether one model is better than another by scores over seeds: who wins, by how much, and whether that is chance."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from citrate.core.errors import ConfigError, FormatError

_LEAST_SEEDS = 2
_FORM = 'a line is {"seed": 1, "a": 0.71, "b": 0.74}'


class Verdict(StrEnum):
    """What the scores say of the second model."""

    IMPROVES = "improves"
    NO_DIFFERENCE = "no difference"
    WORSE = "worse"


@dataclass(frozen=True)
class Pair:
    """The scores of both models with one seed; higher is better."""

    seed: int
    a: float
    b: float


@dataclass(frozen=True)
class Thresholds:
    """All must be reached, in one direction, for a difference to count."""

    absolute: float = 0.0
    relative: float = 0.0
    z: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"the threshold {name} = {value:g} is no size", hint="it is 0 or more")


@dataclass(frozen=True)
class Scored:
    """What pairs of scores come to."""

    seeds: int
    wins: int
    """Seeds with which the second model is better."""
    ties: int
    mean_a: float
    mean_b: float
    difference: float
    """``mean_b - mean_a``."""
    relative: float | None
    """The difference over ``|mean_a|``; None where that is 0."""
    z: float
    """The difference over its standard error; infinite where all differences are equal, and not 0."""
    verdict: Verdict


def read(data: bytes) -> tuple[Pair, ...]:
    """Parse JSON Lines of ``{seed, a, b}``.

    Raises:
        FormatError: a line is not that, or a seed comes twice; the message tells the line.
    """
    pairs: dict[int, Pair] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        pair = _pair(line, number)
        if pair.seed in pairs:
            raise FormatError(f"line {number}: the seed {pair.seed} comes twice", hint=_FORM)
        pairs[pair.seed] = pair
    if len(pairs) < _LEAST_SEEDS:
        raise FormatError(f"there are scores of {len(pairs)} seeds, which tell nothing of chance", hint="two at least")
    return tuple(pairs.values())


def judge(pairs: Sequence[Pair], thresholds: Thresholds) -> Scored:
    """What ``pairs`` (two at least) say of the second model."""
    differences = [pair.b - pair.a for pair in pairs]
    mean_a, mean_b = (statistics.fmean(side) for side in ([p.a for p in pairs], [p.b for p in pairs]))
    difference = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(pairs))
    z = difference / error if error else math.copysign(math.inf, difference) if difference else 0.0
    relative = difference / abs(mean_a) if mean_a else None
    return Scored(
        seeds=len(pairs),
        wins=sum(each > 0 for each in differences),
        ties=sum(each == 0 for each in differences),
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference,
        relative=relative,
        z=z,
        verdict=_verdict(difference, relative, z, thresholds),
    )


def _pair(line: bytes, number: int) -> Pair:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(f"line {number} is no JSON", hint=_FORM) from None
    if not isinstance(document, dict) or document.keys() != {"seed", "a", "b"}:
        raise FormatError(f"line {number} is no object of seed, a and b", hint=_FORM)
    seed, a, b = (document[key] for key in ("seed", "a", "b"))
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FormatError(f"line {number}: the seed {seed!r:.40} is no integer", hint=_FORM)
    for score in (a, b):
        if not isinstance(score, int | float) or isinstance(score, bool) or not abs(score) < 1e30:
            raise FormatError(f"line {number}: the score {score!r:.40} is no number", hint=_FORM)
    return Pair(seed, float(a), float(b))


def _verdict(difference: float, relative: float | None, z: float, least: Thresholds) -> Verdict:
    if not difference:
        return Verdict.NO_DIFFERENCE
    far = abs(difference) >= least.absolute and abs(z) >= least.z
    far = far and (abs(relative) >= least.relative if relative is not None else not least.relative)
    if not far:
        return Verdict.NO_DIFFERENCE
    return Verdict.IMPROVES if difference > 0 else Verdict.WORSE
