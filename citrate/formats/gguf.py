"""GGUF: one bare file for llama.cpp, written from SafeTensors in one pass, weights in llama.cpp's own encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path

from citrate.core.errors import UnsupportedConversionError
from citrate.core.records import Check, Format, Variant
from citrate.formats import encoding, vocabulary
from citrate.formats.checks import llama, metadata
from citrate.formats.checks.reference import Outputs, pooling_of, positions
from citrate.formats.checks.tokens import Tokenized
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.families.family import Layout, Output
from citrate.formats.families.pooling import POOLING
from citrate.formats.gguf_file import GgufValue, Kind, read_header, typed
from citrate.formats.gguf_general import general
from citrate.formats.gguf_writing import ROPE_FACTORS, File, write
from citrate.formats.layout import layout_of, why_not
from citrate.formats.mixtures import MIXTURES
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary import Vocabulary, read_vocabulary
from citrate.formats.vocabulary_tokens import Deviation

BARE = True
_QUANTIZATION_VERSION = "general.quantization_version"
_OF_THE_CLASS = ("vocab_size", "rope.dimension_count", "attention.causal", "pooling_type")
"""What llama.cpp's converter adds for a class of models, behind what all have."""
TARGETS: Mapping[str, tuple[str, ...]] = {}
CHECKED_BY: Mapping[str, tuple[str, ...]] = dict.fromkeys(("tensors", "full"), ("llama_cpp",))
_LIMITS = {
    # mean divergence in nats; the farthest vector's distance. F32 is the source itself, evaluated by another program
    "F32": ("0.0001", "0.0001"),
    "F16": ("0.0001", "0.0001"),
    "BF16": ("0.001", "0.001"),
    "Q8_0": ("0.01", "0.002"),
    "Q6_K": ("0.02", "0.005"),
    "Q5_K_M": ("0.06", "0.02"),
    "Q4_K_M": ("0.2", "0.05"),
}


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """The quantizations of ``model`` that citrate writes; empty where it cannot be converted."""
    return () if refusal(model) else tuple(MIXTURES)


def refusal(model: SourceModel) -> str:
    """Why ``model`` cannot become GGUF; empty where it can."""
    reason = why_not(model, Format.GGUF)
    if reason:
        return reason
    try:
        _vocabulary(model)
        layout_of(model).gguf_metadata(model.config, model.root)
    except UnsupportedConversionError as error:
        return error.message
    return ""


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write a file ``<name>-<quantization>.gguf`` a request, all of one model, in one read of its weights.

    Raises as ``citrate.formats.convert`` does; then no file is whole.
    """
    layout = layout_of(requests[0].model)
    files = [File(request, MIXTURES[request.variant.quantization], _keys(request, layout)) for request in requests]
    write(requests[0].model, layout, files)
    return tuple(_report(file) for file in files)


def toolchain(quantization: str) -> Mapping[str, str]:  # noqa: ARG001 - the same for all
    """Empty: the bytes depend on nobody else's programs."""
    return {}


def tokenize(path: Path, texts: Sequence[str]) -> Tokenized:
    """By llama.cpp."""
    return llama.tokenize(path, texts)


def deviation(model: SourceModel) -> Deviation | None:
    """Where llama.cpp's tokenizer differs from the source's."""
    return vocabulary.deviation(model.root)


def faults(model: SourceModel, quantization: str, path: Path) -> list[str]:
    """What the file lacks of what its family asks for, or says otherwise than the source."""
    layout = layout_of(model)
    header = read_header(path)
    wanted = _metadata(model, layout, header.text("general.name"), quantization)
    return metadata.of_gguf(header, wanted, _tensors(model, layout))


def passed_on(model: SourceModel, variant: Variant, path: Path) -> tuple[Check, ...]:  # noqa: ARG001 - none
    """Nothing: every tensor's error was measured when it was encoded."""
    return ()


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Logits or vectors by llama.cpp."""
    mode = pooling_of(model)
    if mode:
        return llama.vectors(path, positions(model), POOLING[mode], model.config.hidden_size)
    return llama.logits(path, positions(model), model.config.vocab_size)


def limit(quantization: str, output: Output) -> str:
    """Mean divergence in nats, or the farthest vector's distance."""
    divergence, distance = _LIMITS[quantization]
    return distance if output is Output.EMBEDDING else divergence


def _report(file: File) -> Conversion:
    request = file.request
    licence = {"licence": request.model.licence} if request.model.licence else {}
    return Conversion(
        variant=request.variant,
        checks=file.errors.checks(),
        converter="citrate.formats.gguf",
        version=converter_version(),
        arguments={"name": request.name, **licence, **encoding.arguments(file.errors.types)},
        source_dtype=request.model.source_dtype,
        bare=BARE,
    )


def _keys(request: Request, layout: Layout) -> dict[str, GgufValue]:
    return _metadata(request.model, layout, request.name, request.variant.quantization)


@lru_cache(maxsize=2)
def _vocabulary(model: SourceModel) -> Vocabulary:
    """The model's tokenizer, parsed once: it is asked for before and while converting."""
    return read_vocabulary(model.root, model.config)


def _metadata(model: SourceModel, layout: Layout, name: str, quantization: str) -> dict[str, GgufValue]:
    """The keys of a file, in the order in which llama.cpp leaves them: its converter states the type in front of what
    the class of a model adds, its quantizer states it anew at the end."""
    architecture, mixture = layout.gguf_architecture, MIXTURES[quantization]
    parameters = sum(prod(shape) for shape in _tensors(model, layout).values())
    keys = {
        "general.architecture": GgufValue(Kind.STRING, architecture),
        "general.type": GgufValue(Kind.STRING, "model"),
        **general(model, name, parameters),
    }
    own = {key: typed(value) for key, value in layout.gguf_metadata(model.config, model.root).items()}
    keys |= {f"{architecture}.{key}": value for key, value in own.items() if key not in _OF_THE_CLASS}
    keys["general.file_type"] = GgufValue(Kind.UINT32, mixture.file_type)
    keys |= {f"{architecture}.{key}": value for key, value in own.items() if key in _OF_THE_CLASS}
    keys[_QUANTIZATION_VERSION] = GgufValue(Kind.UINT32, 2)
    keys |= _vocabulary(model).metadata()
    if mixture.quantized:
        for key in (_QUANTIZATION_VERSION, "general.file_type"):
            keys[key] = keys.pop(key)
    return keys


def _tensors(model: SourceModel, layout: Layout) -> dict[str, tuple[int, ...]]:
    """The tensors of a file and their shapes in ggml's order, which is the reverse of everybody else's."""
    slots = layout.slots(model.config).values()
    shapes = {slot.gguf_name: (slot.shape[0] - slot.rows_cut, *slot.shape[1:])[::-1] for slot in slots}
    factors = layout.rope_factors(model.config)
    return {**shapes, ROPE_FACTORS: (len(factors),)} if factors else shapes
