"""Open a Hugging Face model directory that anybody may have written. Nothing in it is executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import Architecture
from citrate.formats import families
from citrate.formats.companions import Companion, companions
from citrate.formats.configuration import Config, read_config
from citrate.formats.pipeline import PIPELINE_CONFIG, read_pipeline
from citrate.formats.safetensors_file import Tensor
from citrate.formats.weights import read_weights

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


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
    config_name: str = "config.json"
    """The file that says what it is; ``model_index.json`` for a pipeline, whose parts lie in folders of their own."""

    @property
    def is_pipeline(self) -> bool:
        """Whether it consists of several networks, whose tensors may have equal names."""
        return self.config_name == PIPELINE_CONFIG

    def shard_of(self, tensor: Tensor) -> str:
        """The file of ``shards`` that holds ``tensor``."""
        return tensor.path.relative_to(self.root.resolve()).as_posix()

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def files(self) -> tuple[str, ...]:
        """The files of a directory that is made of it, as far as they do not depend on the format."""
        return (self.config_name, *self.shards, *(companion.name for companion in self.companions))

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
        path: a folder with config.json (or a pipeline's model_index.json) and safetensors weights, as
            ``save_pretrained`` writes it.

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
    names = _names(root)
    if PIPELINE_CONFIG in names:
        whole = read_pipeline(root)
        return _model(root, whole.config, whole.tensors, whole.companions, whole.findings, PIPELINE_CONFIG)
    _require_model(root, names)
    published, findings = companions(root)
    return _model(root, read_config(root), read_weights(root), published, findings, "config.json")


def _model(
    root: Path,
    config: Config,
    tensors: tuple[Tensor, ...],
    published: tuple[Companion, ...],
    findings: tuple[str, ...],
    config_name: str,
) -> SourceModel:
    real = root.resolve()
    shards = tuple(dict.fromkeys(tensor.path.relative_to(real).as_posix() for tensor in tensors))
    architecture = _architecture(config, tensors)
    return SourceModel(root, config, architecture, tensors, shards, published, findings, config_name)


def _names(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in root.iterdir())
    except OSError as error:
        raise FormatError(f"{root} cannot be read: {error.strerror}") from error


def _require_model(root: Path, names: Sequence[str]) -> None:
    if "adapter_config.json" in names and "config.json" not in names:
        raise FormatError(f"{root} is a LoRA adapter, not a model", hint="citrate register-lora --help")
    weights = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(PICKLES)]
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
