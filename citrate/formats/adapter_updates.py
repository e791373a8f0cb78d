"""An adapter's updates, whatever format they come from: two factors a module, and by how much their product is added.

The update of a matrix W is ``W + scale * B @ A``, with A [rank, in] and B [out, rank]. PEFT and GGUF hold them so, GGUF
with ``alpha = scale * rank``; MLX holds both transposed, with one rank and one scale for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Format
from citrate.formats.adapter import WEIGHTS, Adapter, LoraPair, open_adapter
from citrate.formats.adapter_config import CONFIG
from citrate.formats.companions import Companion
from citrate.formats.configuration import number
from citrate.formats.documents import inside
from citrate.formats.dtypes import CONVERTIBLE, Raw, to_float32
from citrate.formats.safetensors_file import Tensor, read_header
from citrate.formats.streaming import read_bytes

_OTHERWISE = (
    # settings of PEFT under which the update is not scale * B @ A, or not all there is
    "use_dora", "use_qalora", "use_bdlora", "arrow_config", "alora_invocation_tokens", "trainable_token_indices",
    "target_parameters", "layer_replication", "lora_bias", "modules_to_save",
)  # fmt: skip
_BASE_LAYER = ".base_layer.weight"
"""PEFT saves the base's own embedding beside an update of it."""
_LORA = ".lora_"
_PLAIN_PATTERN = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Factor:
    """A factor as it is stored: 2-D, in its own type."""

    values: Raw
    dtype: str

    @property
    def wide(self) -> NDArray[np.float32]:
        """Its values in float32."""
        return to_float32(np.ascontiguousarray(self.values).reshape(-1), self.dtype).reshape(self.values.shape)

    def times(self, ratio: float) -> Factor:
        """It multiplied by ``ratio`` in float32; itself where that is 1."""
        return self if ratio == 1 else Factor((self.wide.astype(np.float64) * ratio).astype(np.float32), "F32")


@dataclass(frozen=True)
class Update:
    """The update of one module."""

    module: str
    """The module's path in the base model, such as ``model.layers.0.self_attn.q_proj``."""
    first: Tensor
    """A on disk."""
    second: Tensor
    """B on disk."""
    scale: float
    transposed: bool
    """Whether the factors lie on disk the other way round, as MLX has them."""
    embedding: bool

    @property
    def rank(self) -> int:
        """The factors' common dimension."""
        return self.first.shape[1 if self.transposed else 0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of what is updated: out and in."""
        at = 1 if self.transposed else 0
        return self.second.shape[at], self.first.shape[1 - at]

    def factors(self) -> tuple[Factor, Factor]:
        """A [rank, in] and B [out, rank].

        Raises:
            FormatError: a weight is NaN or infinite, or the file became shorter.
        """
        return self._read(self.first), self._read(self.second)

    def _read(self, tensor: Tensor) -> Factor:
        values = read_bytes(tensor, 0, tensor.size_bytes).reshape(tensor.shape)
        return Factor(values.T if self.transposed else values, tensor.dtype)


@dataclass(frozen=True)
class Updates:
    """An adapter, opened for conversion."""

    root: Path
    format: Format
    """What it comes from: safetensors (PEFT) or MLX."""
    updates: tuple[Update, ...]
    """Sorted by module."""
    base: str
    """What its configuration calls the base; empty where that is a path of somebody's machine, or nothing."""
    companions: tuple[Companion, ...]

    @property
    def source_dtype(self) -> str:
        """The type of its factors."""
        return self.updates[0].first.dtype

    @property
    def leading(self) -> Update:
        """The update whose scale stands for all in formats that have one of it: the first that adds anything."""
        return next((update for update in self.updates if update.scale), self.updates[0])


@dataclass(frozen=True)
class ReadBack:
    """What a written file holds of an update."""

    update: Update
    """Of the source."""
    a: NDArray[np.float32]
    """[rank, in]."""
    scaled_b: NDArray[np.float32]
    """The scale times B, [out, rank]."""


def from_peft(root: Path) -> Updates:
    """Open an adapter as PEFT saves it.

    Raises:
        NotFoundError: no such directory, or no adapter in it.
        FormatError: see ``open_adapter``.
        UnsupportedConversionError: a kind of LoRA that other formats cannot say, such as DoRA.
    """
    adapter = open_adapter(root)
    for key in _OTHERWISE:
        if adapter.config.get(key):
            raise _unsupported(f"{CONFIG} has {key}, which only PEFT knows")
    for tensor in read_header(inside(root, WEIGHTS)):
        if _LORA not in tensor.name and not tensor.name.endswith(_BASE_LAYER):
            raise _unsupported(f"it brings {tensor.name} as a whole")
    updates = tuple(update_of(pair, adapter) for pair in adapter.pairs)
    return Updates(
        root, Format.SAFETENSORS, updates, named_base(adapter.config, "base_model_name_or_path"), adapter.companions
    )


def checked(updates: Sequence[Update]) -> tuple[Update, ...]:
    """``updates`` sorted by module, if each is one that can be converted.

    Raises:
        FormatError: there is none, or its factors do not fit each other.
        UnsupportedConversionError: a type that our converters do not read.
    """
    if not updates:
        raise FormatError("the adapter holds no update", hint="save it after its training")
    for update in updates:
        a, b = update.first.shape, update.second.shape
        fits = len(a) == len(b) == 2 and (a[1] == b[0] if update.transposed else a[0] == b[1])
        if not fits or not all((*a, *b)):
            raise FormatError(f"the factors of {update.module} have the shapes {a} and {b}: no LoRA")
        for tensor in (update.first, update.second):
            if tensor.dtype not in CONVERTIBLE:
                raise _unsupported(f"{tensor.name} is {tensor.dtype}")
    return tuple(sorted(updates, key=lambda update: update.module))


def named_base(config: Mapping[str, Json], key: str) -> str:
    """What a configuration calls the base model; local paths have been taken out of it."""
    name = config.get(key)
    return name if isinstance(name, str) else ""


def update_of(pair: LoraPair, adapter: Adapter) -> Update:
    """The update that a pair of factors stands for, with the scale that the configuration gives it.

    Raises:
        FormatError: its factors do not fit each other, or its alpha is no number.
        UnsupportedConversionError: a type that our converters do not read, or a regular expression says its alpha.
    """
    alpha = number(adapter.config, "lora_alpha")
    patterns = adapter.config.get("alpha_pattern")
    for key, value in (patterns if isinstance(patterns, dict) else {}).items():
        plain = key.removeprefix("^")
        if not _PLAIN_PATTERN.fullmatch(plain):
            raise _unsupported(f"alpha_pattern has the regular expression {key[:80]!r}, which is not run")
        if pair.module == plain or (plain == key and pair.module.endswith(f".{key}")):
            alpha = number({key: value}, key)
            break
    divisor = math.sqrt(pair.rank) if adapter.config.get("use_rslora") else pair.rank
    return checked([Update(pair.module, pair.a, pair.b, alpha / divisor, False, pair.embedding)])[0]


def _unsupported(reason: str) -> UnsupportedConversionError:
    return UnsupportedConversionError(
        f"this adapter cannot be converted: {reason}", hint="citrate merge merges it into its base; convert that model"
    )
