"""The weights of a model directory or of a part of one: shards, their index, and what must agree between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.formats.documents import INDEX_MAX_BYTES, inside, read_object
from citrate.formats.safetensors_file import Tensor, read_header

_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
_SHARDS_MAX = 4096


def read_weights(root: Path, folder: str = "", stem: str = "model") -> tuple[Tensor, ...]:
    """The tensors of ``root``, or of its part ``folder``, in the order in which they lie on disk, shard by shard.

    Args:
        root: the model directory; nothing outside it is read.
        folder: a part of it, with a slash at the end; empty for all of it.
        stem: what the names of weight files begin with.

    Raises:
        FormatError: a shard is missing or truncated, or the index and the shards disagree.
    """
    index = f"{folder}{stem}.safetensors.index.json"
    weight_map = _weight_map(root, index)
    shards = sorted(set(weight_map.values())) if weight_map is not None else [_single_shard(root, folder, stem)]
    tensors: list[Tensor] = []
    for shard in shards:
        tensors += read_header(_shard_path(root, folder + shard))
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise FormatError("a tensor stands in two shards")
    if not tensors:
        raise FormatError("the model has no tensors")
    if weight_map is not None:
        _compare_with_index(index, weight_map, tensors)
    return tuple(tensors)


def _weight_map(root: Path, index: str) -> Mapping[str, str] | None:
    """Tensor name -> shard, from the index; None where there is no index."""
    if not (root / index).exists():
        return None
    entries = read_object(root, index, INDEX_MAX_BYTES).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise FormatError(f"{index} has no weight_map")
    shards: dict[str, str] = {}
    for tensor, shard in entries.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise FormatError(
                f"{index} names the shard {shard!r:.80}, which is not a plain file name",
                hint="do not use this model: its index points outside its folder",
            )
        shards[tensor] = shard
    if len(set(shards.values())) > _SHARDS_MAX:
        raise FormatError(f"{index} names more than {_SHARDS_MAX} shards")
    return shards


def _single_shard(root: Path, folder: str, stem: str) -> str:
    found = sorted(entry.name for entry in (root / folder).iterdir() if entry.name.endswith(".safetensors"))
    if f"{stem}.safetensors" in found:
        return f"{stem}.safetensors"
    if len(found) > 1 or re.search(r"-of-\d+\.safetensors", found[0]):
        raise FormatError(
            f"{root / folder} has shards but no {stem}.safetensors.index.json", hint="download the index file too"
        )
    return found[0]


def _shard_path(root: Path, shard: str) -> Path:
    try:
        path = inside(root, shard)
    except NotFoundError as error:
        raise FormatError(f"shard {shard} is missing", hint="download the missing file into the folder") from error
    # Inside a Hugging Face cache the resolved name is a hash; the name people know is the link's.
    named = root.resolve() / shard
    return path if path == named else named


def _compare_with_index(index: str, weight_map: Mapping[str, str], tensors: Sequence[Tensor]) -> None:
    found = {tensor.name: tensor.path.name for tensor in tensors}
    for name in sorted(weight_map.keys() | found.keys()):
        if weight_map.get(name) != found.get(name):
            raise FormatError(
                f"{index} and the shards disagree on tensor {name!r:.120}", hint="download the shards and index again"
            )
