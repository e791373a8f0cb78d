"""Check a written artifact against its source: tokenizer parity always, logits where they fit in memory."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import psutil

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import Progress
from citrate.formats.checks import reference, tokens
from citrate.formats.checks.divergence import mean_divergence
from citrate.formats.checks.reference import Logits
from citrate.formats.layout import why_not
from citrate.formats.measure import rounded_up
from citrate.formats.source import SourceModel

Level: TypeAlias = Literal["full", "tensors"]

_NOT_RUN = "not run"


class Readable(Protocol):
    """What a format module offers to be checked."""

    def tokenize(self, path: Path, texts: tuple[str, ...], *, special: bool) -> list[list[int]]:
        """Token ids by the artifact's own tokenizer."""
        ...

    def logits(self, model: SourceModel, path: Path) -> Logits:
        """The artifact's logits at ``reference.positions(model)``, by its own runtime's decoder."""
        ...

    def divergence_limit(self, quantization: str) -> str:
        """The largest mean divergence from the source that passes, in nats."""
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
    logits = Check("logits", True, _NOT_RUN)
    if level == "full" and not why_not(model, Format.SAFETENSORS):
        limit = module.divergence_limit(variant.quantization)
        value = mean_divergence(reference.source_logits(model), module.logits(model, path))
        logits = _judged("logits", value, limit, variant)
        report("logits", 2, steps)
    return parity, logits


def _check_tokens(module: Readable, model: SourceModel, path: Path) -> Check:
    if not tokens.has_tokenizer(model.root):
        return Check("tokens", True, _NOT_RUN)
    texts = tokens.corpus(model.root)
    differing = 0
    for special in (False, True):
        wanted = tokens.tokenize(model.root, texts, special=special)
        found = module.tokenize(path, texts, special=special)
        pairs = zip(texts, wanted, found, strict=True)
        wrong = [text for text, ids, others in pairs if ids != others]
        differing += len(wrong)
        if wrong:
            raise FormatError(
                f"check 'tokens' failed: {differing} of {len(texts)} strings, limit 0; the first is {wrong[0]!r:.60}",
                hint="this tokenizer cannot be expressed in this format: leave the variant out",
            )
    return Check("tokens", True, "0", "0")


def _judged(name: str, value: float, limit: str, variant: Variant) -> Check:
    shown = rounded_up(value)
    if math.isnan(value) or Decimal(repr(value)) > Decimal(limit):
        raise FormatError(
            f"check {name!r} failed for {variant}: mean divergence {shown}, limit {limit}",
            hint="the conversion does not reproduce the model: leave the variant out, and report it",
        )
    return Check(name, True, shown, limit)


def _ignore(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
