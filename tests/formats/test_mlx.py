"""The MLX variant holds the arrays of ``mx.quantize`` and loads in mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import Convert, make_llama

from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import inspect, open_model, possible_variants, require_possible

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


def mixed(root: Path) -> Path:
    """Norms in float32 in a bfloat16 model, and a configuration that asks for one type."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(root / "model.safetensors")
    save_file(
        {name: tensor.float() if tensor.dim() == 1 else tensor for name, tensor in tensors.items()},
        root / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    return root


def test_weights_get_the_type_that_the_configuration_asks_for_as_with_mlx_lm(
    tmp_path: Path, converted: Convert
) -> None:
    import mlx.core as mx
    from mlx_lm.convert import convert

    root = mixed(make_llama(tmp_path / "mixed", layers=1))
    for variant, settings in (("mlx", {}), ("mlx:4bit", {"quantize": True})):
        artifact, conversion = converted(open_model(root), variant)
        convert(str(root), mlx_path=str(tmp_path / f"theirs-{bool(settings)}"), **settings)
        found = mx.load(str(artifact / "model.safetensors"))
        theirs = mx.load(str(tmp_path / f"theirs-{bool(settings)}" / "model.safetensors"))
        assert found.keys() == theirs.keys()
        for name, array in theirs.items():
            assert found[name].dtype == array.dtype and mx.array_equal(found[name], array).item(), name
        assert "tensor error F16" in {check.name for check in conversion.checks}


def test_a_weight_that_the_asked_type_cannot_hold_is_refused(tmp_path: Path, converted: Convert) -> None:
    from safetensors.torch import load_file, save_file

    root = mixed(make_llama(tmp_path / "mixed", layers=1))
    tensors = load_file(root / "model.safetensors")
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, root / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"'model.norm.weight' holds a weight too large for F16"):
        converted(open_model(root), "mlx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 7}, "7 bits in groups of 64 are not credible"),
        ({"bits": "4"}, "not credible"),
        ({"group_size": 0}, "not credible"),
        ({"bits": 8}, "are not of 8 bits in groups of 64"),
        ({"group_size": 32}, "are not of 4 bits in groups of 32"),
        ({"model.layers.0.mlp.up_proj": {"bits": 8, "group_size": 64}}, "up_proj: codes"),
    ],
)
def test_a_quantization_that_the_arrays_do_not_have_is_refused(
    settings: dict[str, object], message: str, llama: Path, converted: Convert
) -> None:
    artifact, _ = converted(open_model(llama), "mlx:4bit")
    config = json.loads((artifact / "config.json").read_text())
    changed = {**config["quantization"], **settings}
    (artifact / "config.json").write_text(json.dumps({**config, "quantization": changed}))
    with pytest.raises(FormatError, match=message):
        inspect(artifact)
    with pytest.raises(FormatError, match=message):
        converted(open_model(artifact), "safetensors")


def test_a_directory_that_mlx_lm_mixed_of_several_widths_is_decoded(llama: Path, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.convert import convert as reference
    from tiny_models import FolderSink

    from citrate.formats import convert

    reference(str(llama), mlx_path=str(tmp_path / "mixed"), quantize=True, quant_predicate="mixed_3_6")
    reference(str(tmp_path / "mixed"), mlx_path=str(tmp_path / "theirs"), dequantize=True)
    report = convert(open_model(tmp_path / "mixed"), Variant.parse("safetensors"), FolderSink(tmp_path / "ours"))
    assert report.arguments == {"decoded": "mlx affine, 3 bits in groups of 64 and 6 bits in groups of 64"}
    found, theirs = (mx.load(str(tmp_path / side / "model.safetensors")) for side in ("ours", "theirs"))
    assert found.keys() == theirs.keys()
    assert all(mx.array_equal(found[name], array).item() for name, array in theirs.items())
    assert inspect(tmp_path / "mixed").findings[-1].startswith("quantised for MLX (affine, 3 bits")


def test_a_quantization_that_citrate_does_not_decode_is_inspected_and_refused(llama: Path, tmp_path: Path) -> None:
    from mlx_lm.convert import convert as reference
    from tiny_models import FolderSink

    from citrate.formats import convert

    reference(str(llama), mlx_path=str(tmp_path / "mxfp4"), quantize=True, q_mode="mxfp4")
    found = inspect(tmp_path / "mxfp4")
    assert found.format == "mlx" and "quantised as 'mxfp4'" in found.findings[-1]
    with pytest.raises(UnsupportedConversionError, match="quantised as 'mxfp4'"):
        convert(open_model(tmp_path / "mxfp4"), Variant.parse("safetensors"), FolderSink(tmp_path / "out"))


def test_stacks_of_matrices_of_a_family_that_citrate_does_not_know_are_decoded(tmp_path: Path) -> None:
    import mlx.core as mx
    from tiny_models import FolderSink

    from citrate.formats import convert

    root, name = tmp_path / "experts", "model.layers.0.mlp.switch_mlp.up_proj"
    root.mkdir()
    weights = mx.random.normal((4, 48, 128)).astype(mx.bfloat16)
    parts = mx.quantize(weights, group_size=64, bits=4)
    arrays = {f"{name}.{part}": array for part, array in zip(("weight", "scales", "biases"), parts, strict=True)}
    mx.save_safetensors(str(root / "model.safetensors"), {**arrays, "model.norm.weight": mx.ones(128)})
    config = {"architectures": ["SomeMoeForCausalLM"], "quantization": {"bits": 4, "group_size": 64}}
    (root / "config.json").write_text(json.dumps(config))
    assert (inspect(root).format, inspect(root).parameters) == ("mlx", weights.size + 128)
    convert(open_model(root), Variant.parse("safetensors"), FolderSink(tmp_path / "out"))
    found = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert mx.array_equal(found[f"{name}.weight"], mx.dequantize(*parts, group_size=64, bits=4)).item()
    assert found.keys() == {f"{name}.weight", "model.norm.weight"}


def test_what_is_quantised_becomes_nothing_else(llama: Path, converted: Convert) -> None:
    artifact, _ = converted(open_model(llama), "mlx:8bit")
    model = open_model(artifact)
    assert [str(variant) for variant in possible_variants(model)] == ["safetensors"]
    with pytest.raises(UnsupportedConversionError, match="quantised already"):
        require_possible(model, Variant.parse("gguf:Q8_0"))
