"""What a recipe names, on this machine: whether it may be trained on, and what is told of where it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, NotFoundError, NotPermittedError
from citrate.facade import Registry
from citrate.fine_tuning import prepare
from citrate.training import dataset, merkle, recipe
from citrate.training.rows import Method, canonical_row, shape_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def wanted(folder: Path, base: str) -> recipe.Recipe:
    """A recipe that names a dataset of the registry in ``folder``."""
    registry = Registry.open(home=folder / "home")
    _, rows = registry.add_dataset(EXAMPLES / "datasets" / "polite.jsonl", method="sft", licence="apache-2.0")
    path = folder / "a-recipe.yaml"
    named = {"schema": "citrate.recipe/1", "base": base, "method": "sft", "dataset": rows.cid, "steps": 4}
    path.write_text(json.dumps(named))
    return recipe.load(path)


def test_a_folder_whose_card_forbids_derivatives_is_not_trained_on(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "tiny-llama", tmp_path / "frozen")
    (tmp_path / "frozen" / "README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    with pytest.raises(NotPermittedError, match=r"of \./frozen, CC-BY-NC-ND-4\.0, forbids derivatives"):
        prepare(Registry.open(home=tmp_path / "home"), wanted(tmp_path, "./frozen"), tmp_path)


def test_a_dataset_that_is_none_is_told_how_to_make_one(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "tiny-llama", tmp_path / "tiny")
    named = wanted(tmp_path, "./tiny").model_copy(update={"dataset": "polite.jsonl"})
    with pytest.raises(NotFoundError, match=r"no dataset 'polite\.jsonl': it is no CID") as error:
        prepare(Registry.open(home=tmp_path / "home"), named, tmp_path)
    assert "citrate dataset add FILE --method sft" in error.value.hint


def by_hand(folder: Path, method: Method, row: dict[str, Json]) -> Path:
    """A dataset that ``dataset add`` would not make, whose rows are those of its card."""
    folder.mkdir()
    shape, line = shape_of(row, method), canonical_row(row)
    card = dataset.Card(
        schema="citrate.dataset/1", method=method, columns=shape.columns, conversational=shape.conversational, rows=1,
        root=merkle.root([line]).hex(), licence="MIT",
    )  # fmt: skip
    (folder / dataset.ROWS).write_bytes(line + b"\n")
    (folder / dataset.CARD).write_bytes(card.to_bytes())
    return folder


@pytest.mark.parametrize(
    ("method", "row", "said"),
    [
        (Method.SFT, {"messages": [{"role": "user", "content": "Hello?"}]}, "line 1: messages has no turn"),
        (Method.KTO, {"prompt": "p", "completion": "c", "label": False}, "its one row has the label false"),
    ],
)
def test_what_teaches_nothing_is_refused_before_training_and_verified_all_the_same(
    tmp_path: Path, method: Method, row: dict[str, Json], said: str
) -> None:
    """A run of it may be on record: whoever verifies that asks whether it was done, not whether it was wise."""
    shutil.copytree(EXAMPLES / "tiny-llama", tmp_path / "tiny")
    folder = by_hand(tmp_path / "rows", method, row)
    named = wanted(tmp_path, "./tiny").model_copy(update={"dataset": "rows", "method": method})
    registry = Registry.open(home=tmp_path / "home")
    with pytest.raises(FormatError, match=said):
        prepare(registry, named, tmp_path)
    assert registry.dataset(folder)[0].rows == 1


def test_a_folder_is_not_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(EXAMPLES / "tiny-llama", tmp_path / "tiny")
    for base in ("~/tiny", "./tiny", "tiny"):
        found = prepare(Registry.open(home=tmp_path / "home"), wanted(tmp_path, base), tmp_path)
        assert found.base_ref == "" and b"tiny" not in found.bound.to_bytes(), base
