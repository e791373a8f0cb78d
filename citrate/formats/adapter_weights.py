"""The values of an adapter's weights: finite, and of an adapter that was trained. Read in pieces, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.dtypes import Raw
from citrate.formats.safetensors_file import Tensor, read_header
from citrate.formats.streaming import read_bytes

_PIECE_BYTES = 8 << 20
_FACTORS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")


def require_trained(weights: Path) -> None:
    """Check the values of adapter_model.safetensors, of which ``open_adapter`` has checked the names.

    PEFT begins with one factor of each update zero: where it still is, the update changes nothing.

    Raises:
        FormatError: a weight is NaN or infinite, or no update changes anything.
    """
    zero: set[str] = set()
    updates: set[str] = set()
    only_factors = True
    for tensor in read_header(weights):
        has_values = False
        for piece in _pieces(tensor):  # all of them, since each is looked through for NaN
            has_values = has_values or bool(piece.any())
        module, factor = _factor(tensor.name)
        if not factor:
            only_factors = False
            continue
        updates.add(module)
        if not has_values:
            zero.add(module)
    if only_factors and updates == zero:
        raise FormatError(
            f"{weights.name}: one factor of every update is zero, so that it changes nothing: it was never trained",
            hint="save the adapter after its training",
        )


def _pieces(tensor: Tensor) -> Iterator[Raw]:
    """The values, piece by piece; raises where one is NaN or infinite."""
    for start in range(0, tensor.size_bytes, _PIECE_BYTES):
        yield read_bytes(tensor, start, min(_PIECE_BYTES, tensor.size_bytes - start))


def _factor(name: str) -> tuple[str, str]:
    """The module and the factor that a tensor's name says; no factor for a tensor that is none."""
    parts = name.removesuffix(".weight").rpartition(".")
    return (parts[0], parts[2]) if parts[2] in _FACTORS else (name, "")
