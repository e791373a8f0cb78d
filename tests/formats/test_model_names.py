"""The parts of a name are those that llama.cpp's converter finds, and so is the size that it rounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.formats.model_names import NameParts, parts_of, rounded_size, title_of

BILLION = 1_000_000_000
WORDS = (
    *("llama", "Llama", "mistral", "qwen2.5", "Qwen3", "bge", "all", "MiniLM", "e5", "x", "hf", "it", "base"),
    *("3", "3.1", "v0.3", "V2", "2507", "iter2", "v1.5.2", "1", "8B", "7b", "0.5B", "1.5b", "7b1", "8x7B", "A3B"),
    *("135m", "128k", "4K", "1_8b", "small", "mini", "large", "xl", "xxl", "instruct", "Instruct", "chat", "vision"),
    *("lora", "Q4_K_M", "q8_0", "bf16", "fp16", "iq2_xs", "awq", "L6", "DPO", "中文", "-"),
)
PUBLISHED = {
    "llama-3.1-8b-instruct": NameParts("llama-3.1", "instruct", "", "8B"),
    "mistral-7b-instruct-v0.3": NameParts("mistral", "instruct", "v0.3", "7B"),
    "qwen2.5-7b": NameParts("qwen2.5", "", "", "7B"),
    "tiny-llama": NameParts(),
    "my model of 7b": NameParts(),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_says_what_people_read_in_it(name: str) -> None:
    assert parts_of(name, 8 * BILLION) == PUBLISHED[name]


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=7),
    parameters=st.sampled_from([0, 22_000_000, 135_000_000, BILLION, 7 * BILLION, 8 * BILLION, 70 * BILLION]),
)
def test_the_parts_of_any_name_are_the_converters(words: list[str], parameters: int) -> None:
    from gguf.metadata import Metadata

    name = "-".join(words)
    _, _, basename, finetune, version, size = Metadata.get_model_id_components(name, parameters)
    assert parts_of(name, parameters) == NameParts(basename or "", finetune or "", version or "", size or "")
    assert title_of(name) == Metadata.id_to_title(name)


@given(parameters=st.integers(1, 10**14))
def test_sizes_are_rounded_as_the_converter_rounds_them(parameters: int) -> None:
    from gguf.utility import size_label

    assert rounded_size(parameters) == size_label(parameters, parameters, 0, 0)
