"""Grade C: what a replay on another kind of machine ends with behaves as what is claimed.

Compared are predictions on the texts that the recipe committed to, as ``citrate compare`` measures them: KL divergence
in nats a token. An absolute limit would say little, since a segment that did nothing is close to everything; so the
distance counts in units of how far the claimed segment itself moved the predictions.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from citrate.core.adapters import Applied
from citrate.core.records import Format
from citrate.formats.adapter import WEIGHTS
from citrate.formats.adapter_config import CONFIG
from citrate.formats.comparing import Subject, measure
from citrate.formats.inspection import inspect
from citrate.training.recipe import Functional

if TYPE_CHECKING:
    import torch

    Weights: TypeAlias = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Ends:
    """A segment's weights: where it began, where it is claimed to end, and where its replay ended."""

    began: Weights
    claimed: Weights
    replayed: Weights


@dataclass(frozen=True)
class Behaviour:
    """What the predictions came to, in nats a token."""

    kl: float
    """KL(claimed || replayed)."""
    effect: float
    """KL(claimed || began)."""
    alike: bool


def compared(wanted: Functional, ends: Ends, base: Path, adapter: Path, work: Path) -> Behaviour:
    """Compare the two ends of a segment.

    Args:
        wanted: on which texts, and what limit.
        ends: the weights, of one shape.
        base: the model that they are put on.
        adapter: the run's outcome, whose configuration says how they are put on it.
        work: a folder that is not there yet.

    Raises:
        FormatError: a text has more tokens than the base's context, or the predictions are no numbers.
        UnsupportedConversionError: the base is of a family of which no predictions are compared.
    """
    form = Format(inspect(base).format)

    def subject(name: str, weights: Weights) -> Subject:
        return Subject(base, form, Applied(_written(weights, adapter, work / name)))

    claimed = subject("claimed", ends.claimed)
    kl = measure(claimed, subject("replayed", ends.replayed), wanted.prompts).mean
    effect = measure(claimed, subject("began", ends.began), wanted.prompts).mean
    return Behaviour(kl, effect, alike=kl <= float(wanted.limit) * effect)


def _written(weights: Weights, adapter: Path, folder: Path) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    shutil.copyfile(adapter / CONFIG, folder / CONFIG)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    return folder
