"""Open a Hugging Face model directory that anybody may have written. Nothing in it is executed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import Architecture
from citrate.formats import families
from citrate.formats.companions import Companion, companions
from citrate.formats.configuration import Config, read_config
from citrate.formats.documents import INDEX_MAX_BYTES, inside, read_object
from citrate.formats.safetensors_file import Tensor, read_header

_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SHARDS_MAX = 4096


@dataclass(frozen=True, eq=False)  # one object is one opened folder
class SourceModel:
    """A validated model directory: what it is and where each tensor lies. The weights have not been read yet."""

    root: Path
    config: Config
    architecture: Architecture
    tensors: tuple[Tensor, ...]
    """In the order in which they lie on disk, shard by shard."""
    shards: tuple[str, ...]
    companions: tuple[Companion, ...]
    """Files published beside the weights: tokenizer, card, licence."""
    findings: tuple[str, ...]
    """What was left out or looks odd, for people."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def files(self) -> tuple[str, ...]:
        """The files of a directory that is made of it, as far as they do not depend on the format."""
        return ("config.json", *self.shards, *(companion.name for companion in self.companions))

    @property
    def source_dtype(self) -> str:
        """The type that most of the weights have, such as ``BF16``."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size_bytes
        return max(sizes, key=lambda dtype: (sizes[dtype], dtype))

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``.

        Raises:
            FormatError: there is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise FormatError(f"tensor {name!r} is missing")


def open_model(path: Path | str) -> SourceModel:
    """Open the model directory ``path`` and validate everything but the values of the weights.

    Args:
        path: a folder with config.json and safetensors weights, as ``save_pretrained`` writes it.

    Raises:
        NotFoundError: no such folder.
        FormatError: not a model, pickled weights only, a missing or truncated shard, a configuration that no model
            has, or a file that leads outside the folder.
    """
    root = Path(path)
    if not root.exists():
        raise NotFoundError(f"no such folder: {path}")
    if not root.is_dir():
        raise FormatError(f"{path} is not a folder", hint="name the folder that holds config.json and the weights")
    _require_model(root)
    config = read_config(root)
    tensors = _tensors(root)
    published, findings = companions(root)
    architecture = _architecture(config, tensors)
    shards = tuple(dict.fromkeys(tensor.path.name for tensor in tensors))
    return SourceModel(root, config, architecture, tensors, shards, published, findings)


def _require_model(root: Path) -> None:
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except OSError as error:
        raise FormatError(f"{root} cannot be read: {error.strerror}") from error
    if "adapter_config.json" in names and "config.json" not in names:
        raise FormatError(f"{root} is a LoRA adapter, not a model", hint="citrate register-lora --help")
    if "model_index.json" in names:
        raise FormatError(
            f"{root} is a diffusers pipeline, which citrate does not read yet", hint="register its parts one by one"
        )
    weights = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if not weights and pickles:
        raise FormatError(
            f"{root} holds only pickled weights ({pickles[0]}), which run code when they are loaded",
            hint="convert them to safetensors first, on a machine you can lose",
        )
    if not weights or "config.json" not in names:
        missing = "config.json" if weights else "safetensors weights"
        raise FormatError(
            f"{root} is not a model directory: no {missing}", hint="name a folder as save_pretrained() writes it"
        )


def _tensors(root: Path) -> tuple[Tensor, ...]:
    weight_map = _weight_map(root)
    shards = sorted(set(weight_map.values())) if weight_map is not None else [_single_shard(root)]
    tensors: list[Tensor] = []
    for shard in shards:
        tensors += read_header(_shard_path(root, shard))
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise FormatError("a tensor stands in two shards")
    if not tensors:
        raise FormatError("the model has no tensors")
    if weight_map is not None:
        _compare_with_index(weight_map, tensors)
    return tuple(tensors)


def _weight_map(root: Path) -> Mapping[str, str] | None:
    """Tensor name -> shard, from the index; None where there is no index."""
    if not (root / _INDEX).exists():
        return None
    entries = read_object(root, _INDEX, INDEX_MAX_BYTES).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise FormatError(f"{_INDEX} has no weight_map")
    shards: dict[str, str] = {}
    for tensor, shard in entries.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise FormatError(
                f"{_INDEX} names the shard {shard!r:.80}, which is not a plain file name",
                hint="do not use this model: its index points outside its folder",
            )
        shards[tensor] = shard
    if len(set(shards.values())) > _SHARDS_MAX:
        raise FormatError(f"{_INDEX} names more than {_SHARDS_MAX} shards")
    return shards


def _single_shard(root: Path) -> str:
    found = sorted(entry.name for entry in root.iterdir() if entry.name.endswith(".safetensors"))
    if "model.safetensors" in found:
        return "model.safetensors"
    if len(found) > 1 or re.search(r"-of-\d+\.safetensors", found[0]):
        raise FormatError(f"{root} has shards but no {_INDEX}", hint="download the index file too")
    return found[0]


def _shard_path(root: Path, shard: str) -> Path:
    try:
        path = inside(root, shard)
    except NotFoundError as error:
        raise FormatError(f"shard {shard} is missing", hint="download the missing file into the folder") from error
    # Inside a Hugging Face cache the resolved name is a hash; the name people know is the link's.
    return path if path.name == shard else root.resolve() / shard


def _compare_with_index(weight_map: Mapping[str, str], tensors: Sequence[Tensor]) -> None:
    found = {tensor.name: tensor.path.name for tensor in tensors}
    for name in sorted(weight_map.keys() | found.keys()):
        if weight_map.get(name) != found.get(name):
            raise FormatError(
                f"{_INDEX} and the shards disagree on tensor {name!r:.120}", hint="download the shards and index again"
            )


def _architecture(config: Config, tensors: Sequence[Tensor]) -> Architecture:
    family = families.find(config)
    return Architecture(
        name=family.name if family else "other",
        class_name=config.class_name,
        parameters=sum(tensor.elements for tensor in tensors),
        context_length=config.context_length,
        layers=config.layers,
        hidden_size=config.hidden_size,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
    )
