"""Into which safetensors files the tensors of a model go: one answer, however the source was cut.

At most 5 GB a file, as `save_pretrained` has cut for years, in the natural order of the names, so that a layer lies
together. Within a file tensors lie as safetensors' own writer lays them: by type, then by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from citrate.formats.safetensors_file import Tensor

SHARD_BYTES = 5_000_000_000
_TYPES = (
    *("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    *("I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
"""In the order of safetensors' writer, which puts the last first: what needs the largest alignment."""
_RANKS = {dtype: rank for rank, dtype in enumerate(_TYPES)}
_DIGITS = re.compile(r"(\d+)")


def sharded(tensors: Sequence[Tensor], limit: int = SHARD_BYTES) -> list[tuple[str, tuple[Tensor, ...]]]:
    """The files to write, each with its tensors in the order of their data.

    Args:
        tensors: of one network, in any order.
        limit: the most bytes of data in a file; a tensor that is larger gets one of its own.
    """
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in sorted(tensors, key=_natural):
        if shards[-1] and size + tensor.size_bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.size_bytes
    names = shard_names(len(shards))
    return [(name, tuple(sorted(shard, key=_in_file))) for name, shard in zip(names, shards, strict=True)]


def shard_names(count: int) -> list[str]:
    """The usual names of ``count`` weight files."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def _natural(tensor: Tensor) -> tuple[tuple[int, int, str], ...]:
    """Layer 2 before layer 10; digits before other characters."""
    parts = _DIGITS.split(tensor.name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def _in_file(tensor: Tensor) -> tuple[int, str]:
    return -_RANKS[tensor.dtype], tensor.name
