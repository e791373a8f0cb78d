"""Names and numbers of GGUF are those of the `gguf` package, the format's reference."""

from __future__ import annotations

import gguf
import pytest

from citrate.formats import gguf_file
from citrate.formats.families import llama
from citrate.formats.vocabulary import TokenKind

REFERENCE = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 40)
LAYERS = [f"model.layers.39.{name}.weight" for name in llama._LAYER_NAMES]


@pytest.mark.parametrize("name", [*LAYERS, *llama._OUTER_NAMES])
def test_tensor_names_are_those_of_gguf(name: str) -> None:
    assert llama.gguf_name(name) == REFERENCE.get_name(name, try_suffixes=(".weight",))


def test_every_tensor_of_a_llama_layer_has_a_name() -> None:
    wanted = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[gguf.MODEL_ARCH.LLAMA]}
    mine = {llama.gguf_name(name).removesuffix(".weight").replace("blk.39", "blk.{bid}") for name in LAYERS}
    assert mine <= wanted


def test_value_types_and_token_kinds_have_the_numbers_of_gguf() -> None:
    assert {kind.name: kind.value for kind in gguf_file.Kind} == {k.name: k.value for k in gguf.GGUFValueType}
    reference = {kind.name: kind.value for kind in gguf.TokenType}
    assert all(reference[kind.name] == kind.value for kind in TokenKind)


def test_block_types_have_the_numbers_and_sizes_of_gguf() -> None:
    known = {kind.value for kind in gguf.GGMLQuantizationType}
    for number, block in gguf_file.TYPES.items():
        if number in known:
            reference = gguf.GGMLQuantizationType(number)
            assert block == (reference.name, *gguf.GGML_QUANT_SIZES[reference])
    assert {0, 1, 8, 12, 14, 30} <= known & gguf_file.TYPES.keys(), "those that we write are among them"
