"""Adapters are merged into their base as PEFT does it, bit for bit; what cannot be merged is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from merging_models import differing, largest, make, merged, merged_by_peft, trained, types, values
from numpy.typing import NDArray
from tiny_models import FolderSink

from citrate.core.errors import CitrateError, ConfigError, FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import open_model
from citrate.formats.adapter_conversion import convert_adapter, open_updates
from citrate.formats.merging import How, Method
from citrate.formats.merging_adapters import open_for_merging
from citrate.formats.merging_factors import Weighted, _dropped, product
from tests.adapter_dirs import lora_tensors, write_adapter

pytestmark = pytest.mark.models

ALL: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
QV: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("merging") / "base")


@pytest.mark.parametrize(
    ("kind", "changes", "settings"),
    [
        ("Llama", {}, ALL),
        ("Llama", {"dtype": "float16"}, ALL),
        ("Llama", {"dtype": "float32"}, ALL),
        ("Llama", {}, {**ALL, "dtype": "bfloat16"}),
        ("Llama", {"tie_word_embeddings": True}, QV),
        ("Llama", {}, {**QV, "use_rslora": True, "lora_alpha": 7}),
        ("Llama", {}, {**QV, "rank_pattern": {"q_proj": 8}, "alpha_pattern": {"v_proj": 24}}),
        ("Llama", {}, {**QV, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 64}}),
        ("Llama", {}, {**QV, "target_modules": ["q_proj", "lm_head"]}),
        ("Llama", {}, {**QV, "target_modules": ["q_proj", "embed_tokens"]}),
        ("Llama", {}, {**QV, "modules_to_save": ["lm_head"]}),
        ("Llama", {}, {**QV, "r": 96}),
        ("Mistral", {}, ALL),
        ("Qwen2", {}, ALL),
        ("Qwen2", {}, {**QV, "bias": "lora_only"}),
        ("Qwen3", {}, ALL),
        ("GPT2", {}, {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "c_fc"]}),
    ],
    ids=str,
)  # fmt: skip
def test_one_adapter_gives_the_bits_that_peft_gives(
    tmp_path: Path, kind: str, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    source = make(tmp_path / "base", kind, **changes)
    adapter = trained(source, tmp_path / "adapter", **settings)
    ours = merged(source, [adapter], tmp_path / "ours")
    assert differing(ours, merged_by_peft(source, [adapter], tmp_path / "peft")) == 0
    assert differing(ours, source) > 1000 and types(ours) == types(source)


def test_dora_agrees_but_for_the_last_bit_of_a_norm(base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "adapter", **ALL, use_dora=True)
    ours = merged(base, [adapter], tmp_path / "ours")
    theirs = merged_by_peft(base, [adapter], tmp_path / "peft")
    assert differing(ours, theirs) < 50 and largest(ours, theirs) < 0.005
    with pytest.raises(ConfigError, match="brings DoRA is merged alone"):
        merged(base, [adapter, adapter], tmp_path / "two", [0.5, 0.5])


def test_sums_of_many_products_are_those_of_float32() -> None:
    random = np.random.default_rng(0)
    for rank in (192, 193, 300, 383, 384, 500):
        left, right = (random.standard_normal(shape, np.float32) for shape in ((40, rank), (rank, 30)))
        exact = 0.5 * (left.astype(np.float64) @ right)
        assert np.abs(product(left, right, 0.5) - exact).max() < 2e-5


@pytest.mark.parametrize("method", ["cat", "svd", "ties"])
def test_several_adapters_are_combined_as_peft_does(tmp_path: Path, method: str) -> None:
    base = make(tmp_path / "base", dtype="float32")  # of others PEFT rounds the combined factors, too
    ranks = (4, 8) if method in ("cat", "svd") else (8, 8)
    targets = (["q_proj", "down_proj"], ["q_proj", "v_proj"])
    adapters = [
        trained(base, tmp_path / str(i), seed=i, r=rank, lora_alpha=10 + i, target_modules=target)
        for i, (rank, target) in enumerate(zip(ranks, targets, strict=True))
    ]
    weights = (0.7, -0.4)
    density: dict[str, Any] = {"density": 0.3} if method == "ties" else {}
    ours = merged(base, adapters, tmp_path / "ours", weights, method=Method(method), **density)
    theirs = merged_by_peft(base, adapters, tmp_path / "peft", weights, combination_type=method, **density)
    assert largest(ours, theirs) < (2e-5 if method == "svd" else 1e-6)
    assert method != "cat" or differing(ours, theirs) == 0
    assert differing(ours, base) > 10_000


def test_dare_drops_what_the_seed_says_and_combines_as_peft_does(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    adapters = [trained(base, tmp_path / str(i), seed=i, **QV) for i in range(2)]
    how = How(Method.DARE, density=0.6, seed=5)
    model = open_model(base)
    opened = [open_for_merging(adapter, model, "it") for adapter in adapters]
    drawn: dict[bytes, NDArray[np.float32]] = {}
    for place, each in enumerate(opened):
        for update in each.updates.values():
            for side, factor in zip("AB", update.factors(), strict=True):
                kept = _dropped(factor.wide, Weighted(update, 1.0, place), how, side) != 0
                drawn[factor.wide.tobytes()] = kept.astype(np.float32)
    shares = [float(kept.mean()) for kept in drawn.values()]
    assert 0.5 < np.mean(shares) < 0.7 and len(set(shares)) > 2

    pruned = []

    def given(tensor: Any, density: float, rescale: bool) -> Any:
        pruned.append(density)
        mask = torch.from_numpy(drawn[tensor.detach().float().numpy().tobytes()])
        return tensor * mask / density if rescale else tensor * mask

    monkeypatch.setattr("peft.utils.merge_utils.random_pruning", given)
    options: dict[str, Any] = {"density": 0.6, "seed": 5}
    ours = merged(base, adapters, tmp_path / "ours", (0.5, 0.5), method=Method.DARE, **options)
    theirs = merged_by_peft(base, adapters, tmp_path / "peft", (0.5, 0.5), combination_type="dare_linear", density=0.6)
    assert len(pruned) == len(drawn)
    assert largest(ours, theirs) < 0.008 and differing(ours, theirs) < 100
    again = merged(base, adapters, tmp_path / "again", (0.5, 0.5), method=Method.DARE, **options)
    other = merged(base, adapters, tmp_path / "other", (0.5, 0.5), method=Method.DARE, density=0.6, seed=6)
    assert differing(again, ours) == 0 < differing(other, ours)


def test_cutting_to_all_the_rank_there_is_loses_nothing(base: Path, tmp_path: Path) -> None:
    adapters = [trained(base, tmp_path / str(i), seed=i, **QV) for i in range(2)]
    whole = merged(base, adapters, tmp_path / "cat", (0.5, 0.5))
    cut = merged(base, adapters, tmp_path / "svd", (0.5, 0.5), method=Method.SVD, rank=8)
    less = merged(base, adapters, tmp_path / "less", (0.5, 0.5), method=Method.SVD, rank=1)
    assert largest(whole, cut) < 0.008 < largest(whole, less)


def test_an_adapter_of_mlx_is_merged_like_the_one_that_it_comes_from(base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "adapter", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    convert_adapter(open_updates(adapter), Variant.parse("mlx"), FolderSink(tmp_path / "mlx"))
    ours = merged(base, [tmp_path / "mlx"], tmp_path / "ours")
    assert differing(ours, merged(base, [adapter], tmp_path / "same")) == 0


@pytest.mark.parametrize(
    ("changes", "settings", "kind", "message"),
    [
        ({"tie_word_embeddings": True}, {"target_modules": ["embed_tokens"]}, UnsupportedConversionError, "one matrix"),
        ({"tie_word_embeddings": True}, {"modules_to_save": ["lm_head"]}, UnsupportedConversionError, "one matrix"),
        ({}, {"alpha_pattern": {".*q_proj": 3}}, UnsupportedConversionError, "regular expression"),
        ({}, {"trainable_token_indices": [1]}, CitrateError, "no part of a LoRA|trainable_token"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], kind: type[CitrateError], message: str
) -> None:
    source = make(tmp_path / "base", **changes)
    adapter = trained(source, tmp_path / "adapter", **{**QV, **settings})
    with pytest.raises(kind, match=message):
        merged(source, [adapter], tmp_path / "ours")


def test_an_adapter_of_another_base_does_not_fit(base: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"does not fit: .* is 64 x 64 in the base, 256 x 256"):
        merged(base, [write_adapter(tmp_path / "wide")], tmp_path / "ours")
    adapter = trained(make(tmp_path / "deep", num_hidden_layers=3), tmp_path / "adapter", **QV)
    with pytest.raises(FormatError, match=r"the base has no model\.layers\.2"):
        merged(base, [adapter], tmp_path / "ours")
    with pytest.raises(NotFoundError, match="no such directory"):
        merged(base, [tmp_path / "nothing"], tmp_path / "ours")


def test_factors_of_different_ranks_are_not_mixed_value_by_value(base: Path, tmp_path: Path) -> None:
    adapters = [trained(base, tmp_path / str(r), r=r, lora_alpha=8, target_modules=["q_proj"]) for r in (2, 4)]
    for method in (Method.TIES, Method.DARE):
        with pytest.raises(ConfigError, match="the ranks 2 and 4"):
            merged(base, adapters, tmp_path / method, (0.5, 0.5), method=method)


def test_no_number_that_is_none_is_read_or_written(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "examples" / "tiny-llama"
    adapter = write_adapter(tmp_path / "nan")
    weights = adapter / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-4:] = np.array([np.nan], np.float32).tobytes()
    weights.write_bytes(data)
    with pytest.raises(FormatError, match="NaN"):
        merged(sample, [adapter], tmp_path / "ours")
    huge = write_adapter(tmp_path / "huge", lora_tensors(), lora_alpha=4_000_000)
    source = make(
        tmp_path / "half", dtype="float16", hidden_size=256, num_attention_heads=4, head_dim=64, num_hidden_layers=3
    )
    with pytest.raises(FormatError, match="weights that F16 cannot hold"):
        merged(source, [huge], tmp_path / "ours2")


def test_the_threads_do_not_change_a_bit(base: Path, tmp_path: Path) -> None:
    from citrate.formats.merging_adapters import AdapterMerge
    from citrate.formats.merging_writing import Output, write_merged

    adapter = trained(base, tmp_path / "adapter", **ALL)
    model = open_model(base)
    for threads in (1, 3):
        work = AdapterMerge(model, [open_for_merging(adapter, model, "it")], [0.5], How(Method.CAT))
        write_merged(model, work, Output(FolderSink(tmp_path / str(threads)), {}, threads=threads))
    assert differing(tmp_path / "1", tmp_path / "3") == 0
    config = json.loads((tmp_path / "1" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and values(tmp_path / "1")
