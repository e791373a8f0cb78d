"""Check a written artifact against its source: tokenizer and what is passed on always, logits where it can be."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from citrate.core.errors import BackendMissingError, ConfigError, FormatError
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import Progress, unwatched
from citrate.formats import families
from citrate.formats.checks import memory, metadata, parity, reference
from citrate.formats.checks.divergence import farthest, mean_divergence
from citrate.formats.checks.reference import Outputs
from citrate.formats.checks.tokens import Tokenized, has_tokenizer
from citrate.formats.families.family import Output
from citrate.formats.layout import why_not
from citrate.formats.measure import rounded_up
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary_tokens import Deviation

Level: TypeAlias = Literal["full", "tensors"]

_NOT_RUN = "not run"
_EXTRAS: Mapping[str, tuple[str, str]] = {
    # what making and checking import -> what it is called where it is installed from, and the extra that brings it
    "tokenizers": ("tokenizers", "gguf"),
    "llama_cpp": ("llama-cpp-python", "gguf"),
    "mlx": ("mlx", "mlx"),
    "modelopt": ("nvidia-modelopt", "nvidia"),
    "torch": ("torch", "training"),
    "transformers": ("transformers", "training"),
}


class Readable(Protocol):
    """What a format module offers to be checked."""

    CHECKED_BY: Mapping[str, tuple[str, ...]]
    """The packages that its own checks need, by level."""

    def tokenize(self, path: Path, texts: Sequence[str]) -> Tokenized:
        """What the artifact's own tokenizer makes of ``texts``."""
        ...

    def deviation(self, model: SourceModel) -> Deviation | None:
        """Where the format cannot express the source's tokenizer exactly; None where it can."""
        ...

    def faults(self, model: SourceModel, quantization: str, path: Path) -> list[str]:
        """What the artifact lacks beside its weights, or says otherwise than the source, each in a few words."""
        ...

    def passed_on(self, model: SourceModel, variant: Variant, path: Path) -> tuple[Check, ...]:
        """Compare the weights that the artifact has as its source has them, byte for byte.

        Raises:
            FormatError: one is another; the message names it.
        """
        ...

    def outputs(self, model: SourceModel, path: Path) -> Outputs:
        """The artifact's outputs at ``reference.positions(model)``, by its own runtime's decoder."""
        ...

    def limit(self, quantization: str, output: Output) -> str:
        """The largest distance from the source's outputs that passes: mean divergence in nats, or 1 - cosine."""
        ...


def default_level(module: Readable, model: SourceModel) -> Level:
    """``full`` where all that it needs is installed and its memory is there now, else ``tensors``."""
    if _missing(module, model, "full"):
        return "tensors"
    return "full" if memory.needed_bytes(model) < memory.available_bytes() else "tensors"


def require(module: Readable, model: SourceModel, variant: Variant, level: str | None) -> None:
    """Return if an artifact of ``variant`` could be checked here; nothing is read.

    Args:
        module: the variant's format.
        model: the source.
        variant: for messages.
        level: as of ``citrate.formats.check``; None for the default one.

    Raises:
        ConfigError: no such level.
        BackendMissingError: an extra is not installed.
        UnavailableError: there is not enough memory.
    """
    if level not in (None, "full", "tensors"):
        raise ConfigError(f"unknown check level {level!r}", hint="use full or tensors")
    missing = _missing(module, model, level or "tensors")
    if missing:
        name, extra = _EXTRAS[missing[0]]
        less = ", or use --checks tensors" if level == "full" and not _missing(module, model, "tensors") else ""
        raise BackendMissingError(
            f"{variant} cannot be checked without {name}", hint=f"pip install 'citrate[{extra}]'{less}"
        )
    if level == "full" and _comparable(model):
        memory.require(model)


def check_artifact(
    module: Readable,
    model: SourceModel,
    variant: Variant,
    path: Path,
    level: str,
    progress: Progress | None,
) -> tuple[Check, ...]:
    """Run the gates; see ``citrate.formats.check``."""
    require(module, model, variant, level)
    report = progress or unwatched
    report("tokens", 0, 1)
    tokens = parity.check(model, variant, module.deviation(model), partial(module.tokenize, path))
    complete = metadata.check(variant, module.faults(model, variant.quantization, path))
    weights = module.passed_on(model, variant, path)
    report("tokens", 1, 1)
    report("logits", 0, 1)
    outputs = _compare(module, model, variant, path) if level == "full" else _not_compared(model)
    report("logits", 1, 1)
    return *tokens, *weights, complete, outputs


def _missing(module: Readable, model: SourceModel, level: str) -> list[str]:
    """The packages that a check at ``level`` needs and that are not installed."""
    needed = [*(["tokenizers"] if has_tokenizer(model.root) else []), *module.CHECKED_BY.get(level, ())]
    if level == "full" and _comparable(model):
        needed += ["torch", "transformers"]
    return [package for package in needed if importlib.util.find_spec(package) is None]


def _comparable(model: SourceModel) -> bool:
    return bool(families.output_of(model.config)) and not why_not(model, Format.SAFETENSORS)


def _compare(module: Readable, model: SourceModel, variant: Variant, path: Path) -> Check:
    """The distance between what the source and the artifact yield."""
    output = families.output_of(model.config)
    if not _comparable(model):
        return _not_compared(model)
    measure = farthest if output is Output.EMBEDDING else mean_divergence
    value = measure(reference.source_outputs(model), module.outputs(model, path))
    return _judged(str(output), value, module.limit(variant.quantization, output), variant)


def _not_compared(model: SourceModel) -> Check:
    return Check(str(families.output_of(model.config) or Output.LOGITS), True, _NOT_RUN)


def _judged(name: str, value: float, limit: str, variant: Variant) -> Check:
    shown = rounded_up(value)
    if math.isnan(value) or Decimal(repr(value)) > Decimal(limit):
        raise FormatError(
            f"check {name!r} failed for {variant}: distance {shown}, limit {limit}",
            hint="the conversion does not reproduce the model: leave the variant out, and report it",
        )
    return Check(name, True, shown, limit)
