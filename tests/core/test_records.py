from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.core.errors import ConfigError
from citrate.core.records import Architecture, Format, Reference, Variant, did_you_mean

PUBLISHER = "0x52908400098527886E0F7030069857D2E4169EE7"
PARTS = st.from_regex(re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,14}"), fullmatch=True)


@pytest.mark.parametrize("text", ["safetensors", "gguf:Q4_K_M", "gguf:F16", "mlx:4bit", "tensorrt_llm:fp8@sm90"])
def test_variant_text_is_read_back(text: str) -> None:
    assert str(Variant.parse(text)) == text


@given(st.sampled_from(Format), st.one_of(st.just(""), PARTS), st.one_of(st.just(""), PARTS))
def test_every_variant_is_read_back(format_: Format, quantization: str, target: str) -> None:
    variant = Variant(format_, quantization, target)
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize("text", ["", "pickle", "gguf:", "gguf:Q4@", "gguf:" + "Q" * 16, "gguf:Q4 K", "GGUF:Q4"])
def test_variant_refuses_what_the_chain_would_refuse(text: str) -> None:
    with pytest.raises(ConfigError):
        Variant.parse(text)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("safetensor", "did you mean safetensors? "),
        ("GGUF:Q4_K_M", "did you mean gguf:Q4_K_M? "),
        ("tensorrt-llm:fp8@sm90", "did you mean tensorrt_llm:fp8@sm90? "),
        ("onnx", ""),
    ],
)
def test_a_misspelt_format_is_told_with_what_was_meant(text: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Variant.parse(text)
    assert caught.value.hint == f"{suggestion}formats: safetensors, gguf, mlx, tensorrt_llm; for example gguf:Q4_K_M"


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("gguf:f16", "did you mean gguf:F16? "),
        ("mlx:4-bit", "did you mean mlx:4bit? "),
        ("tensorrt_llm:FP8@SM90", "did you mean tensorrt_llm:fp8@sm90? "),
        ("gguf:Q4_0", ""),
        ("mlx:F16", ""),
        ("gguf", ""),
    ],
)
def test_a_misspelt_variant_is_told_with_what_was_meant(text: str, suggestion: str) -> None:
    there = "gguf:F16 gguf:Q8_0 mlx mlx:4bit safetensors tensorrt_llm:fp8@sm89 tensorrt_llm:fp8@sm90"
    assert did_you_mean(Variant.parse(text), map(Variant.parse, there.split())) == suggestion


def test_format_numbers_are_those_of_the_contract() -> None:
    assert [(f.value, f.number) for f in Format] == [("safetensors", 1), ("gguf", 2), ("mlx", 3), ("tensorrt_llm", 4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{PUBLISHER}/llama", Reference(PUBLISHER, "llama", alias="latest")),
        ("me/llama@1.0.0", Reference("me", "llama", version="1.0.0")),
        (
            "acme/llama:prod#gguf:Q4_K_M",
            Reference("acme", "llama", alias="prod", variant=Variant(Format.GGUF, "Q4_K_M")),
        ),
        ("me/llama@1.0.0+cpu", Reference("me", "llama", version="1.0.0+cpu")),
    ],
)
def test_reference_is_parsed(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert Reference.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["llama", "/llama", "me/", "me/Llama", "me/../x", "me/llama@", "me/llama:", "me/llama#", "me/a@LATEST", "me/a/b"],
)
def test_reference_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Reference.parse(text)
    assert caught.value.hint


def test_kv_cache_counts_keys_and_values_of_every_layer_in_sixteen_bits() -> None:
    llama_8b = Architecture("llama", "LlamaForCausalLM", 8_030_000_000, 131_072, 32, 4096, 32, 8, 128, 128_256)
    assert llama_8b.kv_cache_bytes(8192) == 1 << 30
    assert llama_8b.kv_cache_bytes(1 << 20) == llama_8b.kv_cache_bytes(131_072)
