"""A trainer that commits to each of its steps, writes checkpoints of ours, and goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core import canonical
from citrate.core.errors import FormatError
from citrate.training import checkpoint, commitment
from citrate.training.checkpoint import TrainerCounts
from citrate.training.commitment import Leaf

if TYPE_CHECKING:
    import torch
    from transformers import Trainer


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


def committing(kind: type[Trainer]) -> type[Trainer]:
    """A subclass of TRL's trainer whose ``batch`` is the hash of what the model was given since it was last taken, and
    which restores our checkpoints where transformers would unpickle its own."""

    class Committing(kind):  # type: ignore[valid-type, misc]  # the trainer depends on the method
        def __init__(self, *given: Any, **named: Any) -> None:
            self.batch = hashlib.sha256()
            self.losses: list[float] = []
            self.tokens = 0
            super().__init__(*given, **named)

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            _hash_inputs(self.batch, inputs)
            self.tokens += _token_count(inputs)
            loss = super().training_step(model, inputs, *rest, **named)
            self.losses.append(float(loss))
            return loss

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            from peft import set_peft_model_state_dict

            weights = checkpoint.load(Path(resume_from_checkpoint), checkpoint.WEIGHTS)
            set_peft_model_state_dict(self.model if model is None else model, weights)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                _restore_optimizer(self, Path(checkpoint))

        def _load_rng_state(self, checkpoint_folder: str | None) -> None:
            if checkpoint_folder is not None:
                commitment.set_rng(checkpoint.load(Path(checkpoint_folder), checkpoint.RNG))

    return Committing


def leaf_of(trainer: Any) -> Leaf:
    """Commit to the step that a trainer has just done."""
    batch, trainer.batch = trainer.batch, hashlib.sha256()
    return Leaf(
        step=trainer.state.global_step,
        batch=batch.hexdigest(),
        weights=commitment.tensors_sha256(weights_of(trainer)),
        optimizer=commitment.tensors_sha256(_optimizer_of(trainer)),
        rng=commitment.tensors_sha256(commitment.rng_tensors()),
    )


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    """The weights that are trained, named as PEFT names them in a file."""
    from peft import get_peft_model_state_dict

    found: dict[str, torch.Tensor] = get_peft_model_state_dict(trainer.accelerator.unwrap_model(trainer.model))
    return found


def save(trainer: Any, folder: Path) -> None:
    """Write a checkpoint after the step that a trainer has just done."""
    state = trainer.state
    counts = TrainerCounts(
        step=state.global_step,
        max_steps=state.max_steps,
        epoch=float(state.epoch or 0),
        tokens=int(state.num_input_tokens_seen or 0),
        batch_size=int(state.train_batch_size or 0),
    )
    checkpoint.save(folder, weights_of(trainer), _optimizer_of(trainer), counts)


def _token_count(inputs: Any) -> int:
    masks = [inputs[name] for name in inputs if name.endswith("attention_mask")] if isinstance(inputs, dict) else []
    return sum(int(mask.sum()) for mask in masks)


def _hash_inputs(digest: hashlib._Hash, inputs: Any) -> None:
    """Tensors by their bytes, everything else (rows, of which a step makes its tensors itself) as canonical JSON."""
    import torch

    if isinstance(inputs, dict):
        for name in sorted(inputs):
            if isinstance(inputs[name], torch.Tensor):
                commitment.update(digest, name, inputs[name])
            elif inputs[name] is not None:
                digest.update(f"{name}|".encode() + _plain(inputs[name]))
    else:
        digest.update(_plain(inputs))


def _plain(value: Any) -> bytes:
    try:
        return canonical.dumps({"rows": value})
    except FormatError:
        return json.dumps(value, sort_keys=True, default=str).encode()


def _optimizer_of(trainer: Any) -> dict[str, torch.Tensor]:
    return commitment.optimizer_tensors(_inner(trainer.optimizer), _parameter_names(trainer))


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer below accelerate's wrapper."""
    found: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return found


def _parameter_names(trainer: Any) -> list[str]:
    """The names of the optimizer's parameters, in its order."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    return [names[id(each)] for group in _inner(trainer.optimizer).param_groups for each in group["params"]]


def _restore_optimizer(trainer: Any, folder: Path) -> None:
    saved, counts = checkpoint.load(folder, checkpoint.OPTIMIZER), checkpoint.counts(folder)
    optimizer = _inner(trainer.optimizer)
    names = _parameter_names(trainer)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in saved.items():
        name, _, state = key.rpartition("/")
        states.setdefault(names.index(name), {})[state] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    _restore_schedule(trainer.lr_scheduler, optimizer, counts.step)


def _restore_schedule(schedule: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    """The learning rate follows from the step alone."""
    inner = getattr(schedule, "scheduler", schedule)
    inner.last_epoch, inner._step_count = step, step + 1
    inner._last_lr = [base * rate(step) for base, rate in zip(inner.base_lrs, inner.lr_lambdas, strict=True)]
    for group, rate in zip(optimizer.param_groups, inner._last_lr, strict=True):
        group["lr"] = rate


def copied_weights(trainer: Any) -> dict[str, torch.Tensor]:
    """The weights that are trained, as they are now."""
    return {name: tensor.detach().cpu().clone() for name, tensor in weights_of(trainer).items()}


def watching(trainer: Any, on_step: Callable[[Told], None], *, stop_after: int | None = None) -> None:
    """Have ``on_step`` called after each optimizer step, when the trainer has told of it; what it raises ends the run.

    ``stop_after``: end the run after this step, although the recipe goes on.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.leaf: Leaf | None = None

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.leaf = leaf_of(trainer)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if self.leaf is None or not logs or "grad_norm" not in logs:
                return
            leaf, self.leaf = self.leaf, None
            control.should_training_stop = control.should_training_stop or leaf.step == stop_after
            losses, trainer.losses = trainer.losses, []
            tokens, trainer.tokens = trainer.tokens, 0
            on_step(
                Told(
                    leaf=leaf,
                    loss=sum(losses) / len(losses),
                    grad_norm=float(logs["grad_norm"]),
                    learning_rate=float(logs["learning_rate"]),
                    tokens=tokens,
                )
            )

    trainer.add_callback(Watch())
