"""The architectures that citrate converts. A family is one module here and one line in ``FAMILIES``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citrate.formats.configuration import Config
from citrate.formats.families import llama
from citrate.formats.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILIES: Mapping[str, Family] = {"LlamaForCausalLM": llama.FAMILY}
"""``architectures[0]`` of config.json -> the family."""


def find(config: Config) -> Family | None:
    """The family of a model; None where its weights can only be passed on as they are."""
    return FAMILIES.get(config.class_name)
