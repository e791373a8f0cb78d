"""Checkpoints of a training run: everything that the next step depends on, as SafeTensors and JSON. No pickle.

::

    step-00000050/adapter_model.safetensors   the trained weights
    step-00000050/optimizer.safetensors       the optimizer's state, parameter/state
    step-00000050/rng.safetensors             the random generators; of several processes: rank0/..., rank1/...
    step-00000050/trainer_state.json          which step, and what the trainer counts
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import FormatError, IntegrityError
from citrate.formats.documents import read_bounded
from citrate.training import durable
from citrate.training.commitment import Leaf, tensors_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

WEIGHTS, OPTIMIZER, RNG, STATE = (
    "adapter_model.safetensors",
    "optimizer.safetensors",
    "rng.safetensors",
    "trainer_state.json",
)
_STATE_MAX_BYTES = 4096
DAMAGED = "the run is not as it was written: get its folder again"
_COUNTED = ("global_step", "max_steps", "epoch", "num_input_tokens_seen", "train_batch_size")
_COUNT_MAX = 1 << 53


@dataclass(frozen=True)
class TrainerCounts:
    """What the trainer counts beside its tensors; the learning rate follows from the step."""

    step: int
    max_steps: int
    epoch: float
    tokens: int
    batch_size: int


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint after a step lies."""
    return root / f"step-{step:08d}"


def steps_in(root: Path) -> list[int]:
    """The steps of which there are whole checkpoints, ascending."""
    if not root.is_dir():
        return []
    names = (path.name for path in root.iterdir() if path.is_dir() and path.name.startswith("step-"))
    return sorted(int(name[5:]) for name in names if name[5:].isdecimal())


def save(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, torch.Tensor],
    rng: Mapping[str, torch.Tensor],
    counts: TrainerCounts,
) -> None:
    """Write a checkpoint: whole, or not at all."""
    from safetensors.torch import save_file

    staging = folder.with_name(f".{folder.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for name, tensors in ((WEIGHTS, weights), (OPTIMIZER, optimizer), (RNG, rng)):
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, staging / name)
    (staging / STATE).write_bytes(_encoded(counts))
    for path in staging.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which an IPFS node under another user cannot read
        durable.sync(path)
    durable.sync(staging)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    durable.sync(folder.parent)


def load(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of one file of a checkpoint.

    Raises:
        FormatError: it is missing or no SafeTensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / name)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{folder.name} has no readable {name}", hint=DAMAGED) from error


def counts(folder: Path) -> TrainerCounts:
    """What stands beside the tensors of a checkpoint.

    No leaf commits to that file, and the trainer believes all of it: it is what ``save`` writes, and not a byte else.

    Raises:
        FormatError: it is missing, malformed, or says more than that.
    """
    try:
        data = read_bounded(folder / STATE, _STATE_MAX_BYTES)
        document = json.loads(data)
        found = TrainerCounts(*(document[key] for key in _COUNTED))
        whole = (found.step, found.max_steps, found.tokens, found.batch_size)
        sound = all(type(each) is int and 0 <= each <= _COUNT_MAX for each in whole)
        if sound and type(found.epoch) is float and math.isfinite(found.epoch) and _encoded(found) == data:
            return found
    except (FormatError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"the checkpoint {folder.name} has no readable {STATE}", hint=DAMAGED) from error
    raise FormatError(f"the checkpoint {folder.name} has a {STATE} that no run writes", hint=DAMAGED)


def check(folder: Path, leaf: Leaf) -> None:
    """Hold a checkpoint's tensors against the step that it was taken after.

    Raises:
        FormatError: a file is missing or malformed.
        IntegrityError: it is another state than the run committed to.
    """
    for name, expected in ((WEIGHTS, leaf.weights), (OPTIMIZER, leaf.optimizer), (RNG, leaf.rng)):
        actual = tensors_sha256(load(folder, name))
        if actual != expected:
            raise IntegrityError(
                f"the checkpoint after step {leaf.step} is not the state that the run committed to",
                path=f"{folder.name}/{name}", expected=expected, actual=actual,
            )  # fmt: skip
    if counts(folder).step != leaf.step:
        raise IntegrityError(
            f"the checkpoint {folder.name} says that it is another step's",
            path=f"{folder.name}/{STATE}", expected=str(leaf.step), actual=str(counts(folder).step),
        )  # fmt: skip


def _encoded(found: TrainerCounts) -> bytes:
    """Named as transformers' trainer names them, which reads this file when it goes on."""
    values = (found.step, found.max_steps, found.epoch, found.tokens, found.batch_size)
    always = {
        "log_history": [],
        "logging_steps": 1,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
    }
    return json.dumps({**dict(zip(_COUNTED, values, strict=True)), **always}, sort_keys=True).encode() + b"\n"
