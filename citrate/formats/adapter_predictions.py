"""Check what an adapter became by what it predicts on its base.

The factors were compared already (``adapter_conversion``); this shows that a runtime puts them where they belong.
"""

from __future__ import annotations

from pathlib import Path

from citrate.core.adapters import Applied
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Check, Format, Variant
from citrate.formats import families
from citrate.formats.adapter_updates import Updates
from citrate.formats.checks import memory, reference
from citrate.formats.checks.divergence import mean_divergence
from citrate.formats.comparing import Subject, predictions
from citrate.formats.families.family import Output
from citrate.formats.measure import rounded_up
from citrate.formats.source import SourceModel

_LIMITS = {"F32": 1e-4, "F16": 1e-4, "BF16": 1e-3}
"""Of GGUF: those of models in these types."""
_EXACT = 1e-6
"""Of forms whose factors are as exact as the source's."""


def require_comparable(base: SourceModel) -> None:
    """Refuse a base on which predictions cannot be compared, before anything is written.

    Raises:
        UnsupportedConversionError: it predicts no tokens.
        UnavailableError: there is not enough memory.
    """
    if families.output_of(base.config) is not Output.LOGITS:
        raise UnsupportedConversionError(
            f"{base.root.name} predicts no tokens, and what an adapter predicts on it is not compared",
            hint="--checks tensors compares the adapter's factors",
        )
    memory.require(base)


def check_predictions(source: Updates, variant: Variant, path: Path, base: SourceModel, runtime_base: Path) -> Check:
    """Compare the base with ``source`` and the base with what was written, at each position of a built-in text.

    Args:
        source: the adapter that was converted.
        variant: of what was written.
        path: where it lies.
        base: what the adapter was trained on.
        runtime_base: the base as a runtime of the variant takes it: for GGUF a file in F32, else ``base``'s folder.

    Raises:
        FormatError: their predictions differ by more than the types of the factors allow.
    """
    sequences = [list(ids) for ids in reference.positions(base)]
    before = Subject(base.root, Format.SAFETENSORS, Applied(source.root))
    after = Subject(runtime_base, variant.format, Applied(path))
    wanted, found = (predictions(each, sequences, base.architecture.vocab_size) for each in (before, after))
    distance, limit = mean_divergence(wanted, found), _limit(variant)
    if not distance <= limit:
        raise FormatError(
            f"check 'logits' failed: with the adapter as {variant} predictions are {rounded_up(distance)} nats off, "
            f"limit {limit}",
            hint="this is a fault of the converter: please report it",
        )
    return Check("logits", True, rounded_up(distance), rounded_up(limit))


def _limit(variant: Variant) -> float:
    return _LIMITS[variant.quantization or "F32"] if variant.format is Format.GGUF else _EXACT
