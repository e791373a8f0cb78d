"""The gates pass what is right and fail planted faults, naming check, value and limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import Convert, make_llama

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import Variant
from citrate.formats import check, default_check_level, gguf, gguf_writing, open_model, possible_variants
from citrate.formats.gguf_file import read_header
from citrate.formats.measure import BlockErrors, TensorErrors, compare, rounded_up

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose predictions are far from flat, so that a fault shows in them."""
    import torch
    from transformers import AutoModelForCausalLM

    root = make_llama(tmp_path_factory.mktemp("sharp") / "source", vocab=600, layers=3)
    network = AutoModelForCausalLM.from_pretrained(root, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(4)
            elif parameter.dim() == 2:
                parameter.mul_(2.5)
    network.save_pretrained(root)
    return root


def test_every_variant_of_a_sound_model_passes(sharp: Path, converted: Convert) -> None:
    model = open_model(sharp)
    for variant in map(Variant.parse, ("safetensors", "gguf:F16", "gguf:Q6_K", "gguf:Q4_K_M", "mlx:4bit")):
        assert variant in possible_variants(model)
        assert default_check_level(model, variant) == "full"
        path, conversion = converted(model, str(variant))
        results = {result.name: result for result in (*conversion.checks, *check(model, variant, path))}
        assert all(result.passed for result in results.values())
        assert results["tokens"].value == "0"
        assert results["logits"].limit != ""


def test_queries_and_keys_that_were_not_permuted_fail(
    sharp: Path, converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_writing, "_permuted", lambda values, _rows, _head_dim: values)
    model = open_model(sharp)
    for quantization, limit in (("Q8_0", "0.01"), ("Q4_K_M", "0.2"), ("F16", "0.0001")):
        path, _ = converted(model, f"gguf:{quantization}")
        with pytest.raises(FormatError, match=f"check 'logits' failed .* limit {limit}"):
            check(model, Variant.parse(f"gguf:{quantization}"), path)


def test_one_wrong_scale_in_a_file_fails(sharp: Path, converted: Convert) -> None:
    model = open_model(sharp)
    path, _ = converted(model, "gguf:Q8_0")
    tensor = next(t for t in read_header(path).tensors if t.name == "blk.1.ffn_down.weight")
    with path.open("r+b") as file:
        file.seek(tensor.offset)
        scale = np.frombuffer(file.read(2), np.float16)[0]
        file.seek(tensor.offset)
        file.write(np.float16(scale * 300).tobytes())
    with pytest.raises(FormatError, match="check 'logits' failed"):
        check(model, Variant.parse("gguf:Q8_0"), path)


@pytest.mark.parametrize("variant", ["gguf:Q8_0", "gguf:Q4_K_M"])
def test_one_wrong_scale_from_the_encoder_stops_the_conversion(
    variant: str, llama: Path, converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    from citrate.formats import encoding

    run = encoding.written

    def faulty(type_name: str, source: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        out = run(type_name, source)
        if type_name in ("Q8_0", "Q4_K"):
            out[:2] = (out[:2].view(np.float16) * np.float16(1.5)).view(np.uint8)  # the first block's scale
        return out

    monkeypatch.setattr(encoding, "written", faulty)
    with pytest.raises(FormatError, match=r"check 'tensor error Q._.' failed: .*, limit 0\."):
        converted(open_model(llama), variant)


def test_another_tokenizer_fails(sharp: Path, converted: Convert, tmp_path: Path) -> None:
    model = open_model(sharp)
    path, _ = converted(model, "gguf:Q8_0")
    other = tmp_path / "other"
    shutil.copytree(sharp, other)
    document = json.loads((other / "tokenizer.json").read_text())
    document["model"]["merges"].remove(["o", "r"])
    (other / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(
        FormatError, match=r"'tokens' failed for gguf:Q8_0: \d+ of \d+ lines, limit 0; the first is line"
    ):
        check(open_model(other), Variant.parse("gguf:Q8_0"), path, level="tensors")


def test_a_file_that_llama_cpp_cannot_load_is_an_error_and_not_an_abort(sharp: Path, converted: Convert) -> None:
    model = open_model(sharp)
    path, _ = converted(model, "gguf:Q8_0")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"llama.block_count\x04\0\0\0\x03", b"llama.block_count\x04\0\0\0\xff"))
    with pytest.raises(FormatError, match=r"llama\.cpp cannot use what was written"):
        gguf.outputs(model, path)


def test_the_level_tensors_says_that_logits_were_not_run(llama: Path, converted: Convert) -> None:
    model = open_model(llama)
    path, _ = converted(model, "gguf:Q4_K_M")
    tokens, *_, logits = check(model, Variant.parse("gguf:Q4_K_M"), path, level="tensors")
    assert (tokens.value, logits.name, logits.value) == ("0", "logits", "not run")
    with pytest.raises(ConfigError, match="unknown check level"):
        check(model, Variant.parse("gguf:Q4_K_M"), path, level="none")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00012345, "0.00013"),
        (0.1, "0.1"),
        (0.1001, "0.11"),
        (0.999, "1"),
        (12.3, "13"),
        (1e-9, "0.000000001"),
    ],
)
def test_values_are_rounded_up_to_two_digits(value: float, text: str) -> None:
    assert rounded_up(value) == text


def test_quiet_blocks_are_judged_by_their_tensor() -> None:
    weights = np.ones(1024, np.float32)
    weights[:256] = 1e-12
    decoded = weights.copy()
    decoded[:256] = 0
    checks = TensorErrors()
    checks.judge("x", "Q8_0", [compare(weights, decoded)])
    decoded[256] = 2
    with pytest.raises(FormatError, match="tensor error Q8_0"):
        checks.judge("x", "Q8_0", [compare(weights, decoded)])
    assert isinstance(compare(weights, decoded), BlockErrors)
