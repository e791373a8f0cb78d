"""Adapters of mlx-lm: ``adapters.safetensors`` and its ``adapter_config.json``, read and written.

mlx-lm builds the adapter from the configuration and then loads the weights into it, so the configuration must name
exactly the modules that the weights have. ``keys`` are paths below a layer, taken for the last ``num_layers`` layers,
or whole paths, which are right whatever the base is.
Source: `mlx_lm.tuner.utils.load_adapters` and `mlx_lm.tuner.lora` (https://github.com/ml-explore/mlx-lm).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from citrate.core.adapters import RANK_MAX
from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Format
from citrate.core.sink import Sink
from citrate.formats.adapter import MLX_WEIGHTS, beside
from citrate.formats.adapter_config import CONFIG
from citrate.formats.adapter_updates import Factor, Update, Updates, checked, named_base
from citrate.formats.configuration import number, strip_private
from citrate.formats.documents import inside, pretty, read_object
from citrate.formats.safetensors import write_file
from citrate.formats.safetensors_file import Planned, Tensor, header_bytes, read_header
from citrate.formats.streaming import buffer

_FACTOR = re.compile(r"(?P<module>[\w-]{1,64}(\.[\w-]{1,64}){0,31})\.lora_(?P<side>[ab])", re.ASCII)
_LAYER = re.compile(r"(?P<stem>.*\.layers)\.(?P<number>\d{1,6})\.(?P<rest>.+)")
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings")


def from_mlx(root: Path) -> Updates:
    """Open an adapter directory as mlx-lm's training leaves it.

    Raises:
        NotFoundError: a file of it is missing.
        FormatError: it is damaged, or its weights are not what its configuration says.
        UnsupportedConversionError: a whole fine-tune, or a DoRA.
    """
    document = strip_private(read_object(root, CONFIG))
    kind = document.get("fine_tune_type", "lora")
    if kind != "lora":
        raise UnsupportedConversionError(
            f"this adapter cannot be converted: its fine_tune_type is {kind!r:.40}, not lora",
            hint="fuse it into its base with mlx_lm.fuse, and convert the model",
        )
    parameters = document.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise FormatError(f"{CONFIG} has no lora_parameters", hint="it is no adapter of mlx-lm")
    rank, scale = parameters.get("rank"), number(parameters, "scale")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= RANK_MAX or scale <= 0:
        raise FormatError(f"{CONFIG}: rank {rank!r:.40} with the scale {scale} is no LoRA")
    updates = checked(_updates(read_header(inside(root, MLX_WEIGHTS)), scale))
    for update in updates:
        if update.rank != rank:
            raise FormatError(f"{MLX_WEIGHTS}: {update.module} has rank {update.rank}, {CONFIG} says {rank}")
    return Updates(root, Format.MLX, updates, named_base(document, "model"), beside(root)[0])


def write_mlx(source: Updates, sink: Sink, layers: int) -> None:
    """Write an adapter for mlx-lm.

    Lower ranks are filled up with zeros, and where scales differ B takes the difference, since MLX has one of both.

    Args:
        source: the adapter.
        sink: takes the files.
        layers: of the base model; 0 where it is not known.
    """
    rank, scale = max(update.rank for update in source.updates), source.leading.scale or 1.0
    tensors: list[tuple[str, Factor]] = []
    for update in source.updates:
        a, b = update.factors()
        a, b = _filled(a, rank, 0), _filled(b.times(update.scale / scale), rank, 1)
        tensors += [(f"{update.module}.lora_{side}", Factor(f.values.T, f.dtype)) for side, f in (("a", a), ("b", b))]
    write_weights(sink, MLX_WEIGHTS, tensors, "mlx")
    num_layers, keys = _keys([update.module for update in source.updates], layers)
    document: dict[str, Json] = {
        "fine_tune_type": "lora",
        "num_layers": num_layers,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": [*keys]},
    }
    if source.base:
        document["model"] = source.base
    write_file(sink, CONFIG, pretty(document))
    for companion in source.companions:
        write_file(sink, companion.name, companion.read())


def write_weights(sink: Sink, path: str, tensors: Sequence[tuple[str, Factor]], kind: str) -> None:
    """Write a safetensors file of factors, wide types first, so that each is aligned."""
    ordered = sorted(tensors, key=lambda item: (item[1].dtype != "F32", item[0]))
    planned = [Planned(name, factor.dtype, factor.values.shape) for name, factor in ordered]
    header = header_bytes(planned, {"format": kind})
    file = sink.open(path, len(header) + sum(entry.size_bytes for entry in planned))
    file.write(header)
    for _, factor in ordered:
        file.write(buffer(np.ascontiguousarray(factor.values).reshape(-1)))
    file.close()


def _updates(tensors: Sequence[Tensor], scale: float) -> list[Update]:
    sides: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        found = _FACTOR.fullmatch(tensor.name)
        if found is None:
            raise FormatError(f"{MLX_WEIGHTS}: the tensor {tensor.name!r:.120} is no part of a LoRA")
        sides.setdefault(found["module"], {})[found["side"]] = tensor
    for module, pair in sides.items():
        if len(pair) != 2:
            raise FormatError(f"{MLX_WEIGHTS}: {module} has one factor of its LoRA only")
    return [
        Update(module, pair["a"], pair["b"], scale, True, module.rpartition(".")[2] in _EMBEDDINGS)
        for module, pair in sides.items()
    ]


def _filled(factor: Factor, rank: int, axis: int) -> Factor:
    missing = rank - factor.values.shape[axis]
    if not missing:
        return factor
    widths = [(0, missing) if axis == at else (0, 0) for at in (0, 1)]
    return Factor(np.pad(factor.values, widths), factor.dtype)


def _keys(modules: Sequence[str], layers: int) -> tuple[int, list[str]]:
    """``num_layers`` and ``keys``: in mlx-lm's usual form where the last layers all have the same updates."""
    below: dict[int, set[str]] = {}
    for module in modules:
        found = _LAYER.fullmatch(module)
        if found is None:
            return len(below) or layers, sorted(modules)
        below.setdefault(int(found["number"]), set()).add(found["rest"])
    last = sorted(below) == list(range(layers - len(below), layers))
    alike = len({frozenset(kinds) for kinds in below.values()}) == 1
    return len(below), sorted(next(iter(below.values()))) if last and alike else sorted(modules)
