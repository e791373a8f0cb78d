"""A tokenizer that breaks the library that runs it ends a run with one line, whoever trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citrate.core.errors import TrainingError
from citrate.training import dataset, recipe, run
from citrate.training.failures import telling
from citrate.training.recipe import Bound, Recipe
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS
from tests.training.runs import BASE_SHA256

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module", autouse=True)
def _compiled_afterwards() -> Iterator[None]:
    """A run switches MLX's compiler off in its process, which here is everybody's."""
    import mlx.core as mx

    yield
    mx.enable_compile()


def _panics_when_it_cuts(document: dict[str, object]) -> None:
    document["pre_tokenizer"] = {"type": "FixedLength", "length": 0}


def _panics_when_it_is_loaded(document: dict[str, object]) -> None:
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAAAAA="}


def _is_refused(document: dict[str, object]) -> None:
    document["model"] = {"type": "Unheard of"}


BREAKS: dict[str, Callable[[dict[str, object]], None]] = {
    "panics when it cuts": _panics_when_it_cuts,
    "panics when it is loaded": _panics_when_it_is_loaded,
    "is refused": _is_refused,
}


def bound_of(rows: Path, backend: str) -> Bound:
    wanted = Recipe.model_validate({**SETTINGS, "backend": backend} if backend != "trl" else SETTINGS)
    return recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)


@pytest.mark.parametrize("backend", ["trl", "mlx"])
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_tokenizer_is_one_line(how: str, backend: str, base: Path, rows: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    document = json.loads((broken / "tokenizer.json").read_text())
    BREAKS[how](document)
    (broken / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(TrainingError) as caught:
        run.train(bound_of(rows, backend), Inputs(broken, rows), tmp_path / "out", lambda _: None)
    assert caught.value.message.startswith("sft cannot begin on this base: ")
    assert "\n" not in caught.value.message and len(caught.value.message) < 400
    assert "citrate inspect" in caught.value.hint
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, Exception) != how.startswith("panics"), "a panic is no Exception"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, AssertionError])
def test_what_is_nobodys_fault_is_not_told_as_one(stop: type[BaseException]) -> None:
    with pytest.raises(stop), telling("it failed", memory="it", less="less"):
        raise stop
