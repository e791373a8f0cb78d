"""Rows that a run does not take as they are: each is counted, for every method, as TRL treats it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from citrate.core.errors import TrainingError
from citrate.training import committing, dataset, recipe, run, trainers
from citrate.training.lengths import RowCount
from citrate.training.recipe import Recipe
from citrate.training.rows import Method
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS, make_rows
from tests.training.runs import BASE_SHA256

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]
SHORT, LONG = "Yes.", "a word and another " * 20
ROWS: dict[Method, tuple[list[dict[str, object]], tuple[int, int]]] = {
    Method.SFT: (
        [
            {"prompt": "Hello?", "completion": SHORT},
            {"prompt": "Hello?", "completion": LONG},
            {"prompt": LONG, "completion": SHORT},
        ],
        (1, 1),
    ),
    Method.DPO: (
        [
            {"prompt": "Hello?", "chosen": SHORT, "rejected": "No."},
            {"prompt": "Hello?", "chosen": SHORT, "rejected": LONG},
            {"prompt": LONG, "chosen": SHORT, "rejected": "No."},
        ],
        (1, 1),
    ),
    Method.REWARD: (
        [
            {"prompt": "Hello?", "chosen": SHORT, "rejected": "No."},
            {"prompt": "Hello?", "chosen": SHORT, "rejected": LONG},
            {"prompt": LONG, "chosen": SHORT, "rejected": "No."},
        ],
        (0, 2),
    ),
    Method.KTO: (
        [
            {"prompt": "Hello?", "completion": SHORT, "label": True},
            {"prompt": "Hi?", "completion": LONG, "label": False},
            {"prompt": LONG, "completion": SHORT, "label": True},
        ],
        (1, 1),
    ),
}


def counted(
    method: Method, rows: list[dict[str, object]], base: Path, tmp_path: Path, max_length: int = 32
) -> RowCount:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows").mkdir()
    folder = make_rows(tmp_path / "rows", tmp_path / "in.jsonl", method)
    wanted = Recipe.model_validate({**SETTINGS, "method": method, "max_length": max_length})
    kind = committing.committing(trainers.trainer_of(method))
    trainer = trainers.build(wanted, Inputs(base, folder), tmp_path / "work", kind)
    found: RowCount = trainer.row_count  # type: ignore[attr-defined]  # the subclass is made at run time
    assert len(trainer.train_dataset) == found.rows - found.dropped  # type: ignore[arg-type]  # it has a length
    return found


@pytest.mark.parametrize("method", ROWS)
def test_rows_that_are_cut_or_left_out_are_counted(method: Method, base: Path, tmp_path: Path) -> None:
    rows, (cut, dropped) = ROWS[method]
    found = counted(method, rows, base, tmp_path)
    assert found == RowCount(3, cut, dropped, 32)
    assert len(found.notes()) == bool(cut) + bool(dropped)


@pytest.mark.parametrize("method", [Method.SFT, Method.DPO])
def test_rows_past_the_context_of_the_base_are_told(method: Method, base: Path, tmp_path: Path) -> None:
    context = int(json.loads((base / "config.json").read_bytes())["max_position_embeddings"])
    found = counted(method, ROWS[method][0], reading(tmp_path, base, context // 8), tmp_path, context)
    assert (found.past, found.context) == (2, context // 8)
    assert f"2 of 3 rows are longer than the base's context ({context // 8} tokens)" in found.notes()[-1]
    (tmp_path / "again").mkdir()
    assert counted(method, ROWS[method][0], base, tmp_path / "again", 2 * context).past is None, (
        "no row is as long as that"
    )


def reading(tmp_path: Path, base: Path, context: int) -> Path:
    """The base, with another context."""
    shutil.copytree(base, tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "max_position_embeddings": context}))
    return tmp_path / "base"


@pytest.mark.parametrize("method", [Method.SFT, Method.KTO])
def test_a_run_of_which_nothing_is_left_is_refused(method: Method, base: Path, tmp_path: Path) -> None:
    long = ROWS[method][0][2]
    rows = [long, {**long, "label": False}] if "label" in long else [long, long]
    with pytest.raises(TrainingError, match="all 2 rows are longer than max_length") as error:
        counted(method, rows, base, tmp_path)
    assert error.value.hint == "raise max_length"


def test_a_run_tells_of_them_before_its_first_step(base: Path, rows: Path, tmp_path: Path) -> None:
    wanted = Recipe.model_validate({**SETTINGS, "steps": 1, "checkpoint_every": 1, "max_length": 24})
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    told: list[object] = []
    run.train(bound, Inputs(base, rows), tmp_path / "out", told.append, told.append)
    notes, step = told
    assert isinstance(step, run.Step) and isinstance(notes, tuple)
    assert "29 rows are longer than max_length (24 tokens)" in notes[0]
    assert json.loads((tmp_path / "out" / "health.json").read_bytes())["rows"]["cut"] > 0
