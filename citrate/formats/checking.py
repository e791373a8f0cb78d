"""Check a written artifact against its source: tokenizer parity always, logits where they fit in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import psutil

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import Progress
from citrate.formats import families
from citrate.formats.checks import reference, tokens
from citrate.formats.checks.divergence import farthest, mean_divergence
from citrate.formats.checks.reference import Outputs
from citrate.formats.families.family import Output
from citrate.formats.layout import why_not
from citrate.formats.measure import rounded_up
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary_tokens import Deviation

Level: TypeAlias = Literal["full", "tensors"]

_NOT_RUN = "not run"


class Readable(Protocol):
    """What a format module offers to be checked."""

    def tokenize(self, path: Path, texts: tuple[str, ...]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids by the artifact's own tokenizer, without and with what it puts around a text."""
        ...

    def deviation(self, model: SourceModel) -> Deviation | None:
        """Where the format cannot express the source's tokenizer exactly; None where it can."""
        ...

    def outputs(self, model: SourceModel, path: Path) -> Outputs:
        """The artifact's outputs at ``reference.positions(model)``, by its own runtime's decoder."""
        ...

    def limit(self, quantization: str, output: Output) -> str:
        """The largest distance from the source's outputs that passes: mean divergence in nats, or 1 - cosine."""
        ...


def default_check_level(model: SourceModel) -> Level:
    """``full`` where the source fits in memory as float32 with room for a second copy's pieces, else ``tensors``."""
    needed = 4 * model.architecture.parameters * 3 // 2 + (1 << 30)
    return "full" if needed < psutil.virtual_memory().available else "tensors"


def check_artifact(
    module: Readable,
    model: SourceModel,
    variant: Variant,
    path: Path,
    level: str,
    progress: Progress | None,
) -> tuple[Check, ...]:
    """Run the gates; see ``citrate.formats.check``."""
    if level not in ("full", "tensors"):
        raise ConfigError(f"unknown check level {level!r}", hint="use full or tensors")
    steps = 2 if level == "full" else 1
    report = progress or _ignore
    report("tokens", 0, steps)
    parity = _check_tokens(module, model, path)
    report("tokens", 1, steps)
    compared = _compare(module, model, variant, path) if level == "full" else _not_compared(model)
    report("logits", steps, steps)
    return *parity, compared


def _compare(module: Readable, model: SourceModel, variant: Variant, path: Path) -> Check:
    """The distance between what the source and the artifact yield."""
    output = families.output_of(model.config)
    if not output or why_not(model, Format.SAFETENSORS):
        return _not_compared(model)
    measure = farthest if output is Output.EMBEDDING else mean_divergence
    value = measure(reference.source_outputs(model), module.outputs(model, path))
    return _judged(str(output), value, module.limit(variant.quantization, output), variant)


def _not_compared(model: SourceModel) -> Check:
    return Check(str(families.output_of(model.config) or Output.LOGITS), True, _NOT_RUN)


def _check_tokens(module: Readable, model: SourceModel, path: Path) -> tuple[Check, ...]:
    """The artifact's tokenizer does what the source's does, or exactly what its format can express of it.

    In the second case a check of its own says how many strings of the corpus come out otherwise than by the source.
    """
    if not tokens.has_tokenizer(model.root):
        return (Check("tokens", True, _NOT_RUN),)
    texts, deviation = tokens.corpus(model.root), module.deviation(model)
    deviating: set[str] = set()
    for special, found in zip((False, True), module.tokenize(path, texts), strict=True):
        wanted = tokens.tokenize(model.root, texts, special=special)
        expressed = tokens.tokenize_as(deviation.document, texts, special=special) if deviation else wanted
        _require_equal(texts, expressed, found)
        deviating |= {text for text, ids, others in zip(texts, wanted, expressed, strict=True) if ids != others}
    parity = Check("tokens", True, "0", "0")
    return (parity, Check(f"tokens: {deviation.what}", True, str(len(deviating)))) if deviation else (parity,)


def _require_equal(texts: Sequence[str], wanted: Sequence[list[int]], found: Sequence[list[int]]) -> None:
    wrong = [text for text, ids, others in zip(texts, wanted, found, strict=True) if ids != others]
    if wrong:
        raise FormatError(
            f"check 'tokens' failed: {len(wrong)} of {len(texts)} strings, limit 0; the first is {wrong[0]!r:.60}",
            hint="this tokenizer cannot be expressed in this format: leave the variant out",
        )


def _judged(name: str, value: float, limit: str, variant: Variant) -> Check:
    shown = rounded_up(value)
    if math.isnan(value) or Decimal(repr(value)) > Decimal(limit):
        raise FormatError(
            f"check {name!r} failed for {variant}: distance {shown}, limit {limit}",
            hint="the conversion does not reproduce the model: leave the variant out, and report it",
        )
    return Check(name, True, shown, limit)


def _ignore(stage: str, done: int, total: int, source: str = "", /) -> None:
    """Report to nobody."""
