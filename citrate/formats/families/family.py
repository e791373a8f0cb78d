"""What a family tells the converters about its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from citrate.core.records import Format
from citrate.formats.configuration import Config

Metadata: TypeAlias = Mapping[str, bool | int | float | str]
"""Keys of a GGUF file without the architecture in front. The value's Python type decides: bool, uint32, float32."""


class Output(StrEnum):
    """What a model yields, and so how a conversion of it is judged."""

    LOGITS = "logits"
    """Of the next token, at every position."""
    EMBEDDING = "embedding"
    """One vector a text."""
    NONE = ""
    """Nothing that citrate can compute: the weights are only passed on."""


@dataclass(frozen=True)
class Slot:
    """A tensor that a checkpoint must hold, and what becomes of it in GGUF."""

    shape: tuple[int, ...]
    gguf_name: str
    heads: int = 0
    """How many heads' rows llama.cpp wants reordered; 0: none."""
    rows_cut: int = 0
    """Rows at the start that GGUF leaves out."""


@dataclass(frozen=True)
class Layout:
    """The tensors of a family. Every callable raises FormatError where config.json is malformed."""

    gguf_architecture: str
    """``general.architecture`` of a GGUF file, and the prefix of its keys."""
    slots: Callable[[Config], Mapping[str, Slot]]
    """Every tensor that is converted, by its name in the checkpoint."""
    ignored: Callable[[Config, str], bool]
    """Tensors that some checkpoints hold and no conversion needs."""
    unsupported: Callable[[Config], str]
    """Why this configuration cannot be converted; empty where it can."""
    gguf_metadata: Callable[[Config, Path], Metadata]
    """The family's keys of a GGUF file; the path is the model directory, for what stands in other files."""
    rope_factors: Callable[[Config], tuple[float, ...]] = lambda _: ()
    """The per-frequency divisors of a scaled rotary embedding (``rope_freqs.weight``); empty where none."""


@dataclass(frozen=True)
class Family:
    """One kind of model, recognised by the class that config.json names."""

    name: str
    models: str
    """What people call its models, for the table in the docs."""
    class_names: tuple[str, ...]
    output: Output
    layout: Layout | None = None
    """None where the weights can only be passed on as they are."""
    refusals: Mapping[Format, str] = field(default_factory=dict)
    """Formats that no model of the family can have, each with the reason, in half a sentence."""
