"""SLERP and TIES of whole models are what mergekit makes of the same models, which computes them by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from merging_models import make, values
from numpy.typing import NDArray
from test_merging_models import merged

from citrate.formats.merging import How, Method

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]  # where transformers is imported already

Family: TypeAlias = dict[str, list[Path]]
ROUNDING = {"float32": 1e-6, "bfloat16": 2**-8}
"""Of a value, in units of its tensor's largest."""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A base and two models that differ from it everywhere, in each type."""
    root = tmp_path_factory.mktemp("family")
    return {dtype: [make(root / dtype / str(seed), seed=seed, dtype=dtype) for seed in range(3)] for dtype in ROUNDING}


def mergekits(out: Path, dtype: str, method: str, base: Path, models: list[dict[str, object]], **set_: object) -> Path:
    """What mergekit makes of them, computed in float32 and rounded once, as ours is."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    document = {
        "merge_method": method, "base_model": str(base), "models": models, "parameters": set_,
        "dtype": "float32", "out_dtype": dtype,
    }  # fmt: skip
    options = MergeOptions(write_model_card=False, copy_tokenizer=False, quiet=True)  # a card asks the network
    run_merge(MergeConfiguration.model_validate(document), str(out), options)
    return out


def off(ours: Path, theirs: Path, rounding: float) -> float:
    """The share of values that differ by more than rounding."""
    mine, wanted = values(ours), values(theirs)
    assert mine.keys() == wanted.keys()
    differ = sum(_beyond(mine[name], wanted[name], rounding) for name in wanted)
    return differ / sum(tensor.size for tensor in wanted.values())


def _beyond(mine: NDArray[np.float32], wanted: NDArray[np.float32], rounding: float) -> int:
    return int((np.abs(mine - wanted) > rounding * np.abs(wanted).max()).sum())


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("part", [0.5, 0.1])
def test_slerp_is_mergekits(family: Family, tmp_path: Path, dtype: str, part: float) -> None:
    base, other, _ = family[dtype]
    ours = merged([base, other], tmp_path / "ours", How(Method.SLERP), (1 - part, part))
    theirs = mergekits(tmp_path / "theirs", dtype, "slerp", base, [{"model": str(base)}, {"model": str(other)}], t=part)
    assert off(ours, theirs, ROUNDING[dtype]) == 0


@pytest.mark.parametrize(
    ("dtype", "weights", "density", "share"),
    [
        ("float32", (0.7, 0.3), 0.5, 0),
        ("float32", (1, -0.5), 0.9, 0),
        ("bfloat16", (2, 1), 1, 0),
        # of changes as large as the smallest that is kept, which are many in bfloat16, mergekit takes some, and we all
        ("bfloat16", (1, 1), 0.2, 0.002),
    ],
)
def test_ties_is_mergekits(
    family: dict[str, list[Path]],
    tmp_path: Path,
    dtype: str,
    weights: tuple[float, float],
    density: float,
    share: float,
) -> None:
    base, *others = family[dtype]
    named: list[dict[str, object]] = [
        {"model": str(path), "parameters": {"weight": weight, "density": density}}
        for path, weight in zip(others, weights, strict=True)
    ]
    ours = merged(others, tmp_path / "ours", How(Method.TIES, density), weights, base)
    theirs = mergekits(tmp_path / "theirs", dtype, "ties", base, named, normalize=True)
    assert off(ours, theirs, ROUNDING[dtype]) <= share
