"""Rotary position embeddings: which scalings GGUF expresses, and the keys and factors that express them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.configuration import Config, number

_TUNING = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, "attention_factor": None, "mscale": None}
"""YaRN's own parameters with the values that llama.cpp assumes where a file does not state them."""
_CONTEXT_MAX = 1 << 28


def unsupported(config: Config, *kinds: str) -> str:
    """Why the rotary embedding cannot be written; empty where it can. ``kinds``: the types that the family has."""
    if not config.one_rope:
        return "its layers rotate in more than one way"
    rope = config.rope
    kind = rope["rope_type"]
    if kind not in kinds:
        return f"rope type {kind!r:.40} is not supported yet"
    if config.document.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1)) not in (1, None):
        return "only part of each head is rotated"
    if kind == "yarn":
        changed = [key for key, usual in _TUNING.items() if rope.get(key, usual) not in (usual, None)]
        if changed:
            return f"its YaRN scaling sets {changed[0]}"
        if rope.get("original_max_position_embeddings") is None:
            return "its YaRN scaling does not say original_max_position_embeddings"
    return ""


def metadata(config: Config) -> Mapping[str, int | float | str]:
    """The ``rope.*`` keys of the scaling and the base, in llama.cpp's order."""
    rope = config.rope
    keys: dict[str, int | float | str] = {}
    if rope["rope_type"] in ("linear", "yarn"):
        keys["rope.scaling.type"] = str(rope["rope_type"])
        keys["rope.scaling.factor"] = number(rope, "factor")
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = _original_context(rope)
    return {**keys, "rope.freq_base": number(rope, "rope_theta")}


def _original_context(rope: Mapping[str, Json]) -> int:
    length = number(rope, "original_max_position_embeddings")
    if not 1 <= length <= _CONTEXT_MAX:
        raise FormatError(f"config.json: original_max_position_embeddings = {length:g} is not credible")
    return int(length)


def factors(config: Config) -> tuple[float, ...]:
    """Llama 3.1's divisors of the rotary frequencies (arXiv:2407.21783, section 3.2; empty for other types).

    Long wavelengths are stretched by ``factor``, short ones kept, those between interpolated. Every step is rounded to
    float32, and a quotient is a product with the rounded reciprocal, because llama.cpp's converter computes with
    torch, which does so.
    """
    rope = config.rope
    if rope["rope_type"] != "llama3":
        return ()
    factor, old_context = number(rope, "factor"), number(rope, "original_max_position_embeddings", 8192.0)
    low, high = number(rope, "low_freq_factor", 1.0), number(rope, "high_freq_factor", 4.0)
    theta = number(rope, "rope_theta")
    if factor <= 0 or old_context <= 0 or low <= 0 or high <= low or theta <= 0:
        raise FormatError("config.json: the llama3 rope parameters are not credible")
    f32, one = np.float32, np.float32(1)
    found: list[float] = []
    for i in range(0, config.head_dim, 2):
        frequency = one / f32(theta ** float(f32(i) / f32(config.head_dim)))
        wavelength = one / frequency * f32(2 * math.pi)
        if wavelength < f32(old_context / high):
            found.append(1.0)
        elif wavelength > f32(old_context / low):
            found.append(factor)
        else:
            smooth = (one / wavelength * f32(old_context) - f32(low)) / f32(high - low)
            found.append(float(one / ((one - smooth) / f32(factor) + smooth)))
    return tuple(found)
