# ruff: noqa: ARG001 - every model is answered the same
"""TensorRT-LLM: not written yet. It will be a quantised checkpoint per GPU architecture, made by NVIDIA ModelOpt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from citrate.core.errors import UnsupportedConversionError
from citrate.formats.checks.reference import Logits
from citrate.formats.conversion import Conversion, Request
from citrate.formats.source import SourceModel

BARE = False
_REASON = "this release does not write TensorRT-LLM checkpoints yet"


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """None for now."""
    return ()


def refusal(model: SourceModel) -> str:
    """Why not."""
    return _REASON


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Refuse."""
    raise UnsupportedConversionError(_REASON)


def tokenize(path: Path, texts: tuple[str, ...], *, special: bool) -> list[list[int]]:
    """Refuse."""
    raise UnsupportedConversionError(_REASON)


def logits(model: SourceModel, path: Path) -> Logits:
    """Refuse."""
    raise UnsupportedConversionError(_REASON)


def divergence_limit(quantization: str) -> str:
    """Refuse."""
    raise UnsupportedConversionError(_REASON)
