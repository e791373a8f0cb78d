"""The tensors of a model as its family lays them down: complete, of the right shape, of a type we can read."""

from __future__ import annotations

import re
from collections.abc import Collection

from citrate.core.errors import FormatError
from citrate.core.records import Format
from citrate.formats import families
from citrate.formats.dtypes import CONVERTIBLE
from citrate.formats.families.family import Layout
from citrate.formats.mlx_source import decoded, is_quantized
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d{1,6})\.")
_APART = "weights and config.json do not belong together"


def why_not(model: SourceModel, target: Format) -> str:
    """Why the weights of ``model`` cannot be rewritten in the format ``target``; empty where they can.

    Weights that MLX has quantised are decoded for SafeTensors and for nothing else: what is quantised twice is worse
    than it says.
    """
    if target is Format.SAFETENSORS:
        model = decoded(model)
    elif is_quantized(model):
        return "its weights are quantised already, and become safetensors only"
    family = families.find(model.config)
    if family is None:
        known = ", ".join(name for name, family in families.BY_CLASS.items() if family.layout)
        return f"citrate converts {known}; other architectures are passed on as safetensors"
    if target in family.refusals:
        return family.refusals[target]
    layout = family.layout
    if layout is None:
        return f"the weights of a {family.name} model are only passed on"
    used = {tensor.dtype for tensor in model.tensors if not layout.ignored(model.config, tensor.name)}
    foreign = sorted(used - set(CONVERTIBLE))
    return f"its weights are {', '.join(foreign)}" if foreign else layout.unsupported(model.config)


def layout_of(model: SourceModel) -> Layout:
    """The layout of a model that ``why_not`` has passed."""
    family = families.find(model.config)
    if family is None or family.layout is None:
        raise FormatError(f"{model.config.class_name or 'this model'} belongs to no family that citrate converts")
    return family.layout


def convertible_tensors(model: SourceModel) -> tuple[Tensor, ...]:
    """The tensors to convert, in the order in which they lie on disk.

    Raises:
        FormatError: one is missing, unexpected, or of another shape than config.json says.
    """
    layout = layout_of(model)
    expected = layout.slots(model.config)
    tensors = tuple(tensor for tensor in model.tensors if not layout.ignored(model.config, tensor.name))
    found = {tensor.name: tensor.shape for tensor in tensors}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            raise _other_names(model, name, found)
        if found[name] != expected[name].shape:
            raise FormatError(
                f"tensor {name!r} has shape {list(found[name])}, config.json says {list(expected[name].shape)}",
                hint=_APART,
            )
    return tensors


def _other_names(model: SourceModel, name: str, found: Collection[str]) -> FormatError:
    """Why the tensors ``found`` are not those that config.json promises; ``name`` is one too many or missing."""
    layers = {int(match[1]) for each in found if (match := _LAYER.search(each))}
    stated, last = model.config.layers, max(layers, default=-1)
    if len(layers) == last + 1 != stated and layers:  # none is missing between
        return FormatError(
            f"config.json says {stated} layers, the tensors have {len(layers)}",
            hint="correct num_hidden_layers in config.json, or take the weights that belong to it",
        )
    if name in found:
        return FormatError(f"tensor {name!r:.120} is none of a {model.config.class_name}", hint=_APART)
    return FormatError(f"tensor {name!r} is missing", hint="download the model again, with every shard")
