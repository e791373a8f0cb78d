"""Merging: LoRAs into the model they were trained on, and models that come from one base into one. The methods.

Everything is streamed, tensor by tensor and piece by piece, in float32, and rounded once to the type that the base has
it in (`merging_writing`). The same parents, weights and settings give the same bytes on any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from citrate.core.errors import UnsupportedConversionError
from citrate.formats.dtypes import CONVERTIBLE
from citrate.formats.mlx_source import is_mlx
from citrate.formats.source import SourceModel

_AS_TRAINED = "merge the model in BF16, F16 or F32, as it was trained: citrate pull REF#safetensors"


class Method(StrEnum):
    """How parents are combined."""

    CAT = "cat"
    """The weighted sum of the updates, exactly."""
    SVD = "svd"
    """The same, cut to a rank."""
    TIES = "ties"
    """Trim, elect signs, merge what agrees (arXiv 2306.01708)."""
    DARE = "dare"
    """Drop at random, and rescale what is left (arXiv 2311.03099)."""
    SLERP = "slerp"
    """Along the arc between two models."""


OF_ADAPTERS = (Method.CAT, Method.SVD, Method.TIES, Method.DARE)
OF_MODELS = (Method.SLERP, Method.TIES)


@dataclass(frozen=True)
class How:
    """A method with its settings; what a method does not use has no effect."""

    method: Method
    density: float = 0.5
    """The share of each tensor's values that is kept: the largest (``ties``), or any (``dare``)."""
    rank: int = 0
    """Of ``svd``; 0 is the largest rank among the adapters."""
    seed: int = 0
    """Of ``dare``."""


def require_mergeable(model: SourceModel, name: str) -> None:
    """Refuse a model that nothing can be merged with; ``name`` is how the message calls it.

    Raises:
        UnsupportedConversionError: several networks, or weights that are quantised.
    """
    if model.is_pipeline:
        raise UnsupportedConversionError(f"{name} consists of several networks: not merged", hint=_AS_TRAINED)
    if is_mlx(model):
        raise UnsupportedConversionError(f"{name} is quantised for MLX: not merged", hint=_AS_TRAINED)
    for tensor in model.tensors:
        if tensor.dtype not in CONVERTIBLE and len(tensor.shape) > 1:
            raise UnsupportedConversionError(
                f"{name} cannot be merged: {tensor.name} is {tensor.dtype}", hint=_AS_TRAINED
            )
