"""Whole models: SLERP and TIES agree with their definitions written out plainly, and unlike models are refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from merging_models import differing, largest, make, types, values
from numpy.typing import NDArray
from tiny_models import FolderSink

from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import SourceModel, convert, merging_models, open_model
from citrate.formats.merging import How, Method, require_mergeable
from citrate.formats.merging_models import of_models
from citrate.formats.merging_writing import Output, write_merged

pytestmark = pytest.mark.models

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base in bfloat16 and two models that differ from it everywhere."""
    root = tmp_path_factory.mktemp("family")
    return [make(root / str(seed), seed=seed) for seed in range(3)]


@pytest.fixture
def wide(tmp_path: Path) -> list[Path]:
    """The same in float32."""
    return [make(tmp_path / f"wide{seed}", seed=seed, dtype="float32") for seed in range(3)]


def merged(
    paths: Sequence[Path], out: Path, how: How, weights: Sequence[float] = (0.5, 0.5), base: Path | None = None
) -> Path:
    models = [open_model(path) for path in paths]
    first, work = of_models(models, [p.name for p in paths], weights, how, open_model(base) if base else None)
    write_merged(first, work, Output(FolderSink(out), {}))
    return out


def slerp(a: Floats, b: Floats, part: float) -> NDArray[np.float64]:
    """The definition, in float64."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    cosine = float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))
    if abs(cosine) > 0.9995:
        return (1 - part) * first + part * second
    angle = math.acos(cosine)
    mixed = np.sin((1 - part) * angle) * first + np.sin(part * angle) * second
    arc: NDArray[np.float64] = mixed / np.sin(angle)
    return arc


def ties(base: Floats, models: Sequence[Floats], weights: Sequence[float], density: float) -> NDArray[np.float64]:
    """The definition, value by value."""
    changes = []
    for model in models:
        change = (model - base).astype(np.float64).reshape(-1)
        kept = sorted(range(change.size), key=lambda i: -abs(change[i]))[: int(density * change.size)]
        mask = np.zeros(change.size, bool)
        mask[kept] = True
        changes.append(np.where(mask, change, 0))
    merged_values = base.astype(np.float64).reshape(-1).copy()
    for i in range(merged_values.size):
        weighted = [weight * change[i] for weight, change in zip(weights, changes, strict=True)]
        sign = 1 if sum(weighted) >= 0 else -1
        agreeing = [(v, w) for v, w in zip(weighted, weights, strict=True) if v * sign > 0]
        if agreeing:
            merged_values[i] += sum(v for v, _ in agreeing) / sum(w for _, w in agreeing)
    return merged_values.reshape(base.shape)


def error(found: Path, wanted: Mapping[str, NDArray[np.float64]]) -> float:
    have = values(found)
    assert have.keys() == wanted.keys()
    return max(float(np.abs(have[n] - wanted[n]).max() / np.abs(wanted[n]).max()) for n in wanted)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (3, 1)])
def test_slerp_is_the_arc_between_two_tensors(wide: list[Path], tmp_path: Path, weights: tuple[float, float]) -> None:
    out = merged(wide[:2], tmp_path / "out", How(Method.SLERP), weights)
    first, second = values(wide[0]), values(wide[1])
    part = weights[1] / sum(weights)
    assert error(out, {name: slerp(first[name], second[name], part) for name in first}) < 2e-6


def test_the_ends_of_the_arc_are_the_models(family: list[Path], tmp_path: Path) -> None:
    assert differing(merged(family[:2], tmp_path / "near", How(Method.SLERP), (1, 0)), family[0]) == 0
    assert differing(merged(family[:2], tmp_path / "far", How(Method.SLERP), (0, 1)), family[1]) == 0
    half = merged(family[:2], tmp_path / "half", How(Method.SLERP))
    assert types(half) == {"BF16"}
    assert largest(half, family[0]) > 0.003
    same = merged([family[0], family[0]], tmp_path / "same", How(Method.SLERP), (0.3, 0.7))
    assert largest(same, family[0]) < 0.004


def test_slerp_in_bfloat16_is_rounded_once(family: list[Path], tmp_path: Path) -> None:
    out = merged(family[:2], tmp_path / "out", How(Method.SLERP))
    first, second = values(family[0]), values(family[1])
    assert error(out, {name: slerp(first[name], second[name], 0.5) for name in first}) < 2**-8


@pytest.mark.parametrize(("weights", "density"), [((1, 1), 0.2), ((0.7, 0.3), 0.5), ((1, -0.5), 0.9), ((2, 1), 1)])
def test_ties_is_trim_elect_and_merge(
    wide: list[Path], tmp_path: Path, weights: tuple[float, float], density: float
) -> None:
    out = merged(wide[1:], tmp_path / "out", How(Method.TIES, density), weights, wide[0])
    base, others = values(wide[0]), [values(path) for path in wide[1:]]
    wanted = {name: ties(base[name], [other[name] for other in others], weights, density) for name in base}
    assert error(out, wanted) < 2e-6


def test_one_model_whole_is_itself_again(wide: list[Path], tmp_path: Path) -> None:
    out = merged([wide[1]], tmp_path / "out", How(Method.TIES, 1.0), (1,), wide[0])
    assert largest(out, wide[1]) < 2e-6


def test_what_no_model_changed_stays(family: list[Path], tmp_path: Path) -> None:
    out = merged([family[0], family[0]], tmp_path / "out", How(Method.TIES, 0.5), base=family[0])
    assert differing(out, family[0]) == 0


def test_pieces_and_samples_do_not_change_a_bit(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = merged(family[1:], tmp_path / "whole", How(Method.TIES, 0.3), base=family[0])
    monkeypatch.setattr(merging_models, "_PIECE", 97)
    monkeypatch.setattr(merging_models, "_SAMPLED", 2)  # so few that the range is missed
    pieces = merged(family[1:], tmp_path / "pieces", How(Method.TIES, 0.3), base=family[0])
    assert differing(whole, pieces) == 0
    arc = merged(family[1:], tmp_path / "arc", How(Method.SLERP))
    monkeypatch.undo()
    assert largest(arc, merged(family[1:], tmp_path / "arc2", How(Method.SLERP))) < 0.008


def edited(source: Path, out: Path, name: str, **changes: object) -> Path:
    shutil.copytree(source, out)
    path = out / name
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**document, **changes}))
    return out


def test_models_that_are_not_of_one_kind_are_refused(family: list[Path], tmp_path: Path) -> None:
    def refuses(first: Path, other: Path, message: str) -> None:
        with pytest.raises(FormatError, match=message):
            merged([first, other], tmp_path / "out", How(Method.SLERP))

    base = family[0]
    refuses(base, make(tmp_path / "qwen", "Qwen2"), "one is LlamaForCausalLM, the other Qwen2ForCausalLM")
    refuses(base, make(tmp_path / "words", vocab_size=161), "vocab_size is 160 and 161")
    refuses(base, make(tmp_path / "inner", intermediate_size=64), "is 64 x 96 in one, 64 x 64 in the other|96 x 64")
    refuses(base, make(tmp_path / "tied", tie_word_embeddings=True), "only one has lm_head.weight")
    refuses(
        base, make(tmp_path / "heads", num_attention_heads=8, head_dim=8, num_key_value_heads=4), "heads is 4 and 8"
    )
    turned = edited(base, tmp_path / "rope", "config.json", rope_parameters={"rope_type": "default", "rope_theta": 5.0})
    refuses(base, turned, "rotary angles")
    one, two = (
        edited(base, tmp_path / name, "tokenizer.json", model={"type": "BPE", "vocab": {name: 0}, "merges": []})
        for name in ("a", "b")
    )
    refuses(one, two, "tokenizers differ")
    refuses(one, base, "tokenizers differ")
    assert not (tmp_path / "out").exists()


def test_quantised_weights_are_not_merged(tmp_path: Path, llama: Path) -> None:
    convert(open_model(llama), Variant.parse("mlx:4bit"), FolderSink(tmp_path / "mlx"), name="tiny")
    model: SourceModel = open_model(tmp_path / "mlx")
    with pytest.raises(UnsupportedConversionError, match="quantised for MLX"):
        require_mergeable(model, "it")
