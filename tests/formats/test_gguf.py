"""GGUF files are llama.cpp's own, byte for byte, whatever the sharding, the folder or the number of threads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edit_model import edited
from ggml_oracle import model_quantize
from tiny_models import Convert, make_llama, make_sentencepiece

from citrate.core.errors import UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import check, convert, open_model, possible_variants, require_possible
from citrate.formats.gguf_file import read_header
from citrate.formats.vocabulary import read_vocabulary
from citrate.formats.vocabulary_tokens import TokenKind


@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q8_0"])
@pytest.mark.parametrize("fixture", ["llama", "tied_llama"])
def test_a_whole_file_is_what_llama_cpp_quantizes_from_bfloat16(
    fixture: str, quantization: str, request: pytest.FixtureRequest, converted: Convert, tmp_path: Path
) -> None:
    model = open_model(request.getfixturevalue(fixture))
    ours, _ = converted(model, f"gguf:{quantization}")
    unquantized, _ = converted(model, "gguf:BF16")
    theirs = tmp_path / "reference.gguf"
    model_quantize(unquantized, theirs, {"Q4_K_M": 15, "Q8_0": 7}[quantization])
    assert ours.read_bytes() == theirs.read_bytes()


def test_rows_that_do_not_divide_fall_back_as_in_llama_cpp(tied_llama: Path, converted: Convert) -> None:
    path, _ = converted(open_model(tied_llama), "gguf:Q4_K_M")
    types = {tensor.name: tensor.type_name for tensor in read_header(path).tensors}
    assert types["token_embd.weight"] == "Q8_0"  # tied: also the output
    assert types["blk.3.attn_q.weight"] == "Q5_0"
    assert types["blk.10.ffn_down.weight"] == "Q8_0"  # more bits in the last eighth


def test_a_source_in_float16_is_quantized_from_float16(tmp_path: Path, converted: Convert) -> None:
    model = open_model(make_llama(tmp_path / "half", dtype="float16", layers=1))
    path, conversion = converted(model, "gguf:Q4_K_M")
    assert conversion.source_dtype == "F16"
    unquantized, _ = converted(model, "gguf:F16")
    model_quantize(unquantized, tmp_path / "reference.gguf", 15)
    assert path.read_bytes() == (tmp_path / "reference.gguf").read_bytes()


def test_folder_name_shards_and_threads_do_not_change_a_byte(llama: Path, tmp_path: Path, converted: Convert) -> None:
    moved = tmp_path / "another-name"
    shutil.copytree(llama, moved)
    first, _ = converted(open_model(llama), "gguf:Q4_K_M", threads=1)
    second, _ = converted(open_model(moved), "gguf:Q4_K_M", threads=3)
    assert first.read_bytes() == second.read_bytes()


def test_no_path_of_this_machine_is_written(llama: Path, converted: Convert) -> None:
    for variant in ("gguf:Q8_0", "gguf:F16"):
        path, _ = converted(open_model(llama), variant)
        assert str(llama.parent).encode() not in path.read_bytes()
        assert path.name == f"tiny-{variant.partition(':')[2]}.gguf"


def test_metadata_is_complete(llama: Path, converted: Convert) -> None:
    path, _ = converted(open_model(llama), "gguf:Q4_K_M")
    header = read_header(path)
    assert header.text("general.architecture") == "llama"
    assert header.text("general.name") == "tiny"
    assert header.text("general.license") == "Apache-2.0"
    assert header.integer("llama.attention.head_count_kv") == 2
    assert header.integer("general.file_type") == 15
    assert header.text("tokenizer.ggml.pre") == "smaug-bpe"
    assert "<|start|>" in header.text("tokenizer.chat_template")
    assert "rope_freqs.weight" in {tensor.name for tensor in header.tensors}
    assert all(tensor.offset % 32 == 0 for tensor in header.tensors)


def test_rotary_factors_of_llama_3_are_those_of_transformers(llama: Path, converted: Convert) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    path, _ = converted(open_model(llama), "gguf:F16")
    tensor = next(t for t in read_header(path).tensors if t.name == "rope_freqs.weight")
    factors = np.frombuffer(path.read_bytes()[tensor.offset :][: tensor.size_bytes], np.float32)
    config = LlamaConfig.from_pretrained(llama)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1 / 50000.0 ** (np.arange(0, 32, 2) / 32)
    assert np.allclose(factors, plain / scaled.numpy(), rtol=1e-5)


def test_added_tokens_are_control_tokens_and_padding_is_unused(llama: Path) -> None:
    model = open_model(llama)
    vocabulary = read_vocabulary(model.root, model.config)
    begin = vocabulary.ends.ids["bos"]
    assert vocabulary.lexicon.tokens[begin] == "<|begin|>"
    assert vocabulary.lexicon.kinds[begin] is TokenKind.CONTROL
    assert vocabulary.ends.added == {"bos": True, "sep": False}


@pytest.mark.parametrize("scheme", ["", "never"])
def test_a_sentencepiece_tokenizer_tokenises_alike(
    scheme: str, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    root = make_sentencepiece(edited(llama, tmp_path / "m"), scheme=scheme)
    model = open_model(root)
    path, _ = converted(model, "gguf:Q8_0")
    assert read_header(path).text("tokenizer.ggml.model") == "llama"
    assert check(model, Variant.parse("gguf:Q8_0"), path)[0].value == "0"


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_space_that_llama_cpp_cannot_leave_out_is_told(
    scheme: str, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    model = open_model(make_sentencepiece(edited(llama, tmp_path / "m"), scheme=scheme))
    path, _ = converted(model, "gguf:Q8_0")
    tokens, spaces, *_ = check(model, Variant.parse("gguf:Q8_0"), path, level="tensors")
    assert (tokens.name, tokens.value) == ("tokens", "0")
    assert spaces.name == "tokens: spaces in front"
    assert int(spaces.value) >= 20


def test_spaces_that_stand_for_themselves_are_refused(llama: Path, tmp_path: Path) -> None:
    root = make_sentencepiece(edited(llama, tmp_path / "m"), scheme="first")
    document = json.loads((root / "tokenizer.json").read_text())
    document["pre_tokenizer"]["split"] = True
    (root / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UnsupportedConversionError, match="treats spaces in a way"):
        require_possible(open_model(root), Variant.parse("gguf:Q8_0"))


Edit = Callable[[dict[str, object]], None]


def _bias(config: dict[str, object]) -> None:
    config["attention_bias"] = True


def _dynamic(config: dict[str, object]) -> None:
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}


def _other(config: dict[str, object]) -> None:
    config["architectures"] = ["GPT2LMHeadModel"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_bias, "attention_bias"),
        (_dynamic, "dynamic"),
        (_other, "citrate converts LlamaForCausalLM, MistralForCausalLM"),
    ],
)
def test_what_cannot_be_converted_says_why_and_what_is_possible(
    edit: Edit, reason: str, llama: Path, tmp_path: Path
) -> None:
    model = open_model(edited(llama, tmp_path / "edited", config=edit))
    assert [str(variant) for variant in possible_variants(model)] == ["safetensors"]
    with pytest.raises(UnsupportedConversionError, match=reason) as raised:
        require_possible(model, Variant.parse("gguf:Q4_K_M"))
    assert raised.value.hint == "possible: safetensors"


def test_an_unknown_quantization_lists_what_is_possible(llama: Path, tmp_path: Path) -> None:
    from tiny_models import FolderSink

    model, sink = open_model(llama), FolderSink(tmp_path / "none")
    for variant in ("gguf:Q3_K_S", "gguf:Q8_0@sm90", "tensorrt_llm:fp8@sm70", "tensorrt_llm:fp8", "mlx:7bit"):
        with pytest.raises(UnsupportedConversionError, match=variant) as raised:
            convert(model, Variant.parse(variant), sink)
        assert "gguf:Q4_K_M" in raised.value.hint
    assert not sink.root.exists()


def test_an_output_matrix_that_a_tied_model_stores_is_left_out(
    tied_llama: Path, tmp_path: Path, converted: Convert
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor for path in tied_llama.glob("*.safetensors") for name, tensor in load_file(path).items()}
    root = edited(tied_llama, tmp_path / "m")
    for path in (*root.glob("*.safetensors"), root / "model.safetensors.index.json"):
        path.unlink()
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, root / "model.safetensors")
    stored, _ = converted(open_model(root), "gguf:Q8_0", threads=1)
    plain, _ = converted(open_model(tied_llama), "gguf:Q8_0", threads=2)
    assert stored.read_bytes() == plain.read_bytes()
