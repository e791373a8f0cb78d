"""A misspelt name leads to the one that was meant, and another name to none."""

from __future__ import annotations

import pytest

from citrate.core.spelling import meant

QUANTIZATIONS = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]
FORMATS = ["safetensors", "gguf", "mlx", "tensorrt_llm"]


@pytest.mark.parametrize(
    ("text", "known", "name"),
    [
        ("f16", QUANTIZATIONS, "F16"),
        ("fp16", QUANTIZATIONS, "F16"),
        ("bf-16", QUANTIZATIONS, "BF16"),
        ("q4_k_m", QUANTIZATIONS, "Q4_K_M"),
        ("Q4KM", QUANTIZATIONS, "Q4_K_M"),
        ("q4_k", QUANTIZATIONS, "Q4_K_M"),
        ("4-bit", ["4bit", "4bit-g32", "8bit"], "4bit"),
        ("4bit-g-32", ["4bit", "4bit-g32", "8bit"], "4bit-g32"),
        ("safetensor", FORMATS, "safetensors"),
        ("GGUF", FORMATS, "gguf"),
        ("tensorrt-llm", FORMATS, "tensorrt_llm"),
        ("learning_rte", ["learning_rate", "batch_size"], "learning_rate"),
    ],
)
def test_the_name_that_was_meant(text: str, known: list[str], name: str) -> None:
    assert meant(text, known) == name


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Q4_0", QUANTIZATIONS),
        ("Q5_K_S", QUANTIZATIONS),
        ("Q2_K", QUANTIZATIONS),
        ("", QUANTIZATIONS),
        ("onnx", FORMATS),
        ("gguf", []),
        ("x" * 100_000, FORMATS),
    ],
)
def test_another_name_is_none_of_them(text: str, known: list[str]) -> None:
    assert meant(text, known) == ""
