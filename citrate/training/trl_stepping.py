"""TRL as a stepper: its trainer, made to commit to each step and to keep checkpoints of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.training import committing, ranks, trainers
from citrate.training.lengths import RowCount
from citrate.training.recipe import Recipe
from citrate.training.stepping import Inputs, Told

if TYPE_CHECKING:
    import torch


class TrlStepper:
    """A recipe as TRL's trainer of its method."""

    def __init__(self, recipe: Recipe, inputs: Inputs, work: Path) -> None:
        """Raises TrainingError where the base cannot be loaded, or cannot be trained so."""
        kind = committing.committing(trainers.trainer_of(recipe.method))
        self._trainer: Any = trainers.build(recipe, inputs, work, kind)
        self._launched = recipe.accelerate is not None

    @property
    def row_count(self) -> RowCount | None:
        found: RowCount | None = self._trainer.row_count
        return found

    def go(self, begin: Path | None, on_step: Callable[[Told], None], *, stop_after: int | None = None) -> int:
        committing.watching(self._trainer, on_step, stop_after=stop_after)
        self._trainer.train(resume_from_checkpoint=str(begin) if begin else None)
        return int(self._trainer.state.global_step)

    def weights(self) -> dict[str, torch.Tensor]:
        return committing.copied_weights(self._trainer)

    def save(self, folder: Path) -> None:
        committing.save(self._trainer, folder)

    def write_adapter(self, folder: Path) -> None:
        if self._launched:
            self._trainer.save_model(str(folder))  # which puts shards together
        elif ranks.rank() == 0:
            self._trainer.accelerator.unwrap_model(self._trainer.model).save_pretrained(folder)
