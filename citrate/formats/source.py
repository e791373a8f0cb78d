"""Open a Hugging Face model directory that anybody may have written. Nothing in it is executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import Architecture
from citrate.formats import families
from citrate.formats.companions import Companion, companions
from citrate.formats.configuration import Config, read_config
from citrate.formats.documents import names_in
from citrate.formats.pipeline import PIPELINE_CONFIG, read_pipeline
from citrate.formats.safetensors_file import Tensor
from citrate.formats.weights import PICKLED, PICKLES, SAFETENSORS, Container, read_weights

_OUTPUT = "lm_head.weight"


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
    licence: str = ""
    """The SPDX identifier that it is published under; empty for what its card or LICENSE file says."""

    def licensed(self, spdx: str) -> SourceModel:
        """The same model, published under ``spdx``: what a converted file says, like the manifest and the chain."""
        return replace(self, licence=spdx)

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
        path: a folder with config.json (or a pipeline's model_index.json) and weights as ``save_pretrained`` writes
            them: safetensors, or pytorch_model.bin, which is read in place and never unpickled.

    Raises:
        NotFoundError: no such folder.
        FormatError: not a model, a pickle that is more than weights, a missing or truncated shard, a configuration
            that no model has, or a file that leads outside the folder.
    """
    root = Path(path)
    if not root.exists():
        raise NotFoundError(f"no such folder: {path}")
    if not root.is_dir():
        raise FormatError(f"{path} is not a folder", hint="name the folder that holds config.json and the weights")
    names = names_in(root)
    if PIPELINE_CONFIG in names:
        whole = read_pipeline(root)
        return _model(root, whole.config, whole.tensors, whole.companions, whole.findings, PIPELINE_CONFIG)
    container = _container(root, names)
    config = read_config(root)
    stem = "pytorch_model" if container is PICKLED else "model"
    weights = read_weights(root, stem=stem, container=container)
    tensors = _without_tied(config, weights.tensors)
    used = {*(tensor.path.name for tensor in weights.tensors), f"{stem}{container.suffix}.index.json"}
    published, findings = companions(root, used)
    return _model(root, config, tensors, published, (*weights.findings, *findings), "config.json")


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


def _container(root: Path, names: Sequence[str]) -> Container:
    """Of what kind the weights are: safetensors wherever there are any."""
    if "adapter_config.json" in names and "config.json" not in names:
        raise FormatError(f"{root} is a LoRA adapter, not a model", hint="citrate register-lora --help")
    weights = any(name.endswith(".safetensors") for name in names)
    pickled = "pytorch_model.bin" in names or "pytorch_model.bin.index.json" in names
    others = [name for name in names if name.endswith(PICKLES) and name != "training_args.bin"]
    if not weights and not pickled and others:
        raise FormatError(
            f"{root} holds only pickled weights under a name that no loader knows ({others[0]})",
            hint="citrate reads model.safetensors and pytorch_model.bin, as save_pretrained() writes them",
        )
    if not (weights or pickled) or "config.json" not in names:
        missing = "config.json" if weights or pickled else "safetensors weights"
        raise FormatError(
            f"{root} is not a model directory: no {missing}", hint="name a folder as save_pretrained() writes it"
        )
    return SAFETENSORS if weights else PICKLED


def _without_tied(config: Config, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Leave the output matrix out where it is the embedding, byte for byte the same place of a pickled checkpoint.

    Other tensors that share their bytes are kept under each of their names: every loader takes that.
    """
    places = {(t.path, t.offset, t.dtype, t.shape) for t in tensors if t.name != _OUTPUT}
    return tuple(
        t for t in tensors if t.name != _OUTPUT or not config.tied or (t.path, t.offset, t.dtype, t.shape) not in places
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
