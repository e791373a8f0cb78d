"""Model formats: a validated directory in, verified variants out. No network, no chain.

::

    model = open_model("my-model")
    for variant in possible_variants(model):
        conversion = convert(model, variant, sink, name="tiny")  # streams; measures every tensor
        checks = check(model, variant, path_of_artifact)    # tokenizer and logits of what was written
    conversions = convert_all(model, sinks)  # {variant: sink}: all GGUF files from one read of the weights

Adding a format is adding a module and its line in ``FORMATS``; adding a family is adding a module under ``families``
and its name there.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from citrate.core.errors import ConfigError, UnsupportedConversionError
from citrate.core.records import NAME_PATTERN, Check, Format, Variant, did_you_mean
from citrate.core.sink import Progress, Sink
from citrate.formats.checking import Level, Readable, check_artifact, default_level
from citrate.formats.checking import require as require_checking
from citrate.formats.conversion import Conversion, Request
from citrate.formats.inspection import Inspection, examine, inspect, require_template, require_writes
from citrate.formats.licence import Licence, find_licence, spdx_of, stated_spdx
from citrate.formats.source import SourceModel, open_model

__all__ = [
    "DEFAULT_VARIANTS",
    "Conversion",
    "Inspection",
    "Licence",
    "SourceModel",
    "check",
    "convert",
    "convert_all",
    "default_check_level",
    "examine",
    "find_licence",
    "inspect",
    "is_bare",
    "open_model",
    "possible_variants",
    "require_checkable",
    "require_possible",
    "require_template",
    "require_writes",
    "spdx_of",
    "stated_spdx",
    "toolchain",
    "why_impossible",
]

FORMATS: Mapping[Format, str] = {
    Format.SAFETENSORS: "citrate.formats.safetensors",
    Format.GGUF: "citrate.formats.gguf",
    Format.MLX: "citrate.formats.mlx",
    Format.TENSORRT_LLM: "citrate.formats.tensorrt_llm",
}

DEFAULT_VARIANTS = tuple(Variant.parse(text) for text in ("safetensors", "gguf:Q4_K_M", "gguf:Q8_0", "mlx:4bit"))
"""What ``register-model`` publishes when nothing is named, as far as the architecture allows."""


class FormatModule(Readable, Protocol):
    """What every module of ``FORMATS`` offers."""

    BARE: bool
    """One file is the whole artifact."""

    TARGETS: Mapping[str, tuple[str, ...]]
    """The GPU architectures that a quantization is made for; what is not named runs anywhere."""

    def quantizations(self, model: SourceModel) -> tuple[str, ...]:
        """The quantizations ``model`` can be written in; empty where none."""
        ...

    def refusal(self, model: SourceModel) -> str:
        """Why ``model`` cannot be written in this format at all; empty where it can."""
        ...

    def toolchain(self, quantization: str) -> Mapping[str, str]:
        """What the bytes depend on beside the source, its name and citrate's release; as ``Conversion.arguments``."""
        ...

    def convert(self, requests: Sequence[Request]) -> tuple[Conversion, ...]:
        """Write each request's artifact into its sink; all of one model, in one read where the format can."""
        ...


def possible_variants(model: SourceModel) -> tuple[Variant, ...]:
    """Every variant that ``convert`` can make of ``model``."""
    return tuple(variant for format_ in FORMATS for variant in _variants(model, format_))


def convert(
    model: SourceModel,
    variant: Variant,
    sink: Sink,
    *,
    name: str = "model",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Write ``variant`` of ``model`` into ``sink``, tensor by tensor.

    The same model, name and variant give the same bytes, on any number of threads. Memory does not grow with the
    model. Weights are quantised from the source's own precision.

    Args:
        model: from ``open_model``.
        variant: one of ``possible_variants(model)``.
        sink: takes the files in order; uncommitted if this raises.
        name: the model's name, written into GGUF metadata and file names.
        threads: default: all cores this process may use.
        progress: called with the variant, bytes of the source done, and their total.

    Raises:
        UnsupportedConversionError: this model cannot be written so; the hint lists what is possible.
        ConfigError: the name is none that a model can have.
        FormatError: a NaN or infinite weight, or a tensor that came out too far from the source.
        BackendMissingError: an extra is not installed.
    """
    return convert_all(model, {variant: sink}, name=name, threads=threads, progress=progress)[variant]


def convert_all(
    model: SourceModel,
    sinks: Mapping[Variant, Sink],
    *,
    name: str = "model",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Mapping[Variant, Conversion]:
    """As ``convert``, for several variants: all GGUF files come from one read of the weights, in the same bytes.

    Where this raises, no sink holds a whole artifact of the format that failed.
    """
    for variant in sinks:
        require_possible(model, variant)
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a model name", hint="use a-z, 0-9, '.', '_' and '-'")
    done: dict[Variant, Conversion] = {}
    for format_ in FORMATS:
        requests = [
            Request(model, variant, sink, name, threads, progress)
            for variant, sink in sinks.items()
            if variant.format is format_
        ]
        if requests:
            done |= {conversion.variant: conversion for conversion in _module(format_).convert(requests)}
    return done


def check(
    model: SourceModel,
    variant: Variant,
    path: Path,
    *,
    level: str = "full",
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Check the written artifact at ``path`` against its source.

    Args:
        model: the source.
        variant: what ``path`` was converted to.
        path: the artifact: a file if ``is_bare(variant)``, else a directory.
        level: ``full`` compares tokens and logits; ``tensors`` leaves the logits out and says so in the result.
        progress: called with the stage and steps done.

    Raises:
        FormatError: a gate failed; the message names check, value and limit.
        BackendMissingError: an extra is not installed.
        ConfigError: no such level.
    """
    return check_artifact(_module(variant.format), model, variant, path, level, progress)


def default_check_level(model: SourceModel, variant: Variant) -> Level:
    """``full`` where all that it needs is installed and its memory is there now, else ``tensors``."""
    return default_level(_module(variant.format), model)


def require_checkable(model: SourceModel, variant: Variant, level: str | None) -> None:
    """Return if this machine has the programs of others that make ``variant`` and that ``check`` compares it by at
    ``level`` (None: the default one); nothing is read or converted.

    Raises:
        ConfigError: no such level.
        BackendMissingError: an extra is not installed.
        UnavailableError: there is not enough memory.
    """
    require_checking(_module(variant.format), model, variant, level)


def toolchain(variant: Variant) -> Mapping[str, str]:
    """What the bytes of ``variant`` depend on beside its source, its name and citrate's release: the versions of other
    people's programs as they are installed here, and what those are given. Empty where all of it is ours."""
    return _module(variant.format).toolchain(variant.quantization)


def require_possible(model: SourceModel, variant: Variant) -> None:
    """Return if ``convert`` can make ``variant`` of ``model``.

    Raises:
        UnsupportedConversionError: why not; the hint lists what is possible.
    """
    if variant not in _variants(model, variant.format):
        raise _unsupported(model, variant, _module(variant.format))


def why_impossible(model: SourceModel, variant: Variant) -> str:
    """Why ``variant`` cannot be made of ``model``, in half a sentence; empty where it can."""
    try:
        require_possible(model, variant)
    except UnsupportedConversionError:
        return _module(variant.format).refusal(model) or f"{variant} is no variant that citrate writes"
    return ""


def is_bare(variant: Variant) -> bool:
    """Whether the artifact of ``variant`` is one file rather than a directory."""
    return _module(variant.format).BARE


def _variants(model: SourceModel, format_: Format) -> list[Variant]:
    module = _module(format_)
    return [
        Variant(format_, quantization, target)
        for quantization in module.quantizations(model)
        for target in module.TARGETS.get(quantization, ("",))
    ]


def _unsupported(model: SourceModel, variant: Variant, module: FormatModule) -> UnsupportedConversionError:
    reason = module.refusal(model) or f"{variant} is no variant that citrate writes"
    possible = possible_variants(model)
    name = model.config.class_name or model.config.model_type or "this model"
    hint = f"{did_you_mean(variant, possible)}possible: {', '.join(map(str, possible))}"
    return UnsupportedConversionError(f"{name} cannot become {variant}: {reason}", hint=hint)


def _module(format_: Format) -> FormatModule:
    return cast(FormatModule, importlib.import_module(FORMATS[format_]))
