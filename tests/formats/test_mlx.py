"""The MLX variant holds the arrays of ``mx.quantize`` and loads in mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import Convert, make_llama

from citrate.formats import inspect, open_model

pytestmark = pytest.mark.models


@pytest.mark.parametrize("fixture", ["llama", "tied_llama"])
def test_every_array_is_what_mlx_makes(fixture: str, request: pytest.FixtureRequest, converted: Convert) -> None:
    import mlx.core as mx

    root: Path = request.getfixturevalue(fixture)
    artifact, _ = converted(open_model(root), "mlx:4bit")
    found = mx.load(str(artifact / "model.safetensors"))
    sources = {name: array for path in root.glob("*.safetensors") for name, array in mx.load(str(path)).items()}
    expected: dict[str, mx.array] = {}
    for name, array in sources.items():
        if array.ndim == 2:
            codes, scales, biases = mx.quantize(array, group_size=64, bits=4)
            base = name.removesuffix("weight")
            expected |= {name: codes, base + "scales": scales, base + "biases": biases}
        else:
            expected[name] = array
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert mx.array_equal(found[name], array).item(), name


def test_half_precision_sources_keep_their_type(tmp_path: Path, converted: Convert) -> None:
    import mlx.core as mx

    root = make_llama(tmp_path / "half", dtype="float16", layers=1)
    artifact, _ = converted(open_model(root), "mlx:4bit")
    found = mx.load(str(artifact / "model.safetensors"))
    name = "model.layers.0.mlp.up_proj."
    source = mx.load(str(root / "model.safetensors"))[name + "weight"]
    for ours, theirs in zip(
        (found[name + part] for part in ("weight", "scales", "biases")),
        mx.quantize(source, group_size=64, bits=4),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        assert mx.array_equal(ours, theirs).item()


def test_mlx_lm_loads_it_and_predicts_like_the_source(llama: Path, converted: Convert) -> None:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    from citrate.formats.checks.divergence import mean_divergence
    from citrate.formats.checks.reference import positions, source_outputs

    model = open_model(llama)
    artifact, _ = converted(model, "mlx:4bit")
    network, config = load_model(artifact)
    assert config["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"}
    parts = [np.array(network(mx.array([list(ids)])).astype(mx.float32))[0] for ids in positions(model)]
    assert mean_divergence(source_outputs(model), np.concatenate(parts)) < 0.2


def test_the_index_and_the_configuration_are_those_of_mlx_lm(llama: Path, converted: Convert) -> None:
    artifact, conversion = converted(open_model(llama), "mlx:4bit")
    config = json.loads((artifact / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    assert config["rope_scaling"]["factor"] == 8.0
    index = json.loads((artifact / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model.safetensors"}
    assert "model.embed_tokens.scales" in index["weight_map"]
    assert conversion.arguments == {"bits": "4", "group_size": "64", "mode": "affine"}
    found = inspect(artifact)
    assert (found.format, found.parameters) == ("mlx", inspect(llama).parameters)


def test_threads_do_not_change_a_byte(llama: Path, converted: Convert) -> None:
    first, _ = converted(open_model(llama), "mlx:4bit", threads=1)
    second, _ = converted(open_model(llama), "mlx:4bit", threads=4)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
