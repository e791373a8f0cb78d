"""How near a segment that was done again on another machine comes to the one that is claimed.

Weights alone would not bind: whoever may put what he likes into the optimizer's state at a segment's end steers the
next segment, whose replay begins there. So the state is held against the replay's, tensor by tensor, and so is the step
that AdamW would do next: a momentum that is small beside its tensor's others is large where its variance is smaller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

    from citrate.training.functional import Ends

    Tensors: TypeAlias = Mapping[str, torch.Tensor]

NUMERIC_TOLERANCE = 1e-4
"""The largest distance that counts as another machine's rounding. Measured between instruction sets: 1e-5 for weights,
state and next step; 1e-2 and more for any changed recipe (docs/training.md)."""
LOG_TOLERANCE = 1e-3
"""Likewise of what is told of the steps; measured: 1e-5."""

# torch's names and MLX's of AdamW's two moments
_MOMENTS = (("exp_avg", "exp_avg_sq"), ("m", "v"))


def weights_apart(ends: Ends) -> float:
    """How far two ends are from each other, in units of how far the claimed one is from the beginning."""
    claimed, found, began = ends.claimed, ends.replayed, ends.began
    if not _shapes(claimed) == _shapes(found) == _shapes(began):
        return math.inf
    off = sum(float((claimed[name].double() - found[name].double()).pow(2).sum()) for name in claimed)
    way = sum(float((claimed[name].double() - began[name].double()).pow(2).sum()) for name in claimed)
    if off == 0:
        return 0.0
    return math.inf if way == 0 else float((off / way) ** 0.5)


def optimizers_apart(claimed: Tensors, found: Tensors, epsilon: float) -> float:
    """The largest distance of a tensor of AdamW's state, or of the step that it would do next, in units of its length.

    Args:
        claimed: by ``parameter/state``.
        found: the replay's.
        epsilon: AdamW's, which keeps its step finite.
    """
    if _shapes(claimed) != _shapes(found):
        return math.inf
    largest = max((_relative(found[name], claimed[name]) for name in claimed), default=0.0)
    for name in claimed:
        for first, second in _MOMENTS:
            variance = f"{name.removesuffix(first)}{second}"
            if name.endswith(f"/{first}") and variance in claimed:
                mine, other = (each[name] / (each[variance].sqrt() + epsilon) for each in (found, claimed))
                largest = max(largest, _relative(mine, other))
    return largest


def logs_apart(claimed: Sequence[bytes], found: Sequence[bytes]) -> float:
    """The largest difference of a number that is told, in units of its largest in these lines; infinite where whole
    numbers differ, or one tells what the other does not."""
    if len(claimed) != len(found):
        return math.inf
    told, mine = ([json.loads(line) for line in lines] for lines in (claimed, found))
    if any(list(a) != list(b) for a, b in zip(told, mine, strict=True)):
        return math.inf
    return max((_off([each[key] for each in told], [each[key] for each in mine]) for key in told[0]), default=0.0) \
        if told else 0.0  # fmt: skip


def _off(told: Sequence[float], mine: Sequence[float]) -> float:
    if told == mine:
        return 0.0
    if any(isinstance(value, int) for value in (*told, *mine)):
        return math.inf
    largest = max(map(abs, mine))
    worst = max(abs(a - b) for a, b in zip(told, mine, strict=True))
    return worst / largest if largest and math.isfinite(worst) else math.inf


def _relative(found: torch.Tensor, claimed: torch.Tensor) -> float:
    off, size = float((found.double() - claimed.double()).norm()), float(found.double().norm())
    if off == 0:
        return 0.0
    return off / size if size and math.isfinite(off) else math.inf


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
