"""A forger who makes every hash around the forgery fit again is found by the replay of the segment that it touches."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core import canonical
from citrate.core.errors import FormatError, IntegrityError
from citrate.formats.adapter import WEIGHTS
from citrate.training import dataset, proof
from citrate.training.proof import Record, choose
from citrate.training.recipe import Bound
from citrate.training.replay import Replayed, replay
from citrate.training.rows import Method
from citrate.training.run import Step
from citrate.training.stepping import Inputs
from tests.training.conftest import make_rows
from tests.training.runs import EXAMPLES, edit_tensors, forge, with_leaf

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]
FORGED = hashlib.sha256(b"forged").hexdigest()


def replayed(folder: Path, number: int, base: Path, rows: Path, tmp_path: Path) -> Replayed:
    record = Record(folder)
    record.check()
    (tmp_path / f"work{number}").mkdir()
    inputs = Inputs(base, rows)
    return replay(record, number, inputs, folder / "adapter", tmp_path / f"work{number}")


def nudge(tensors: dict[str, object]) -> None:
    first = sorted(tensors)[0]
    tensors[first] = tensors[first] + 1e-6  # type: ignore[operator]  # a tensor


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_honest_run_is_equal_bit_for_bit(
    done: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path, number: int
) -> None:
    found = replayed(done[0], number, base, rows, tmp_path)
    assert found == Replayed(2 * number + 1, 2 * number + 2, ok=True, exact=True, differs="", error=0.0)


@pytest.mark.parametrize("part", ["batch", "weights", "optimizer", "rng"])
def test_a_forged_step_is_found(copy: Path, base: Path, rows: Path, tmp_path: Path, part: str) -> None:
    forge(copy, leaves=with_leaf(Record(copy), 3, **{part: FORGED}))
    found = replayed(copy, 1, base, rows, tmp_path)
    assert not found.ok and found.differs == f"step 3: {part}"


@pytest.mark.parametrize(("file", "part"), [(WEIGHTS, "weights"), ("optimizer.safetensors", "optimizer")])
def test_a_forged_checkpoint_is_found_by_the_segment_before_it(
    copy: Path, base: Path, rows: Path, tmp_path: Path, file: str, part: str
) -> None:
    forged = edit_tensors(copy / "checkpoints" / "step-00000004" / file, nudge)
    with pytest.raises(IntegrityError, match="the checkpoint after step 4"):
        Record(copy).check()
    forge(copy, leaves=with_leaf(Record(copy), 4, **{part: forged}))
    assert replayed(copy, 1, base, rows, tmp_path).differs == f"step 4: {part}"
    assert not replayed(copy, 2, base, rows, tmp_path).ok, "and by the one after it"


def test_a_forged_adapter_is_found_by_the_last_segment(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    forged = edit_tensors(copy / "adapter" / WEIGHTS, nudge)
    forge(copy, leaves=with_leaf(Record(copy), 6, weights=forged))
    found = replayed(copy, 2, base, rows, tmp_path)
    assert not found.ok and found.differs == "step 6: weights" and found.error > 0


def test_a_forged_row_is_found(copy: Path, base: Path, rows: Path, bound: Bound, tmp_path: Path) -> None:
    lines = (EXAMPLES / "datasets" / "polite.jsonl").read_text().replace("Thank you for asking.", "Thank me for it.")
    (tmp_path / "other.jsonl").write_text(lines)
    (tmp_path / "other").mkdir()
    other = make_rows(tmp_path / "other", tmp_path / "other.jsonl", Method.SFT)
    forge(copy, bound=bound.model_copy(update={"dataset_root": dataset.read(other).root}))
    assert replayed(copy, 0, base, other, tmp_path).differs.startswith("step 1: batch")


RECIPES: dict[str, Callable[[dict[str, object]], object]] = {
    "the learning rate": lambda recipe: recipe.update(optimizer={"learning_rate": "2e-3"}),
    "the seed": lambda recipe: recipe.update(seed=8),
    "the dropout": lambda recipe: recipe["lora"].update(dropout="0"),  # type: ignore[attr-defined]  # a dict
    "the alpha": lambda recipe: recipe["lora"].update(alpha=16),  # type: ignore[attr-defined]  # a dict
}


def test_a_recipe_of_other_targets_is_found(copy: Path, base: Path, rows: Path, bound: Bound, tmp_path: Path) -> None:
    document = json.loads(bound.to_bytes())
    document["recipe"]["lora"]["targets"] = ["q_proj"]
    forge(copy, bound=Bound.model_validate(document))
    assert not replayed(copy, 0, base, rows, tmp_path).ok
    with pytest.raises(IntegrityError, match="not of the weights that the recipe trains") as error:
        replayed(copy, 1, base, rows, tmp_path)
    assert "v_proj.lora_A" in str(error.value.details["path"])


def test_an_optimizer_of_other_weights_is_found(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    file = copy / "checkpoints" / "step-00000004" / "optimizer.safetensors"
    forged = edit_tensors(file, lambda tensors: tensors.update({"other.weight/exp_avg": tensors.popitem()[1]}))
    forge(copy, leaves=with_leaf(Record(copy), 4, optimizer=forged))
    with pytest.raises(IntegrityError, match="the state of a weight that is not trained"):
        replayed(copy, 2, base, rows, tmp_path)


@pytest.mark.parametrize("key", ["max_steps", "num_input_tokens_seen", "epoch"])
def test_what_the_trainer_counts_is_counted_again(copy: Path, base: Path, rows: Path, tmp_path: Path, key: str) -> None:
    file = copy / "checkpoints" / "step-00000004" / "trainer_state.json"
    told = json.loads(file.read_bytes())
    file.write_bytes(json.dumps({**told, key: told[key] + 1}, sort_keys=True).encode() + b"\n")
    elsewhere(copy)
    found = replayed(copy, 1, base, rows, tmp_path)
    assert not found.ok and found.differs == "step 4: what the trainer counts"


@pytest.mark.parametrize("what", RECIPES)
def test_a_forged_recipe_is_found(copy: Path, base: Path, rows: Path, bound: Bound, tmp_path: Path, what: str) -> None:
    document = json.loads(bound.to_bytes())
    RECIPES[what](document["recipe"])
    forge(copy, bound=Bound.model_validate(document))
    assert not replayed(copy, 1, base, rows, tmp_path).ok


def test_training_that_was_never_done_is_found(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    """The last checkpoint handed in as the outcome of the last segment."""
    record = Record(copy)
    shutil.copyfile(record.checkpoint(4) / WEIGHTS, copy / "adapter" / WEIGHTS)
    forge(copy, leaves=with_leaf(record, 6, weights=record.leaves[3].weights))
    assert not replayed(copy, 2, base, rows, tmp_path).ok


def test_rounding_is_granted_to_another_machine_only(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    record = Record(copy)
    forged = edit_tensors(copy / "adapter" / WEIGHTS, scaled(1e-8, ".weight"))
    forge(copy, leaves=with_leaf(record, 6, weights=forged if forged != record.leaves[5].weights else FORGED))
    assert not replayed(copy, 2, base, rows, tmp_path).ok
    elsewhere(copy)
    record = Record(copy)
    (tmp_path / "again").mkdir()
    found = replay(record, 2, Inputs(base, rows), copy / "adapter", tmp_path / "again")
    assert found.ok and not found.exact and found.error <= 1e-4


def elsewhere(folder: Path) -> None:
    """Have a run claim another machine."""
    claimed = Record(folder).proof
    other = claimed.environment.model_copy(update={"instructions": "VSX"})
    (folder / proof.PROOF).write_bytes(claimed.model_copy(update={"environment": other}).to_bytes())


MOMENTS = ("exp_avg", "exp_avg_sq")
FILES = {"optimizer": "optimizer.safetensors", "rng": "rng.safetensors"}


def scaled(by: float, *ends: str) -> Callable[[dict[str, object]], None]:
    def change(tensors: dict[str, object]) -> None:
        for name in tensors:
            if name.endswith(ends):
                tensors[name] = tensors[name] * (1 + by)  # type: ignore[operator]  # a tensor

    return change


def other_draws(tensors: dict[str, object]) -> None:
    for name in tensors:
        tensors[name] = tensors[name] ^ 1 if name == "torch" else tensors[name]  # type: ignore[operator]  # a tensor


@pytest.mark.parametrize(
    ("part", "change", "ok"),
    [
        ("optimizer", scaled(1e-6, *MOMENTS), True),
        ("optimizer", scaled(1e-2, *MOMENTS), False),
        ("rng", other_draws, False),
    ],
    ids=["rounded", "optimizer", "rng"],
)
def test_who_claims_another_machine_is_free_in_no_part_of_a_checkpoint(
    copy: Path, base: Path, rows: Path, tmp_path: Path, part: str, change: Callable[[dict[str, object]], None], ok: bool
) -> None:
    forged = edit_tensors(copy / "checkpoints" / "step-00000004" / FILES[part], change)
    assert forged != getattr(Record(copy).leaves[3], part)
    forge(copy, leaves=with_leaf(Record(copy), 4, **{part: forged}))
    elsewhere(copy)
    found = replayed(copy, 1, base, rows, tmp_path)
    assert (found.ok, found.differs, found.error) == (ok, f"step 4: {part}", 0.0)
    assert re.fullmatch(r"the run says processor \S+ VSX, here is \S+ \S.*", found.elsewhere)


def test_which_segments_are_replayed_follows_from_the_seed_alone() -> None:
    assert choose("00", 20, 3) == choose("00", 20, 3) == (3, 13, 17)
    assert choose("00", 3, 9) == (0, 1, 2)
    drawn = [choose(f"{seed:04x}", 10, 1)[0] for seed in range(500)]
    assert {drawn.count(number) > 25 for number in range(10)} == {True}


def test_forged_counts_of_rows_are_found(copy: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    """Nothing commits to them either; they are counted again, and are the same on every machine."""
    went = json.loads((copy / "health.json").read_bytes())
    went["rows"]["cut"] += 1
    (copy / "health.json").write_bytes(canonical.dumps(went))
    elsewhere(copy)
    found = replayed(copy, 1, base, rows, tmp_path)
    assert not found.ok and re.match(r"rows: 1 of \d+ cut, 0 left out, not 0 of", found.differs)


def test_a_line_that_is_torn_is_told_by_its_step(copy: Path) -> None:
    lines = (copy / "leaves.jsonl").read_bytes()
    (copy / "leaves.jsonl").write_bytes(lines[:-100])
    with pytest.raises(FormatError, match=r"^leaves\.jsonl has no whole line for step 6$") as error:
        Record(copy)
    assert "get its folder again" in error.value.hint


@pytest.mark.parametrize(("by", "ok_elsewhere"), [(0.5, False), (1 + 1e-7, True)])
def test_a_forged_log_is_found(
    copy: Path, base: Path, rows: Path, tmp_path: Path, by: float, ok_elsewhere: bool
) -> None:
    """Nothing commits to the log; where every hash is equal, the numbers in it must be, too, and elsewhere be near."""
    lines = (copy / "log.jsonl").read_bytes().splitlines(keepends=True)
    told = json.loads(lines[2])
    lines[2] = (json.dumps({**told, "loss": told["loss"] * by}, sort_keys=True) + "\n").encode()
    (copy / "log.jsonl").write_bytes(b"".join(lines))
    found = replayed(copy, 1, base, rows, tmp_path)
    assert not found.ok and found.differs == "step 3: log"
    elsewhere(copy)
    record = Record(copy)
    (tmp_path / "again").mkdir()
    assert replay(record, 1, Inputs(base, rows), copy / "adapter", tmp_path / "again").ok == ok_elsewhere
