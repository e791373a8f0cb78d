"""Which ggml type each tensor of a GGUF quantization gets: llama.cpp's mixtures, as its quantizer chooses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from citrate.formats.configuration import Config
from citrate.formats.gguf_file import NUMBERS, TYPES

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight")
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What a row that is no multiple of 256 gets instead."""
_WHOLE = ("position_embd.weight", "token_types.weight")
"""Small tables that keep every digit."""


@dataclass(frozen=True)
class Mixture:
    """A quantization: llama.cpp's number for it, the type of most tensors, and whether some get more bits."""

    file_type: int
    base: str
    mixed: bool = False

    @property
    def quantized(self) -> bool:
        """Whether llama.cpp's quantizer makes it rather than its converter."""
        return TYPES[NUMBERS[self.base]][1] > 1


MIXTURES: Mapping[str, Mixture] = {
    "F32": Mixture(0, "F32"),
    "F16": Mixture(1, "F16"),
    "BF16": Mixture(32, "BF16"),
    "Q8_0": Mixture(7, "Q8_0"),
    "Q6_K": Mixture(18, "Q6_K"),
    "Q5_K_M": Mixture(17, "Q5_K", mixed=True),
    "Q4_K_M": Mixture(15, "Q4_K", mixed=True),
}


def tensor_type(mixture: Mixture, config: Config, name: str, shape: tuple[int, ...]) -> str:
    """The ggml type of tensor ``name`` (GGUF's name) of ``shape`` (rows, row length).

    Norms and other vectors, positions and token types stay F32.
    """
    if len(shape) < 2 or name in _WHOLE:
        return "F32"
    row = shape[-1]
    chosen = _wanted(mixture, config, name, row) if mixture.mixed else mixture.base
    if row % _block(chosen):
        chosen = _FALLBACK.get(chosen, chosen)
    return chosen if row % _block(chosen) == 0 else "F16"


def _wanted(mixture: Mixture, config: Config, name: str, row: int) -> str:
    """The type before rows that do not divide are taken care of."""
    if name == "output.weight" or (name == "token_embd.weight" and not _has_output(config)):
        return "Q6_K" if row % _block(mixture.base) == 0 else "Q8_0"
    match = _BLOCK.fullmatch(name)
    if match and match[2] in ("attn_v", "ffn_down"):
        if _more_bits(int(match[1]), config.layers):
            return "Q6_K"
        if match[2] == "attn_v" and mixture.base == "Q4_K" and _shares_values(config):
            return "Q5_K"
    return mixture.base


def _has_output(config: Config) -> bool:
    """Whether the file holds an output matrix; where not, the embedding is the output, or there is none."""
    return not config.tied and config.class_name.endswith("ForCausalLM")


def _shares_values(config: Config) -> bool:
    """A 70B: eight heads share the values' weights, so they are small and worth more bits."""
    if config.layers != 80:
        return False
    return config.model_type == "qwen2" or (
        config.model_type in ("llama", "mistral") and config.heads != config.kv_heads
    )


def _more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _block(type_name: str) -> int:
    return TYPES[NUMBERS[type_name]][1]
