"""A trainer that commits to each of its steps, writes checkpoints of ours, and goes on from them."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from citrate.core import canonical
from citrate.core.errors import FormatError, IntegrityError
from citrate.formats.configuration import read_config
from citrate.training import checkpoint, commitment, lengths, ranks
from citrate.training.checkpoint import TrainerCounts
from citrate.training.commitment import Leaf
from citrate.training.lengths import RowCount
from citrate.training.stepping import Told

if TYPE_CHECKING:
    import torch
    from transformers import Trainer


def committing(kind: type[Trainer]) -> type[Trainer]:
    """A subclass of TRL's trainer whose ``batch`` is the hash of what the model was given since it was last taken, and
    which restores our checkpoints where transformers would unpickle its own."""

    class Committing(kind):  # type: ignore[valid-type, misc]  # the trainer depends on the method
        def __init__(self, *given: Any, **named: Any) -> None:
            self.batch = hashlib.sha256()
            self.losses: list[float] = []
            self.tokens = 0
            self.row_count: RowCount | None = None
            self.rng: dict[str, torch.Tensor] = {}
            self.trained: dict[str, torch.Tensor] | None = None
            self.base = Path(named["model"])
            super().__init__(*given, **named)

        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, *rest: Any) -> Any:
            prepare = super()._prepare_dataset
            found, self.row_count = lengths.prepared(
                lambda rows, arguments: prepare(rows, processing_class, arguments, *rest),
                dataset,
                args,
                read_config(self.base).context_length,
            )
            return found

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
                commitment.set_rng(_of_rank(checkpoint.load(Path(checkpoint_folder), checkpoint.RNG)))

    return Committing


@dataclass(frozen=True)
class _Mine:
    """What one process has of a step; the random generators' states are as long on each."""

    batch: bytes
    loss: float
    tokens: int
    rng: bytes

    _FORM: ClassVar[struct.Struct] = struct.Struct(">32sdq")

    def to_bytes(self) -> bytes:
        return self._FORM.pack(self.batch, self.loss, self.tokens) + self.rng

    @classmethod
    def parse(cls, data: bytes) -> _Mine:
        batch, loss, tokens = cls._FORM.unpack_from(data)
        return cls(batch, loss, tokens, data[cls._FORM.size :])


def _step_of(trainer: Any) -> Told:
    """Commit to the step that a trainer has just done, together with the run's other processes."""
    batch, trainer.batch = trainer.batch, hashlib.sha256()
    losses, trainer.losses = trainer.losses, []
    tokens, trainer.tokens = trainer.tokens, 0
    loss = sum(losses) / len(losses)
    if ranks.world() == 1:
        digest, trainer.rng = batch.hexdigest(), commitment.rng_tensors()
    else:
        from safetensors.torch import save

        mine = _Mine(batch.digest(), loss, tokens, save(commitment.rng_tensors()))
        all_ = [_Mine.parse(data) for data in ranks.gathered(mine.to_bytes())]
        digest = hashlib.sha256(b"".join(each.batch for each in all_)).hexdigest()
        loss, tokens = sum(each.loss for each in all_) / len(all_), sum(each.tokens for each in all_)
        trainer.rng = _of_all(all_)
    weights, optimizer = _shards(trainer) if _is_sharded(trainer) else _whole(trainer)
    leaf = Leaf(trainer.state.global_step, digest, weights, optimizer, commitment.tensors_sha256(trainer.rng))
    return Told(leaf, loss, math.nan, math.nan, tokens)


def _whole(trainer: Any) -> tuple[str, str]:
    if trainer.trained is None:  # the optimizer writes into these same tensors; to collect them costs more than to hash
        trainer.trained = weights_of(trainer)
    return commitment.tensors_sha256(trainer.trained), commitment.tensors_sha256(_optimizer_of(trainer))


def _is_sharded(trainer: Any) -> bool:
    """Whether no process has all of the weights (FSDP, DeepSpeed)."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def _shards(trainer: Any) -> tuple[str, str]:
    """The hashes of what each process holds, hashed in the order of their ranks."""
    optimizer = _inner(trainer.optimizer)
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    weights = {f"{at}": _local(each) for at, each in enumerate(parameters)}
    states = {
        f"{at}/{key}": _local(value)
        for at, each in enumerate(parameters)
        for key, value in optimizer.state.get(each, {}).items()
    }
    mine = [bytes.fromhex(commitment.tensors_sha256(each)) for each in (weights, states)]
    all_ = ranks.gathered(b"".join(mine))
    first, second = (hashlib.sha256(b"".join(each[at : at + 32] for each in all_)).hexdigest() for at in (0, 32))
    return first, second


def _local(value: Any) -> torch.Tensor:
    import torch

    found: torch.Tensor = value.to_local() if hasattr(value, "to_local") else torch.as_tensor(value)
    return found


def _of_all(all_: Sequence[_Mine]) -> dict[str, torch.Tensor]:
    """The random generators of all processes: ``rank0/torch`` and so on."""
    from safetensors.torch import load

    return {f"rank{rank}/{name}": tensor for rank, each in enumerate(all_) for name, tensor in load(each.rng).items()}


def _of_rank(states: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """This process's of the random generators in a checkpoint."""
    if ranks.world() == 1:
        return states
    mine = f"rank{ranks.rank()}/"
    return {name.removeprefix(mine): tensor for name, tensor in states.items() if name.startswith(mine)}


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
    checkpoint.save(folder, weights_of(trainer), _optimizer_of(trainer), trainer.rng, counts)


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
        if name not in names:
            raise IntegrityError(
                f"the checkpoint {folder.name} holds the state of a weight that is not trained",
                path=f"{folder.name}/{checkpoint.OPTIMIZER}", expected="weights of the recipe", actual=name[:200],
            )  # fmt: skip
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
            self.step: Told | None = None
            self.seen = 0

        def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
            self.seen = int(state.num_input_tokens_seen)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.step = _step_of(trainer)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if self.step is None or not logs or "grad_norm" not in logs:
                return
            step, self.step = self.step, None
            control.should_training_stop = control.should_training_stop or step.leaf.step == stop_after
            generated, self.seen = int(state.num_input_tokens_seen) - self.seen, int(state.num_input_tokens_seen)
            on_step(
                replace(
                    step,
                    grad_norm=float(logs["grad_norm"]),
                    learning_rate=float(logs["learning_rate"]),
                    tokens=step.tokens or generated,
                    reward=float(logs["reward"]) if "reward" in logs else None,
                )
            )

    trainer.add_callback(Watch())
