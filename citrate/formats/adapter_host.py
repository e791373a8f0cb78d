"""The model that an adapter is put on, in whatever format it lies here: whether it fits, and its tensors' names.

A GGUF file says everything that the names and shapes of an adapter for llama.cpp follow from, so that its source need
not be here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Architecture, Format, Variant
from citrate.formats import families
from citrate.formats.adapter import Adapter
from citrate.formats.adapter_base import require_fits, tensor_shapes
from citrate.formats.adapter_conversion import adapter_variant
from citrate.formats.configuration import Config
from citrate.formats.families.family import Family, Output, Slot
from citrate.formats.gguf_file import GgufHeader, read_header
from citrate.formats.inspection import inspect
from citrate.formats.layout import layout_of
from citrate.formats.source import SourceModel

FORMS = {
    Format.SAFETENSORS: Variant(Format.SAFETENSORS),
    Format.MLX: Variant(Format.MLX),
    Format.GGUF: adapter_variant(Variant(Format.GGUF)),
}
"""What an adapter has to be for the runtime of each format; a format that is not here takes none."""


def require_host(adapter: Adapter, path: Path, format: Format) -> None:  # noqa: A002  # the word of the domain
    """Check that every update of an adapter has its place in the model at ``path``.

    Raises:
        UnsupportedConversionError: no adapter is put on models of this format.
        FormatError: it was trained on another model; the message says which tensor does not fit.
    """
    if format not in FORMS:
        raise UnsupportedConversionError(
            f"adapters are put on {', '.join(FORMS)}, not on {format}", hint="name another variant: #gguf:Q8_0"
        )
    shapes = tensor_shapes(path) if format is Format.SAFETENSORS else {}
    try:
        require_fits(adapter, inspect(path).architecture, shapes)
    except FormatError as error:
        raise FormatError(error.message, hint="citrate show ADAPTER tells on what it was trained") from error


def gguf_host(path: Path) -> SourceModel:
    """A GGUF file as the base of an adapter: its configuration, without weights.

    Raises:
        UnsupportedConversionError: of no architecture whose tensors citrate can name.
        FormatError: damaged, or its tensors are not those of its architecture.
    """
    header, architecture = read_header(path), inspect(path).architecture
    family = _family(header.text("general.architecture"))
    if family is None:
        raise UnsupportedConversionError(
            f"{path.name} is of the architecture {header.text('general.architecture')!r:.40}, on which citrate puts no "
            "adapters",
            hint="merge the adapter into the model, and convert that",
        )
    config = _config(family, header, architecture)
    named = replace(architecture, name=family.name, class_name=config.class_name)
    model = SourceModel(path.parent, config, named, (), (), (), ())
    _require_same_tensors(path, header, layout_of(model).slots(config))
    return model


def _family(architecture: str) -> Family | None:
    """The first family that has this name in GGUF; those that share one have the same tensors."""
    for family in families.FAMILIES:
        if family.layout and family.layout.gguf_architecture == architecture and family.output is Output.LOGITS:
            return family
    return None


def _config(family: Family, header: GgufHeader, found: Architecture) -> Config:
    prefix = header.text("general.architecture")
    document: dict[str, Json] = {
        "intermediate_size": header.integer(f"{prefix}.feed_forward_length"),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in header.tensors),
    }
    return Config(
        document=document,
        class_name=family.class_names[0],
        model_type=family.name,
        layers=found.layers,
        hidden_size=found.hidden_size,
        heads=found.heads,
        kv_heads=found.kv_heads,
        head_dim=found.head_dim,
        vocab_size=found.vocab_size,
        context_length=found.context_length,
    )


def _require_same_tensors(path: Path, header: GgufHeader, slots: Mapping[str, Slot]) -> None:
    """The tensors must be where the family has them: an update under another name would be left out."""
    shapes = {tensor.name: tensor.shape[::-1] for tensor in header.tensors}
    for slot in slots.values():
        if shapes.get(slot.gguf_name) != slot.shape:
            raise FormatError(
                f"{path.name}: {slot.gguf_name} is {shapes.get(slot.gguf_name, 'missing')}, where a model of its "
                f"architecture has {slot.shape}",
                hint="merge the adapter into the model, and convert that",
            )
