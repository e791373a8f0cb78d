"""What a run is made of, whichever library trains: a stepper goes on step by step, and commits to each.

Running and replaying know no more than this; TRL's stepper is in ``trl_stepping``, MLX's in ``mlx_stepping``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from citrate.core.errors import BackendMissingError
from citrate.training.commitment import Leaf
from citrate.training.lengths import RowCount
from citrate.training.recipe import Backend, Recipe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Inputs:
    """Where a run's inputs lie on this machine, verified before. ``reward``: the reward model, if one is wanted."""

    base: Path
    dataset: Path
    reward: Path | None = None


@dataclass(frozen=True)
class Told:
    """A step that was done: what it committed to, and what the trainer told of it."""

    leaf: Leaf
    loss: float
    """Mean over the step's batches."""
    grad_norm: float
    """Before it was scaled down."""
    learning_rate: float
    tokens: int
    """Tokens that it trained on, padding left out."""
    reward: float | None = None
    """Mean reward of the step's answers, where there is a reward model."""


class Stepper(Protocol):
    """A recipe on its inputs, loaded and not yet begun."""

    @property
    def row_count(self) -> RowCount | None:
        """What became of the dataset's rows, where the method cuts any."""
        ...

    def go(self, begin: Path | None, on_step: Callable[[Told], None], *, stop_after: int | None = None) -> int:
        """Train, from the start or from a checkpoint; returns the last step that was done.

        Args:
            begin: the checkpoint's folder.
            on_step: called after each step; what it raises ends the run.
            stop_after: end after this step, although the recipe goes on.
        """
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights that are trained, as they are now, named as PEFT names them in a file."""
        ...

    def save(self, folder: Path) -> None:
        """Write a checkpoint after the step that was just done; see ``checkpoint``."""
        ...

    def write_adapter(self, folder: Path) -> None:
        """Write what came out in PEFT's form; every process of a run calls it, and the first writes."""
        ...


def opened(recipe: Recipe, inputs: Inputs, work: Path) -> Stepper:
    """The stepper of a recipe's backend.

    Args:
        recipe: what to do.
        inputs: with what.
        work: an empty folder that it may write to.

    Raises:
        BackendMissingError: the backend is not installed.
        TrainingError: the base cannot be loaded, or cannot be trained so.
    """
    if recipe.backend is Backend.TRL:
        from citrate.training.trl_stepping import TrlStepper

        return TrlStepper(recipe, inputs, work)
    try:
        from citrate.training.mlx_stepping import MlxStepper
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f"training by mlx needs {error.name}", hint="pip install 'citrate[mlx,training]'"
        ) from error
    return MlxStepper(recipe, inputs)
