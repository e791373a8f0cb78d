"""Scores over seeds: who wins, by how much, and that a difference counts only past every threshold."""

from __future__ import annotations

import math

import pytest

from citrate.core.errors import ConfigError, FormatError
from citrate.training.scores import Pair, Thresholds, Verdict, judge, read

BETTER = tuple(Pair(seed, 0.50, score) for seed, score in enumerate((0.60, 0.62, 0.58, 0.50, 0.61)))


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode()


def test_a_difference_is_told_absolutely_relatively_and_in_standard_errors() -> None:
    found = judge(BETTER, Thresholds())
    assert (found.seeds, found.wins, found.ties) == (5, 4, 1)
    assert (found.mean_a, found.mean_b) == pytest.approx((0.5, 0.582))
    assert found.difference == pytest.approx(0.082) and found.relative == pytest.approx(0.164)
    assert found.z == pytest.approx(0.082 / (math.sqrt(0.00232 / 5)), rel=1e-3)
    assert found.verdict is Verdict.IMPROVES


@pytest.mark.parametrize("missed", [{"absolute": 0.09}, {"relative": 0.17}, {"z": 4.0}])
def test_one_threshold_that_is_missed_is_no_difference(missed: dict[str, float]) -> None:
    assert judge(BETTER, Thresholds(**missed)).verdict is Verdict.NO_DIFFERENCE


def test_worse_is_the_mirror_image() -> None:
    found = judge([Pair(p.seed, p.b, p.a) for p in BETTER], Thresholds(0.05, 0.1, 2))
    assert found.verdict is Verdict.WORSE and found.difference < 0 and found.z < 0


def test_what_cannot_be_divided_by_is_no_fault() -> None:
    equal = judge([Pair(1, 0.5, 0.5), Pair(2, 0.5, 0.5)], Thresholds())
    assert (equal.z, equal.ties, equal.verdict) == (0, 2, Verdict.NO_DIFFERENCE)
    shifted = judge([Pair(1, 0.0, 0.5), Pair(2, 0.0, 0.5)], Thresholds())
    assert (shifted.z, shifted.relative, shifted.verdict) == (math.inf, None, Verdict.IMPROVES)
    assert judge([Pair(1, 0.0, 0.5), Pair(2, 0.0, 0.5)], Thresholds(relative=0.1)).verdict is Verdict.NO_DIFFERENCE


def test_scores_are_read_line_by_line() -> None:
    found = read(lines('{"seed": 1, "a": 0.5, "b": 1}', "", '{"b": 2, "a": 1, "seed": 2}'))
    assert found == (Pair(1, 0.5, 1.0), Pair(2, 1.0, 2.0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("{",), "line 1 is no JSON"),
        (("[1]",), "line 1 is no object"),
        (('{"seed": 1, "a": 1}',), "line 1 is no object of seed, a and b"),
        (('{"seed": 1, "a": 1, "b": 1, "c": 1}',), "line 1 is no object of seed, a and b"),
        (('{"seed": true, "a": 1, "b": 1}',), "the seed True"),
        (('{"seed": 1, "a": NaN, "b": 1}',), "line 1: the score nan"),
        (('{"seed": 1, "a": 1e99, "b": 1}',), "line 1: the score 1e"),
        (('{"seed": 1, "a": "1", "b": 1}',), "line 1: the score '1'"),
        (('{"seed": 1, "a": 1, "b": 1}', '{"seed": 1, "a": 1, "b": 1}'), "line 2: the seed 1 comes twice"),
        (('{"seed": 1, "a": 1, "b": 1}',), "scores of 1 seeds"),
        ((), "scores of 0 seeds"),
    ],
)
def test_scores_that_are_none_are_told_by_their_line(rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message) as raised:
        read(lines(*rows))
    assert raised.value.hint


@pytest.mark.parametrize("wrong", [{"absolute": -0.1}, {"relative": math.inf}, {"z": math.nan}])
def test_thresholds_are_sizes(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        Thresholds(**wrong)
