# ruff: noqa: ARG001 - every model is answered the same
"""TensorRT-LLM: not written yet. It will be a quantised checkpoint per GPU architecture, made by NVIDIA ModelOpt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from citrate.core.errors import UnsupportedConversionError
from citrate.core.records import Format
from citrate.formats import families
from citrate.formats.checks.reference import Outputs
from citrate.formats.checks.tokens import Tokenized
from citrate.formats.conversion import Conversion, Request
from citrate.formats.families.family import Output
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary_tokens import Deviation

BARE = False
REASON = "this release does not write TensorRT-LLM checkpoints yet"


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """None for now."""
    return ()


def refusal(model: SourceModel) -> str:
    """Why not."""
    family = families.find(model.config)
    return family.refusals.get(Format.TENSORRT_LLM, REASON) if family else REASON


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Refuse."""
    raise UnsupportedConversionError(REASON)


def tokenize(path: Path, texts: Sequence[str]) -> Tokenized:
    """Refuse."""
    raise UnsupportedConversionError(REASON)


def deviation(model: SourceModel) -> Deviation | None:
    """None: the tokenizer is passed on as it is."""
    return None


def faults(model: SourceModel, quantization: str, path: Path) -> list[str]:
    """Refuse."""
    raise UnsupportedConversionError(REASON)


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Refuse."""
    raise UnsupportedConversionError(REASON)


def limit(quantization: str, output: Output) -> str:
    """Refuse."""
    raise UnsupportedConversionError(REASON)
