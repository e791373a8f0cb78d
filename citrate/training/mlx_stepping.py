"""MLX as a stepper: mlx-lm's loss and layers, MLX's AdamW, and a loop of ours, so that every step can be done again.

mlx-lm's own loop takes its batches from numpy's generator and keeps no state to go on from. Imported in the process of
a run only, which has nothing else of MLX to do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import mlx.optimizers as optimizers
import numpy as np
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_map
from mlx_lm.tuner.trainer import default_loss

from citrate.core.errors import TrainingError
from citrate.formats.configuration import read_config
from citrate.training import checkpoint, determinism, failures, mlx_rows
from citrate.training.checkpoint import TrainerCounts
from citrate.training.commitment import Leaf, tensors_sha256
from citrate.training.lengths import RowCount
from citrate.training.mlx_model import Model, flat, nested, tensor_of
from citrate.training.mlx_rows import Batch, Batches
from citrate.training.recipe import Recipe
from citrate.training.stepping import Inputs, Told

if TYPE_CHECKING:
    import torch

_STEP, _RATE = "step", "learning_rate"


class MlxStepper:
    """A recipe of the backend ``mlx``."""

    row_count: RowCount | None

    def __init__(self, recipe: Recipe, inputs: Inputs) -> None:
        """Raises TrainingError where the base cannot be loaded, or cannot be trained so."""
        _choose_device(recipe)
        self._recipe = recipe
        rows, self.row_count = _rows(recipe, inputs)
        self._batches = Batches(rows, recipe)
        mx.random.seed(recipe.seed)
        self._model = Model(inputs.base, recipe)
        self._optimizer = _optimizer(recipe)
        self._optimizer.init(self._model.module.trainable_parameters())
        self._gradients = value_and_grad(self._model.module, default_loss)
        self._step = self._tokens = 0

    def go(self, begin: Path | None, on_step: Callable[[Told], None], *, stop_after: int | None = None) -> int:
        if begin is not None:
            self._restore(begin)
        while self._step < (stop_after or self._recipe.steps):
            on_step(self._next())
        return self._step

    def weights(self) -> dict[str, torch.Tensor]:
        return self._model.weights()

    def save(self, folder: Path) -> None:
        recipe = self._recipe
        counts = TrainerCounts(
            self._step, recipe.steps, self._batches.epoch(self._step), self._tokens, recipe.batch_size
        )
        checkpoint.save(folder, self.weights(), self._optimizer_state(), _random_state(), counts)

    def write_adapter(self, folder: Path) -> None:
        self._model.write_adapter(folder)

    def _next(self) -> Told:
        """Do a step."""
        self._step += 1
        rate = learning_rate(self._recipe, self._step)
        seen, tokens = hashlib.sha256(), 0
        loss, gradient, learnt = 0.0, None, 0
        for batch in self._batches.of_step(self._step):
            seen.update(_hashed(batch))
            tokens += batch.tokens
            (mean, count), found = self._gradients(self._model.module, mx.array(batch.ids), mx.array(batch.spans))
            loss, learnt = loss + float(mean) * int(count), learnt + int(count)
            gradient = _added(gradient, tree_map(lambda each, weight=count: each * weight, found))
        gradient = tree_map(lambda each: each / learnt, gradient)
        most = float(self._recipe.optimizer.max_grad_norm)
        gradient, norm = optimizers.clip_grad_norm(gradient, most)  # type: ignore[no-untyped-call]  # MLX's is untyped
        self._optimizer.learning_rate = rate
        self._optimizer.update(self._model.module, gradient)
        mx.eval(self._model.module.trainable_parameters(), self._optimizer.state)
        self._tokens += tokens
        return Told(self._leaf(seen.hexdigest()), loss / learnt, float(norm), rate, tokens)

    def _leaf(self, batch: str) -> Leaf:
        states = (self.weights(), self._optimizer_state(), _random_state())
        return Leaf(self._step, batch, *map(tensors_sha256, states))

    def _optimizer_state(self) -> dict[str, torch.Tensor]:
        """``parameter/state``, and how many steps were done; the learning rate follows from these."""
        state = {name: tensor_of(value) for name, value in flat(self._optimizer.state).items() if name != _RATE}
        return {"/".join(name.rsplit(".", 1)): tensor for name, tensor in state.items()}

    def _restore(self, folder: Path) -> None:
        counts = checkpoint.counts(folder)
        self._step, self._tokens = counts.step, counts.tokens
        self._model.set_weights(checkpoint.load(folder, checkpoint.WEIGHTS))
        saved = {
            name.replace("/", "."): mx.array(tensor.numpy())
            for name, tensor in checkpoint.load(folder, checkpoint.OPTIMIZER).items()
        }
        saved[_STEP] = saved[_STEP].astype(mx.uint64)
        rate = mx.array(learning_rate(self._recipe, max(counts.step, 1)))
        self._optimizer.state = nested({**saved, _RATE: rate})
        self._optimizer.init(self._model.module.trainable_parameters())
        _set_random_state(checkpoint.load(folder, checkpoint.RNG))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Of a step, from 1, as transformers' schedules have it: it rises from 0 over the warm-up."""
    full, done = float(recipe.optimizer.learning_rate), step - 1
    warm, kind = recipe.schedule.warmup_steps, recipe.schedule.kind
    if done < warm:
        return full * done / warm
    if kind == "constant":
        return full
    way = (done - warm) / (recipe.steps - warm)
    return full * (1 - way if kind == "linear" else 0.5 * (1 + math.cos(math.pi * way)))


def _choose_device(recipe: Recipe) -> None:
    wanted = determinism.profile(recipe.determinism)
    device = mx.cpu if wanted.device == "cpu" else mx.gpu
    if not mx.is_available(device):
        raise TrainingError("the recipe wants a GPU, and MLX finds none", hint="determinism: citrate/mlx-cpu")
    mx.set_default_device(device)
    if wanted.exact:
        mx.disable_compile()  # on a CPU it calls the machine's C++ compiler, if there is one: two ways of rounding


def _rows(recipe: Recipe, inputs: Inputs) -> tuple[list[mlx_rows.Tokens], RowCount]:
    from transformers import AutoTokenizer

    with failures.telling(
        f"{recipe.method} cannot begin on this base", memory="the rows", less="lower max_length",
        hint="citrate inspect tells what the base is",
    ):  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(inputs.base, trust_remote_code=False)
        context = read_config(inputs.base).context_length
        return mlx_rows.tokenized(inputs.dataset, tokenizer, recipe.max_length, context)


def _optimizer(recipe: Recipe) -> Any:
    wanted = recipe.optimizer
    return optimizers.AdamW(
        learning_rate=learning_rate(recipe, 1),
        betas=[float(wanted.beta1), float(wanted.beta2)],
        eps=float(wanted.epsilon),
        weight_decay=float(wanted.weight_decay),
        bias_correction=True,  # as torch's
    )


def _added(sum_: Any, more: Any) -> Any:
    found = more if sum_ is None else tree_map(mx.add, sum_, more)
    mx.eval(found)  # else the graphs of all batches wait in memory
    return found


def _hashed(batch: Batch) -> bytes:
    parts = [("input_ids", batch.ids), ("spans", batch.spans)]
    return b"".join(
        f"{name}|int32|{','.join(map(str, array.shape))}|".encode() + np.ascontiguousarray(array).tobytes()
        for name, array in parts
    )


def _random_state() -> dict[str, torch.Tensor]:
    """The key of MLX's generator, all of its state: uint32 [2], as int64."""
    (key,) = cast("Sequence[mx.array]", mx.random.state)  # its stub does not name it
    return {"mlx": tensor_of(key)}


def _set_random_state(states: dict[str, torch.Tensor]) -> None:
    high, low = map(int, states["mlx"].tolist())
    if not (0 <= high < 1 << 32 and 0 <= low < 1 << 32):
        raise TrainingError("the checkpoint's random key is none of MLX's", hint="citrate train did not write it")
    mx.random.seed(high << 32 | low)  # a seed's halves are the key
    if _random_state()["mlx"].tolist() != [high, low]:
        raise TrainingError(
            "this release of MLX draws from other states than the checkpoint's", hint="the proof names the release"
        )
