"""Names and numbers of GGUF are those of the `gguf` package, the format's reference."""

from __future__ import annotations

import gguf
import pytest

from citrate.formats import gguf_file
from citrate.formats.configuration import Config
from citrate.formats.families import FAMILIES
from citrate.formats.families.family import Family
from citrate.formats.vocabulary_tokens import TokenKind

NAMED = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
CONFIG = Config({"intermediate_size": 512}, "", "", 40, 256, 8, 2, 32, 600, 512)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.layout], ids=lambda family: family.name)
def test_tensor_names_are_those_of_gguf(family: Family) -> None:
    assert family.layout
    reference = gguf.get_tensor_name_map(NAMED[family.layout.gguf_architecture], 40)
    for name, slot in family.layout.slots(CONFIG).items():
        assert slot.gguf_name == reference.get_name(name, try_suffixes=(".weight", ".bias")), name


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
