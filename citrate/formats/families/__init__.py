"""The kinds of models that citrate knows. A family is one module here and its name in ``FAMILIES``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citrate.formats.configuration import Config
from citrate.formats.families import bert, llama, llava, mistral, qwen2, qwen3, sdxl, xlm_roberta
from citrate.formats.families.family import Family, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILIES: tuple[Family, ...] = tuple(
    module.FAMILY for module in (llama, mistral, qwen2, qwen3, bert, xlm_roberta, llava, sdxl)
)

BY_CLASS: Mapping[str, Family] = {name: family for family in FAMILIES for name in family.class_names}
"""``architectures[0]`` of config.json -> the family."""


def find(config: Config) -> Family | None:
    """The family of a model; None for a class that citrate does not know."""
    return BY_CLASS.get(config.class_name)


def output_of(config: Config) -> Output:
    """What a model yields, as far as its family is known."""
    family = find(config)
    return family.output if family else Output.NONE


def output_of_gguf(architecture: str) -> Output:
    """What a GGUF file of ``general.architecture`` yields, as far as a family has it."""
    known = {family.layout.gguf_architecture: family.output for family in FAMILIES if family.layout}
    return known.get(architecture, Output.NONE)
