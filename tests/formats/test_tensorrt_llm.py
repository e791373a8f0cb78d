"""A quantised checkpoint of the sample model: whole, near its source, the same bytes twice; each fault is named."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tiny_models import FolderSink

from citrate.core.confinement import sandbox
from citrate.core.errors import BackendMissingError, FormatError, UnavailableError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import (
    Conversion,
    SourceModel,
    check,
    convert,
    convert_all,
    inspect,
    open_model,
    possible_variants,
    require_possible,
    toolchain,
    why_impossible,
)
from citrate.formats.tensorrt import calibration, decoding, judging, making
from citrate.formats.tensorrt.schemes import SCHEMES

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("modelopt")]

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
VARIANTS = {name: Variant.parse(f"tensorrt_llm:{name}@{scheme.targets[0]}") for name, scheme in SCHEMES.items()}
OTHER = Variant.parse("tensorrt_llm:fp8@sm90")
Made = tuple[Path, Mapping[Variant, Conversion]]


@pytest.fixture(scope="module")
def sample() -> SourceModel:
    return open_model(SAMPLE)


LAST_WORDS = """
import atexit, json, resource, socket
def say():
    try:
        socket.socket().close()
        network = "open"
    except PermissionError:
        network = "shut"
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open({path!r}, "w") as file:
        json.dump([network, limits[0] != resource.RLIM_INFINITY], file)
atexit.register(say)
"""
"""What a child of ours tells at its end of the walls around it."""


@pytest.fixture(scope="module")
def made(sample: SourceModel, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every quantization, by one child, which leaves its last words beside; fp8 for both of its architectures."""
    root = tmp_path_factory.mktemp("tensorrt")
    sinks = {variant: FolderSink(root / name) for name, variant in VARIANTS.items()}
    (root / "python").mkdir()
    (root / "python" / "sitecustomize.py").write_text(LAST_WORDS.format(path=str(root / "walls.json")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root / "python"), prepend=os.pathsep)
        done = convert_all(sample, {**sinks, OTHER: FolderSink(root / "other")}, name="tiny", threads=2)
    assert all(sink.sizes_kept() for sink in sinks.values())
    return root, done


def test_every_architecture_of_a_decoder_has_its_variant(sample: SourceModel) -> None:
    found = [str(variant) for variant in possible_variants(sample) if variant.format == "tensorrt_llm"]
    assert found == [
        "tensorrt_llm:fp8@sm89", "tensorrt_llm:fp8@sm90", "tensorrt_llm:nvfp4@sm100", "tensorrt_llm:nvfp4@sm120",
        "tensorrt_llm:w4a16_awq@sm80", "tensorrt_llm:w4a16_awq@sm86",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SCHEMES)
def test_a_checkpoint_passes_every_gate(name: str, sample: SourceModel, made: Made) -> None:
    root, done = made
    written = (*done[VARIANTS[name]].checks, *check(sample, VARIANTS[name], root / name))
    results = {result.name: result for result in written}
    assert all(result.passed for result in results.values())
    assert set(results) == {"structure", f"tensor error {name}", "tokens", "round trip", "metadata", "logits"}
    assert 0 < float(results["logits"].value) <= float(results["logits"].limit)


def test_lineage_tells_what_the_bytes_depend_on(made: Made) -> None:
    arguments = made[1][VARIANTS["fp8"]].arguments
    assert arguments["calibration_sha256"] == calibration.sha256()
    assert arguments["recipe"] == "FP8_DEFAULT_CFG"
    assert arguments["modelopt"].startswith("0.47.")
    assert {"torch", "transformers"} <= arguments.keys()


def test_a_checkpoint_is_what_transformers_and_tensorrt_llm_look_for(made: Made) -> None:
    for name, scheme in SCHEMES.items():
        config = json.loads((made[0] / name / "config.json").read_text())
        beside = json.loads((made[0] / name / "hf_quant_config.json").read_text())
        assert config["quantization_config"]["quant_method"] == "modelopt"
        assert config["quantization_config"]["quant_algo"] == beside["quantization"]["quant_algo"] == scheme.algorithm
        assert beside["quantization"]["exclude_modules"] == ["lm_head", "model.embed_tokens"]
        assert config["dtype"] == "bfloat16"
        assert {"tokenizer.json", "generation_config.json", "LICENSE"} <= {f.name for f in (made[0] / name).iterdir()}


def test_two_runs_on_one_and_two_threads_give_the_same_bytes(
    sample: SourceModel, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "another-name"
    shutil.copytree(SAMPLE, source)
    sinks = {variant: FolderSink(tmp_path / name) for name, variant in VARIANTS.items()}
    convert_all(open_model(source), sinks, name="tiny", threads=1)
    for name in (*VARIANTS, "other"):
        again = tmp_path / ("fp8" if name == "other" else name)
        files = sorted(path.name for path in again.iterdir())
        assert files == sorted(path.name for path in (made[0] / name).iterdir())
        assert all((again / file).read_bytes() == (made[0] / name / file).read_bytes() for file in files)


def test_the_decoded_weights_are_those_that_modelopt_decodes(made: Made) -> None:
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    from safetensors.torch import load_file

    layer = "model.layers.1.mlp.down_proj"
    for name in ("fp8", "nvfp4"):
        tensors = load_file(made[0] / name / "model.safetensors")
        codes, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"]
        if name == "fp8":
            theirs = codes.to(torch.float32) * scale
        else:
            shape = torch.Size((codes.shape[0], 2 * codes.shape[1]))
            packed = NVFP4QTensor(shape, torch.float32, codes)
            double = tensors[f"{layer}.weight_scale_2"]
            theirs = packed.dequantize(torch.float32, scale=scale, double_scale=double, block_sizes={-1: 16})
        ours = decoding.matrices(open_model(made[0] / name), SCHEMES[name])[f"{layer}.weight"]
        assert np.array_equal(np.concatenate([rows for _, rows in ours.pieces()]), theirs.numpy().reshape(-1))


def test_inputs_are_rounded_as_modelopt_rounds_them() -> None:
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    from modelopt.torch.quantization.tensor_quant import scaled_e4m3

    x = 3 * torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    x[3], x[5, :16], x[6, 0] = 0, 1e-9, 40
    largest = x.abs().max() * 0.8  # some values are clipped
    theirs = scaled_e4m3(x, largest, None, 4, 3)
    assert torch.equal(decoding._round_e4m3(x, float(largest) / 448), theirs)
    step = largest / 6 / 448
    packed, scale, double = NVFP4QTensor.quantize(x, 16, None, step)
    theirs = packed.dequantize(torch.float32, scale=scale, double_scale=double, block_sizes={-1: 16})
    assert torch.equal(decoding._round_e2m1(x, float(step)), theirs)


def _planted(root: Path, name: str, change: object, tmp_path: Path) -> SourceModel:
    """A copy of a checkpoint with one of its tensors changed."""
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "planted"
    shutil.copytree(root / name, copy)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return open_model(copy)


def _swap(tensors: dict[str, object]) -> None:
    gate, up = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))
    tensors[gate], tensors[up] = tensors[up], tensors[gate]


FAULTS = {
    "a scale is missing": (
        "fp8",
        lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.input_scale"),
        "check 'structure' failed .* tensor model.layers.2.mlp.up_proj.input_scale is missing",
    ),
    "a scale is not positive": (
        "nvfp4",
        lambda tensors: tensors["model.layers.0.mlp.up_proj.weight_scale_2"].fill_(0),
        "tensor model.layers.0.mlp.up_proj.weight_scale_2 is not positive",
    ),
    "a matrix is not packed": (
        "nvfp4",
        lambda tensors: tensors.update(
            {"model.layers.0.mlp.up_proj.weight": tensors["model.layers.0.mlp.up_proj.weight"].repeat(1, 2)}
        ),
        r"up_proj.weight is U8 \[512, 256\], not U8 \[512, 128\]",
    ),
    "two matrices are swapped": ("fp8", _swap, r"check 'tensor error fp8' failed: .*gate_proj.weight is .* limit 0.07"),
    "one scale is wrong": (
        "w4a16_awq",
        lambda tensors: tensors["model.layers.1.self_attn.q_proj.weight_scale"][5, 0].mul_(3),
        r"check 'tensor error w4a16_awq' failed: model.layers.1.self_attn.q_proj.weight is .* limit 0.4",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, sample: SourceModel, made: Made, tmp_path: Path) -> None:
    name, change, message = FAULTS[fault]
    planted = _planted(made[0], name, change, tmp_path)
    with pytest.raises(FormatError, match=message):
        judging.judge(VARIANTS[name], sample, planted, SCHEMES[name])


def test_inputs_rounded_by_a_wrong_scale_fail_the_logits(sample: SourceModel, made: Made, tmp_path: Path) -> None:
    def change(tensors: dict[str, object]) -> None:
        for name, tensor in tensors.items():
            if name.endswith("input_scale"):
                tensor.mul_(0.02)  # type: ignore[attr-defined]

    planted = _planted(made[0], "fp8", change, tmp_path)
    with pytest.raises(FormatError, match=r"check 'logits' failed for tensorrt_llm:fp8@sm89: .* limit 0.05"):
        check(sample, VARIANTS["fp8"], planted.root)


def test_another_algorithm_than_the_variants_fails_the_metadata(sample: SourceModel, made: Made) -> None:
    with pytest.raises(FormatError, match=r"check 'metadata' failed .* quant_algo is 'FP8', not NVFP4"):
        check(sample, VARIANTS["nvfp4"], made[0] / "fp8", level="tensors")


def test_without_modelopt_the_extra_is_named(
    sample: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making.importlib.util, "find_spec", lambda name: None if name == "modelopt" else object())
    sink = FolderSink(tmp_path / "none")
    with pytest.raises(BackendMissingError, match="need modelopt") as raised:
        convert(sample, VARIANTS["fp8"], sink)
    assert raised.value.hint == "pip install 'citrate[nvidia,gguf]'"
    assert not sink.root.exists()


def test_a_model_that_memory_does_not_hold_is_refused_before_it_is_read(
    sample: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_LIBRARIES", 1 << 50)
    with pytest.raises(UnavailableError, match=r"ModelOpt takes .* GB of memory"):
        convert(sample, VARIANTS["fp8"], FolderSink(tmp_path / "none"))


walled = pytest.mark.skipif(
    sys.platform != "linux" or sandbox.has_gpu_nodes(),
    reason="elsewhere the kernel has no such walls; a GPU's driver reserves address space by the terabyte",
)


@walled
def test_modelopt_is_offline_and_has_a_limit_of_memory(made: Made) -> None:
    assert json.loads((made[0] / "walls.json").read_text()) == ["shut", True]


def test_modelopt_is_ended_after_its_time(sample: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_SECONDS", 0.0)
    monkeypatch.setattr(making, "_SECONDS_A_MILLION", 0.0)
    with pytest.raises(UnavailableError, match="ModelOpt was not done within 0 s"):
        convert(sample, VARIANTS["fp8"], FolderSink(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@walled
def test_modelopt_gets_no_more_memory_than_was_reckoned(
    sample: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_MAPPED", -making._LIBRARIES)  # the model's own 4 bytes a weight are left
    monkeypatch.setattr(making, "_MAPPED_A_THREAD", 0)
    with pytest.raises(UnavailableError, match="more memory than") as raised:
        convert(sample, VARIANTS["fp8"], FolderSink(tmp_path / "none"))
    assert "add them on a larger machine" in str(raised.value.hint)


def test_what_modelopt_made_is_inspected_with_the_weights_that_it_stands_for(sample: SourceModel, made: Made) -> None:
    for name, scheme in SCHEMES.items():
        found = inspect(made[0] / name)
        assert (found.format, found.parameters) == ("tensorrt_llm", sample.architecture.parameters), name
        assert any(scheme.algorithm in finding for finding in found.findings)


def test_without_a_tokenizer_there_is_no_variant_since_nothing_could_be_measured(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SAMPLE, source, ignore=shutil.ignore_patterns("tokenizer.json"))
    model = open_model(source)
    assert not [variant for variant in possible_variants(model) if variant.format == "tensorrt_llm"]
    assert why_impossible(model, OTHER) == "activations cannot be measured without tokenizer.json"


def test_the_toolchain_is_what_lineage_tells(made: Made) -> None:
    for variant, conversion in made[1].items():
        assert toolchain(variant) == conversion.arguments
    assert toolchain(Variant.parse("gguf:Q8_0")) == {}


def test_widths_that_no_group_divides_are_refused(tied_llama: Path) -> None:
    model = open_model(tied_llama)  # 192 columns: no whole number of groups of 128
    with pytest.raises(UnsupportedConversionError, match="tensorrt_llm:w4a16_awq@sm80"):
        require_possible(model, Variant.parse("tensorrt_llm:w4a16_awq@sm80"))
    require_possible(model, Variant.parse("tensorrt_llm:nvfp4@sm100"))


def test_the_calibration_text_has_its_eight_sections(sample: SourceModel) -> None:
    sequences = calibration.sequences(sample)
    assert [len(ids) for ids in sequences] == [512] * 8
    assert all(token < sample.config.vocab_size for ids in sequences for token in ids)


def test_the_table_of_e4m3_is_torchs() -> None:
    import torch

    codes = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(decoding._e4m3(), codes.view(torch.float8_e4m3fn).to(torch.float32).numpy(), equal_nan=True)
