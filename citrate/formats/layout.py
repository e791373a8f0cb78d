"""The tensors of a model as its family lays them down: complete, of the right shape, of a type we can read."""

from __future__ import annotations

from citrate.core.errors import FormatError
from citrate.formats import families
from citrate.formats.dtypes import CONVERTIBLE
from citrate.formats.families.family import Family
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel


def why_not(model: SourceModel) -> str:
    """Why the weights of ``model`` cannot be rewritten in another format; empty where they can."""
    family = families.find(model.config)
    if family is None:
        known = ", ".join(families.FAMILIES)
        return f"citrate converts {known}; other architectures are passed on as safetensors"
    foreign = sorted({tensor.dtype for tensor in model.tensors} - set(CONVERTIBLE))
    return f"its weights are {', '.join(foreign)}" if foreign else family.unsupported(model.config)


def family_of(model: SourceModel) -> Family:
    """The family of a model that ``why_not`` has passed."""
    family = families.find(model.config)
    if family is None:
        raise FormatError(f"{model.config.class_name or 'this model'} belongs to no family that citrate converts")
    return family


def convertible_tensors(model: SourceModel) -> tuple[Tensor, ...]:
    """The tensors to convert, in the order in which they lie on disk.

    Raises:
        FormatError: one is missing, unexpected, or of another shape than config.json says.
    """
    family = family_of(model)
    expected = family.shapes(model.config)
    tensors = tuple(tensor for tensor in model.tensors if not family.ignored(model.config, tensor.name))
    found = {tensor.name: tensor.shape for tensor in tensors}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise FormatError(f"tensor {name!r} is missing", hint="download the model again, with every shard")
        if name not in expected:
            raise FormatError(f"tensor {name!r:.120} is none of a {model.config.class_name}")
        if found[name] != expected[name]:
            raise FormatError(
                f"tensor {name!r} has shape {list(found[name])}, config.json says {list(expected[name])}",
                hint="weights and config.json do not belong together",
            )
    return tensors
