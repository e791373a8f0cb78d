"""What a family tells the converters about its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from citrate.formats.configuration import Config

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Family:
    """One architecture. Every callable takes the model's configuration and raises FormatError where it is malformed."""

    name: str
    gguf_architecture: str
    """``general.architecture`` of a GGUF file, and the prefix of its keys."""
    shapes: Callable[[Config], Shapes]
    """Every tensor that a checkpoint must hold, with its shape."""
    ignored: Callable[[Config, str], bool]
    """Tensors that some checkpoints hold and nobody reads."""
    gguf_name: Callable[[str], str]
    """The name of a tensor in GGUF."""
    permuted_heads: Callable[[Config, str], int]
    """How many heads' rows llama.cpp wants reordered in this tensor; 0 where none."""
    unsupported: Callable[[Config], str]
    """Why this configuration cannot be converted; empty where it can."""
    gguf_metadata: Callable[[Config], Mapping[str, int | float | str]]
    """The family's keys of a GGUF file, with the value's Python type deciding: int is uint32, float is float32."""
    rope_factors: Callable[[Config], tuple[float, ...]]
    """The per-frequency divisors of a scaled rotary embedding (``rope_freqs.weight``); empty where none."""
