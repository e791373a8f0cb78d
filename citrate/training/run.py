"""Do a training run: step by step, committed, resumable, and at its end a clean adapter and its proof.

Runs in a process whose environment is the recipe's determinism profile (``process`` starts it). The run's folder:

::

    recipe.json  leaves.jsonl  checkpoints/  proof.json    the proof
    log.jsonl  health.json                                 loss, gradient norm and rate of each step; how it went
    adapter/                                               what came out, as it can be registered
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from citrate.core.errors import AlreadyExistsError, FormatError, IntegrityError, TrainingError
from citrate.formats import adapter as adapters
from citrate.formats.documents import read_bounded
from citrate.training import checkpoint, durable, failures, health, ranks, stepping
from citrate.training.commitment import Leaf, tensors_sha256
from citrate.training.holding import LOCK
from citrate.training.lengths import RowCount
from citrate.training.proof import CHECKPOINTS, LEAVES, PROOF, PROOF_MAX_BYTES, RECIPE, Environment, Proof, root_of
from citrate.training.recipe import Backend, Bound, Recipe
from citrate.training.stepping import Inputs, Stepper, Told

LOG, ADAPTER = "log.jsonl", "adapter"
_PACKAGES = {
    Backend.TRL: (
        "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy", "safetensors",
    ),
    Backend.MLX: ("mlx", "mlx-lm", "transformers", "tokenizers", "numpy"),
}  # fmt: skip
"""What takes part in a step; torch only carries the tensors that MLX's steps are hashed by."""
ANNOUNCED = "announced.json"
"""Which run of the ledger it is."""
BEFORE = (ANNOUNCED, f".{ANNOUNCED}", ".recipe.json", LOCK)
"""What may stand in a folder in which no run has begun: an announcement, and what was killed while it was written."""


@dataclass(frozen=True)
class Step:
    """What is told of a step: the mean loss over its batches, its tokens without padding, seconds since this process
    began its first, and the mean reward where there is a reward model."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    reward: float | None = None

    def to_line(self) -> bytes:
        """A line of the log; without the seconds, so that the same run gives the same bytes."""
        left_out = {"seconds"} if self.reward is not None else {"seconds", "reward"}
        line = {key: value for key, value in asdict(self).items() if key not in left_out}
        return json.dumps(line, sort_keys=True).encode() + b"\n"

    @classmethod
    def of(cls, told: Told, seconds: float) -> Step:
        """From what the trainer told."""
        return cls(told.leaf.step, told.loss, told.grad_norm, told.learning_rate, told.tokens, seconds, told.reward)


def train(
    bound: Bound,
    inputs: Inputs,
    out: Path,
    on_step: Callable[[Step], None],
    on_notes: Callable[[tuple[str, ...]], None] = lambda _: None,
) -> Proof:
    """Do a run, or go on with it where it was interrupted; a run that has ended is not done again.

    Args:
        bound: the recipe.
        inputs: its base, dataset and reward model, verified.
        out: the run's folder; a new one, or that of the same recipe.
        on_step: called after each step; in process 0 of several only.
        on_notes: called before the first step with what a user should know of the rows.

    Raises:
        AlreadyExistsError: the folder is another recipe's.
        TrainingError: the base cannot be trained so, memory ran out, or the loss is no number any more.
    """
    if ranks.rank() == 0:
        _take(out, bound)
    if not ranks.agreed((out / PROOF).exists()):
        run = _Run(bound, inputs, out, on_step, on_notes)
        run.go()
        run.finish()
    return _proof_in(out)


def ended(bound: Bound, out: Path) -> Proof | None:
    """The proof of a run that has ended; None while something is left to do.

    Raises:
        AlreadyExistsError: it is another recipe's.
    """
    if not (out / PROOF).exists():
        return None
    _take(out, bound)
    return _proof_in(out)


def _proof_in(out: Path) -> Proof:
    return Proof.parse(read_bounded(out / PROOF, PROOF_MAX_BYTES))


def _take(out: Path, bound: Bound) -> None:
    path = out / RECIPE
    if path.exists():
        if path.read_bytes() == bound.to_bytes():
            return
        never_began = {entry.name for entry in out.iterdir()} <= {RECIPE, LEAVES, LOG, "work", LOCK}
        if not never_began or durable.lines(out / LEAVES):
            raise AlreadyExistsError(f"{out} holds the run of another recipe", hint="choose another --out")
        for name in (RECIPE, LEAVES, LOG):  # it never did a step, maybe for what is mended in this one
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / "work", ignore_errors=True)
    if out.exists() and any(entry.name not in BEFORE for entry in out.iterdir()):
        raise AlreadyExistsError(f"{out} exists and is not empty", hint="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    durable.write(path, bound.to_bytes())


class _Run:
    def __init__(
        self,
        bound: Bound,
        inputs: Inputs,
        out: Path,
        on_step: Callable[[Step], None],
        on_notes: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._bound, self._inputs, self._out = bound, inputs, out
        self._on_step, self._on_notes = on_step, on_notes
        self._recipe = bound.recipe
        self._main = ranks.rank() == 0
        self._leaves: list[Leaf] = []
        self._started = time.monotonic()
        self._stepper: Stepper | None = None

    def go(self) -> None:
        work = self._out / "work"
        if self._main:
            shutil.rmtree(work, ignore_errors=True)
        begin = ranks.agreed(self._resume_from() if self._main else 0)
        stepper = self._stepper = stepping.opened(self._recipe, self._inputs, work)
        if self._main and stepper.row_count is not None and stepper.row_count.notes():
            self._on_notes(stepper.row_count.notes())
        if self._main and not self._bound.accelerate:
            _require_an_end(stepper, work / "before")
        with self._journal(LEAVES) as leaves, self._journal(LOG) as log:
            resume = checkpoint.folder_of(self._out / CHECKPOINTS, begin) if begin else None
            self._started = time.monotonic()
            with steps_told():
                done = stepper.go(resume, lambda step: self._after(stepper, step, leaves, log))
        if done != self._recipe.steps:
            raise TrainingError(f"training ended after {done} of {self._recipe.steps} steps")

    def _journal(self, name: str) -> BinaryIO:
        """Where lines are added; process 0 alone keeps them."""
        return (self._out / name if self._main else Path(os.devnull)).open("ab")

    def _resume_from(self) -> int:
        """The step of the newest checkpoint that is what its leaf says; what was written after it is cut off."""
        kept, logged = durable.lines(self._out / LEAVES), len(durable.lines(self._out / LOG))
        for step in reversed(checkpoint.steps_in(self._out / CHECKPOINTS)):
            try:
                leaves = [Leaf.parse(line) for line in kept[:step]]
                if [leaf.step for leaf in leaves] == list(range(1, step + 1)) and step <= logged:
                    checkpoint.check(checkpoint.folder_of(self._out / CHECKPOINTS, step), leaves[-1])
                    self._leaves = leaves
                    break
            except (FormatError, IntegrityError):
                continue
        for name in (LEAVES, LOG):
            durable.keep_lines(self._out / name, len(self._leaves))
        return len(self._leaves)

    def _after(self, stepper: Stepper, told: Told, leaves: Any, log: Any) -> None:
        if not math.isfinite(told.loss) or not math.isfinite(told.grad_norm):
            kept = checkpoint.steps_in(self._out / CHECKPOINTS)
            raise TrainingError(
                f"the loss is {told.loss} at step {told.leaf.step}: training stopped"
                + (f"; the state after step {kept[-1]} is kept" if kept else ""),
                hint="lower optimizer.learning_rate, or look for broken rows: citrate dataset show",
            )
        self._leaves.append(told.leaf)
        leaves.write(told.leaf.to_bytes() + b"\n")
        if not self._main:
            return
        step = Step.of(told, time.monotonic() - self._started)
        log.write(step.to_line())
        if told.leaf.step % self._recipe.checkpoint_every == 0 and told.leaf.step < self._recipe.steps:
            for file in (leaves, log):
                file.flush()
                os.fsync(file.fileno())
            stepper.save(checkpoint.folder_of(self._out / CHECKPOINTS, told.leaf.step))
        self._on_step(step)

    def finish(self) -> None:
        """Write what came out; process 0 does, and the others wait for its files."""
        assert self._stepper is not None, "it has gone"
        raw = self._out / "work" / "adapter"
        self._stepper.write_adapter(raw)
        if self._main:
            self._write(raw, self._stepper.row_count)
        ranks.agreed(0)

    def _write(self, raw: Path, rows: RowCount | None) -> None:
        weights = self._write_adapter(raw)
        if self._bound.accelerate:
            self._name_the_whole(weights)
        log = health.read_log(self._out / LOG, self._recipe.steps)
        found = health.summarise(log, self._recipe, rows)
        durable.write(self._out / health.HEALTH, found.to_bytes())
        for name in (LEAVES, LOG):
            durable.sync(self._out / name)
        proof = Proof(
            schema="citrate.training-proof/v1",
            recipe_sha256=self._bound.sha256,
            base_sha256=self._bound.base_sha256,
            dataset_root=self._bound.dataset_root,
            steps=self._recipe.steps,
            checkpoint_every=self._recipe.checkpoint_every,
            root=root_of(self._leaves),
            weights_sha256=weights,
            environment=environment(self._recipe),
        )
        durable.write(self._out / PROOF, proof.to_bytes())  # the last: who finds it relies on all the rest
        shutil.rmtree(self._out / "work", ignore_errors=True)

    def _name_the_whole(self, weights: str) -> None:
        """The last leaf of a run that accelerate may have sharded names the adapter, not the shards of it."""
        self._leaves[-1] = replace(self._leaves[-1], weights=weights)
        durable.write(self._out / LEAVES, b"".join(leaf.to_bytes() + b"\n" for leaf in self._leaves))

    def _write_adapter(self, raw: Path) -> str:
        """Write what is registered: PEFT's two files without what PEFT leaves of this machine in them."""
        target, found = self._out / ADAPTER, _opened(raw)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name, text in adapters.texts(found).items():
            (target / name).write_bytes(text)
        shutil.copyfile(raw / adapters.WEIGHTS, target / adapters.WEIGHTS)
        durable.sync_tree(target)
        weights = tensors_sha256(checkpoint.load(target, adapters.WEIGHTS))
        if weights != self._leaves[-1].weights and not self._bound.accelerate:
            raise IntegrityError(
                "the adapter that was written is not the last step's",
                path=adapters.WEIGHTS, expected=self._leaves[-1].weights, actual=weights,
            )  # fmt: skip
        return weights


def environment(recipe: Recipe) -> Environment:
    """What this process runs a recipe on."""
    import torch

    quantised = ("bitsandbytes",) if recipe.quantization == "nf4" else ()
    return Environment(
        profile=recipe.determinism,
        machine=platform.machine(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        packages={name: version(name) for name in (*_PACKAGES[recipe.backend], *quantised)},
    )


def steps_told() -> AbstractContextManager[None]:
    """Tells what the trainer raises in its steps."""
    return failures.telling("training failed", memory="a step", less=failures.LESS_OF_A_STEP)


def _require_an_end(stepper: Stepper, raw: Path) -> None:
    """Write the adapter as it is before the first step: what cannot be written at the end is not begun."""
    stepper.write_adapter(raw)
    try:
        _opened(raw)
    except FormatError as error:
        raise TrainingError(
            f"this run could not end: {error.message}", hint="a lower lora.rank, or fewer lora.targets"
        ) from error
    shutil.rmtree(raw)


def _opened(raw: Path) -> adapters.Adapter:
    """What PEFT wrote, without its template of a card, which names the base's path on this machine."""
    (raw / "README.md").unlink(missing_ok=True)
    return adapters.open_adapter(raw)
