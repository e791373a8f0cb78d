"""The weights of a model directory or of a part of one: shards, their index, and what must agree between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.formats.checkpoint import Checkpoint, weights_of
from citrate.formats.documents import INDEX_MAX_BYTES, inside, names_in, read_object
from citrate.formats.safetensors_file import Tensor, read_header

_SHARDS_MAX = 4096
_SHARD_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}"


@dataclass(frozen=True)
class Container:
    """A kind of file that holds weights."""

    suffix: str

    def shards(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are of this kind."""
        return sorted(name for name in names if name.endswith(self.suffix))


SAFETENSORS = Container(".safetensors")
PICKLED = Container(".bin")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
"""How the names of files end that are pickles as a rule."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a model or of a part of one, in the order in which they lie on disk, shard by shard."""

    tensors: tuple[Tensor, ...]
    findings: tuple[str, ...] = ()


def read_weights(root: Path, folder: str = "", stem: str = "model", container: Container = SAFETENSORS) -> Weights:
    """Read what the weight files of ``root``, or of its part ``folder``, say of themselves.

    Args:
        root: the model directory; nothing outside it is read.
        folder: a part of it, with a slash at the end; empty for all of it.
        stem: what the names of weight files begin with.
        container: of what kind they are.

    Raises:
        FormatError: a shard is missing or truncated, the index and the shards disagree, or a pickle is no checkpoint.
    """
    index = f"{folder}{stem}{container.suffix}.index.json"
    weight_map = _weight_map(root, index, container)
    shards = sorted(set(weight_map.values())) if weight_map is not None else [_single(root, folder, stem, container)]
    paths = [_shard_path(root, folder + shard) for shard in shards]
    found = _pickled(root, paths) if container is PICKLED else Weights(tuple(t for p in paths for t in read_header(p)))
    names = {tensor.name for tensor in found.tensors}
    if len(names) != len(found.tensors):
        raise FormatError("a tensor stands in two shards")
    if not names:
        raise FormatError("the model has no tensors")
    if weight_map is not None:
        _compare_with_index(index, weight_map, found.tensors)
    return found


def _pickled(root: Path, paths: Sequence[Path]) -> Weights:
    real = root.resolve()
    files = [path.relative_to(real).as_posix() for path in paths]
    checkpoints = weights_of(real, files)
    ordered = [sorted(c.tensors, key=lambda tensor: (tensor.offset, tensor.name)) for c in checkpoints]
    names = sorted({name for checkpoint in checkpoints for name in checkpoint.globals})
    finding = (
        f"the weights are pickled ({files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}): read in place,"
        f" nothing was unpickled; {Checkpoint(tuple(names), (), '').shown}, all of them what tensors need"
    )
    return Weights(tuple(tensor for tensors in ordered for tensor in tensors), (finding,))


def _weight_map(root: Path, index: str, container: Container) -> Mapping[str, str] | None:
    """Tensor name -> shard, from the index; None where there is no index."""
    if not (root / index).exists():
        return None
    entries = read_object(root, index, INDEX_MAX_BYTES).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise FormatError(f"{index} has no weight_map")
    shard_name = re.compile(_SHARD_NAME + re.escape(container.suffix))
    shards: dict[str, str] = {}
    for tensor, shard in entries.items():
        if not isinstance(shard, str) or not shard_name.fullmatch(shard):
            raise FormatError(
                f"{index} names the shard {shard!r:.80}, which is not a plain file name",
                hint="do not use this model: its index points outside its folder",
            )
        shards[tensor] = shard
    if len(set(shards.values())) > _SHARDS_MAX:
        raise FormatError(f"{index} names more than {_SHARDS_MAX} shards")
    return shards


def _single(root: Path, folder: str, stem: str, container: Container) -> str:
    plain = f"{stem}{container.suffix}"
    found = container.shards(names_in(root / folder))
    if plain in found:
        return plain
    if not found:
        raise FormatError(f"{root / folder} has no {plain}", hint="download the missing file into the folder")
    if container is PICKLED:
        raise FormatError(
            f"{root / folder} has no {plain}, but {found[0]}", hint="download the model's safetensors weights"
        )
    if len(found) > 1 or re.search(r"-of-\d+\.safetensors", found[0]):
        raise FormatError(f"{root / folder} has shards but no {plain}.index.json", hint="download the index file too")
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
