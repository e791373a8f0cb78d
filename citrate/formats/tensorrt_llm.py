"""TensorRT-LLM: not written yet. It will be a quantised checkpoint per GPU architecture, made by NVIDIA ModelOpt."""

from __future__ import annotations

from citrate.core.errors import UnsupportedConversionError
from citrate.formats.conversion import Conversion, Request
from citrate.formats.source import SourceModel

BARE = False


def quantizations(model: SourceModel) -> tuple[str, ...]:  # noqa: ARG001 - none for any model
    """None for now."""
    return ()


def refusal(model: SourceModel) -> str:  # noqa: ARG001 - the same for every model
    """Why not."""
    return "this release does not write TensorRT-LLM checkpoints yet"


def convert(request: Request) -> Conversion:
    """Refuse."""
    raise UnsupportedConversionError(refusal(request.model))
