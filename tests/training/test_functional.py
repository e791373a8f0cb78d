"""Grade C: a machine that rounds otherwise is judged by behaviour, and whoever trained otherwise is not let through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from citrate.core.errors import IntegrityError
from citrate.fine_tuning.verifying import require_configured_as_trained
from citrate.formats.adapter import WEIGHTS
from citrate.training import proof
from citrate.training.proof import Record
from citrate.training.recipe import Functional, Recipe
from citrate.training.replay import Replayed, replay
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS
from tests.training.runs import edit_tensors, forge, with_leaf

if TYPE_CHECKING:
    import torch

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]
WANTED = Functional.model_validate({"prompts": ["What is a CID?", "Who are you?"]})
Change = Callable[[dict[str, object]], None]


def scaled(tensors: dict[str, object]) -> None:
    """As another machine's rounding leaves weights that are trained in few bits: off, and the same in effect."""
    tensors.update({name: value * (1 + 1e-3) for name, value in tensors.items()})  # type: ignore[operator]  # tensors


def claimed(folder: Path, change: Change, machine: str = "VSX", wanted: Functional | None = WANTED) -> Record:
    """A run whose outcome is ``change``d, on another machine, with all hashes made to fit."""
    record = Record(folder)
    bound = record.bound.model_copy(update={"recipe": record.bound.recipe.model_copy(update={"functional": wanted})})
    changed = edit_tensors(folder / "adapter" / WEIGHTS, change)
    record = forge(folder, leaves=with_leaf(record, record.proof.steps, weights=changed), bound=bound)
    elsewhere = record.proof.environment.model_copy(update={"instructions": machine})
    (folder / proof.PROOF).write_bytes(record.proof.model_copy(update={"environment": elsewhere}).to_bytes())
    return Record(folder)


def replayed(record: Record, base: Path, rows: Path, work: Path) -> Replayed:
    record.check()
    work.mkdir()
    return replay(record, 2, Inputs(base, rows), record.folder / "adapter", work)


def test_what_behaves_alike_passes(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    """The grade that comes of it: see test_mlx_training."""
    found = replayed(claimed(copy, scaled), base, rows, tmp_path / "work")
    assert found.ok and not found.exact and found.error > 1e-4, found
    assert found.kl is not None and found.effect is not None and 0 < found.kl < 0.01 * found.effect, found


@pytest.mark.parametrize(("machine", "ok"), [("here", False), ("riscv64", True)])
def test_random_numbers_are_free_on_other_architectures_only(
    copy: Path, base: Path, rows: Path, tmp_path: Path, machine: str, ok: bool
) -> None:
    record = claimed(copy, scaled)
    forge(copy, leaves=with_leaf(record, 5, rng="f" * 64))
    if machine != "here":
        elsewhere = record.proof.environment.model_copy(update={"machine": machine})
        changed = Record(copy).proof.model_copy(update={"environment": elsewhere})
        (copy / proof.PROOF).write_bytes(changed.to_bytes())
    assert replayed(Record(copy), base, rows, tmp_path / "work").ok == ok


def never_trained(copy: Path) -> Change:
    def change(tensors: dict[str, object]) -> None:
        tensors.update(_of(copy, 4))

    return change


def half_trained(copy: Path) -> Change:
    def change(tensors: dict[str, object]) -> None:
        tensors.update({name: (value + tensors[name]) / 2 for name, value in _of(copy, 4).items()})  # type: ignore[operator]  # tensors

    return change


def _of(copy: Path, step: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(Record(copy).checkpoint(step) / WEIGHTS)
    return found


@pytest.mark.parametrize("forgery", [never_trained, half_trained])
def test_less_training_is_not_the_same_behaviour(
    copy: Path, base: Path, rows: Path, tmp_path: Path, forgery: Callable[[Path], Change]
) -> None:
    """Both are close to what was trained in absolute terms: one short segment moves predictions little."""
    found = replayed(claimed(copy, forgery(copy)), base, rows, tmp_path / "work")
    assert not found.ok, found
    assert found.kl is None or found.kl < 1e-2, "an absolute limit would let it through"


def test_behaviour_counts_only_where_the_recipe_says_so_and_the_machine_differs(
    copy: Path, base: Path, rows: Path, tmp_path: Path
) -> None:
    here = Record(copy).proof.environment.instructions
    record = claimed(copy, scaled, machine=here)
    found = replayed(record, base, rows, tmp_path / "here")
    assert not found.ok and found.kl is None, "on the same machine nothing but exact passes"
    record = claimed(copy, lambda _: None, wanted=None)
    found = replayed(record, base, rows, tmp_path / "unsaid")
    assert not found.ok and found.kl is None and found.error > 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"functional": {"prompts": []}}, "functional.prompts"),
        ({"functional": {"prompts": [""]}}, "functional.prompts.0"),
        ({"functional": {"prompts": ["x"], "limit": "0.2"}}, "functional.limit"),
        ({"functional": {"prompts": ["x"], "limit": 0}}, "functional.limit"),
        ({"functional": {"prompts": ["x"]}, "lora": {"dora": True}}, "no reward, no dora"),
        ({"functional": {"prompts": ["x"]}, "method": "reward"}, "no reward, no dora"),
    ],
)
def test_what_cannot_be_judged_by_behaviour_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="validation error") as error:
        Recipe.model_validate({**SETTINGS, **changes})
    assert said in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_alpha": 16},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 4}},
        {"layers_to_transform": [0]},
        {"exclude_modules": ["q_proj"]},
        {"use_qalora": True},
        {"task_type": "SEQ_CLS"},
        {"bias": "all"},
        {"base_model_name_or_path": "somebody/else"},
        {"what_peft_may_have_tomorrow": 1},
        {"lora_dropout": 0.5},
        {"init_lora_weights": "pissa"},
        {"revision": "main"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_an_adapter_that_is_configured_otherwise_is_found(copy: Path, changes: dict[str, object]) -> None:
    """The leaves hash weights; what they are put on, and how far they go, stands beside them."""
    require_configured_as_trained(copy / "adapter", Record(copy))
    path = copy / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(IntegrityError, match="not configured as its recipe trains one"):
        require_configured_as_trained(copy / "adapter", Record(copy))
