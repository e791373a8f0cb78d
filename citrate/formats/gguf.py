"""GGUF: one bare file for llama.cpp, written from SafeTensors in one pass, weights in llama.cpp's own encodings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from citrate.core.errors import UnsupportedConversionError
from citrate.core.records import Format
from citrate.formats.checks import llama
from citrate.formats.checks.reference import Logits, positions
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.families.family import Layout
from citrate.formats.gguf_file import GgufValue, Kind, typed
from citrate.formats.gguf_writing import Output, write
from citrate.formats.layout import layout_of, why_not
from citrate.formats.licence import find_licence
from citrate.formats.mixtures import MIXTURES
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary import Vocabulary, read_vocabulary

BARE = True
_DIVERGENCE = {
    # nats; F32 is the source itself, evaluated by another program
    "F32": "0.0001",
    "F16": "0.0001",
    "BF16": "0.001",
    "Q8_0": "0.01",
    "Q6_K": "0.02",
    "Q5_K_M": "0.06",
    "Q4_K_M": "0.2",
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
    except UnsupportedConversionError as error:
        return error.message
    return ""


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write a file ``<name>-<quantization>.gguf`` a request, all of one model, in one read of its weights.

    Raises as ``citrate.formats.convert`` does; then no file is whole.
    """
    layout = layout_of(requests[0].model)
    outputs = [
        Output(request, MIXTURES[request.variant.quantization], _metadata(request, layout)) for request in requests
    ]
    write(requests[0].model, layout, outputs)
    return tuple(_report(output) for output in outputs)


def tokenize(path: Path, texts: tuple[str, ...], *, special: bool) -> list[list[int]]:
    """Token ids by llama.cpp."""
    return llama.tokenize(path, texts, special=special)


def logits(model: SourceModel, path: Path) -> Logits:
    """Logits by llama.cpp."""
    return llama.logits(path, positions(model), model.config.vocab_size)


def divergence_limit(quantization: str) -> str:
    """In nats."""
    return _DIVERGENCE[quantization]


def _report(output: Output) -> Conversion:
    request = output.request
    return Conversion(
        variant=request.variant,
        checks=output.errors.checks(),
        converter="citrate.formats.gguf",
        version=converter_version(),
        arguments={"name": request.name},
        source_dtype=request.model.source_dtype,
        bare=BARE,
    )


@lru_cache(maxsize=2)
def _vocabulary(model: SourceModel) -> Vocabulary:
    """The model's tokenizer, parsed once: it is asked for before and while converting."""
    return read_vocabulary(model.root, model.config)


def _metadata(request: Request, layout: Layout) -> dict[str, GgufValue]:
    """The keys of a file, in the order in which llama.cpp's converter and quantizer leave them."""
    model, architecture = request.model, layout.gguf_architecture
    licence = find_licence(model.root)
    keys = {
        "general.architecture": GgufValue(Kind.STRING, architecture),
        "general.type": GgufValue(Kind.STRING, "model"),
        "general.name": GgufValue(Kind.STRING, request.name),
    }
    if licence:
        keys["general.license"] = GgufValue(Kind.STRING, licence.spdx)
    for key, value in layout.gguf_metadata(model.config, model.root).items():
        keys[f"{architecture}.{key}"] = typed(value)
    keys |= _vocabulary(model).metadata()
    keys["general.quantization_version"] = GgufValue(Kind.UINT32, 2)
    keys["general.file_type"] = GgufValue(Kind.UINT32, MIXTURES[request.variant.quantization].file_type)
    return keys
