"""What another machine's rounding may change of a segment's end, and what it may not."""

from __future__ import annotations

import json
import math

import pytest
import torch

from citrate.training.functional import Ends
from citrate.training.nearness import NUMERIC_TOLERANCE, logs_apart, optimizers_apart, weights_apart

EPSILON = 1e-8


def state(first: str = "exp_avg", second: str = "exp_avg_sq") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        f"layer.weight/{first}": torch.randn(64),
        f"layer.weight/{second}": torch.rand(64) + 0.5,
        "layer.weight/step": torch.tensor(7.0),
    }


@pytest.mark.parametrize("names", [("exp_avg", "exp_avg_sq"), ("m", "v")])
def test_a_momentum_that_only_a_small_variance_makes_large_is_found(names: tuple[str, str]) -> None:
    honest, forged = state(*names), state(*names)
    for each in (honest, forged):
        each[f"layer.weight/{names[0]}"][0] = each[f"layer.weight/{names[1]}"][0] = 1e-12
    forged[f"layer.weight/{names[0]}"][0] = 1e-4  # of a length of 8
    off = float((forged[f"layer.weight/{names[0]}"] - honest[f"layer.weight/{names[0]}"]).norm())
    assert off / float(honest[f"layer.weight/{names[0]}"].norm()) < NUMERIC_TOLERANCE
    assert optimizers_apart(forged, honest, EPSILON) > 1


def test_each_tensor_of_an_optimizer_counts_for_itself() -> None:
    honest = {**state(), "other.weight/exp_avg": torch.full((4,), 1e-9)}
    forged = {**honest, "other.weight/exp_avg": torch.full((4,), 2e-9)}
    assert optimizers_apart(honest, honest, EPSILON) == 0
    assert optimizers_apart(forged, honest, EPSILON) == pytest.approx(1)


def test_what_cannot_be_compared_is_infinitely_far() -> None:
    honest = state()
    broken = {**honest, "layer.weight/exp_avg": honest["layer.weight/exp_avg"] * math.nan}
    assert optimizers_apart(broken, honest, EPSILON) == math.inf
    assert optimizers_apart({"layer.weight/exp_avg": torch.zeros(3)}, honest, EPSILON) == math.inf
    one, two = {"w": torch.ones(2)}, {"w": torch.ones(3)}
    assert weights_apart(Ends(one, one, two)) == weights_apart(Ends(one, one, {"w": torch.zeros(2)})) == math.inf


def line(**told: float) -> bytes:
    return json.dumps(told).encode() + b"\n"


@pytest.mark.parametrize(
    ("told", "apart"),
    [
        ({"loss": 2.0, "tokens": 5}, 0.0),
        ({"loss": 2.002, "tokens": 5}, 0.001),
        ({"loss": 2.0, "tokens": 6}, math.inf),
        ({"loss": math.nan, "tokens": 5}, math.inf),
        ({"loss": 2.0}, math.inf),
    ],
)
def test_what_is_told_of_steps_is_compared_number_by_number(told: dict[str, float], apart: float) -> None:
    mine = [line(loss=2.0, tokens=5), line(loss=1e-9, tokens=5)]
    assert logs_apart([line(**told), mine[1]], mine) == pytest.approx(apart)
    assert logs_apart(mine[:1], mine) == math.inf
