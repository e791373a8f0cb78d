"""How `list` and `search` tell models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from citrate.cli import context

if TYPE_CHECKING:
    from citrate.registry.chain import ModelSummary


def show(models: Sequence[ModelSummary]) -> None:
    """One model a line, the reference last."""
    rows = [
        {"ref": f"{m.publisher}/{m.name}", "model_id": m.model_id, "publisher": m.publisher, "name": m.name}
        for m in models
    ]
    context.emit(
        {"models": rows},
        lambda: context.table([(m.name, f"{m.publisher}/{m.name}") for m in models], ("NAME", "REFERENCE")),
    )
