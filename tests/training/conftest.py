"""A short run of the sample model, done once; what is forged is a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from citrate.training import dataset, recipe, run
from citrate.training.recipe import Bound
from citrate.training.rows import Method
from citrate.training.run import Step
from citrate.training.stepping import Inputs
from tests.training import tiny
from tests.training.runs import BASE_SHA256, EXAMPLES, Folder

SETTINGS = {
    "schema": "citrate.recipe/1",
    "base": "-",
    "method": "sft",
    "dataset": "-",
    "steps": 6,
    "batch_size": 2,
    "max_length": 64,
    "checkpoint_every": 2,
    "seed": 7,
    "lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"], "dropout": "0.1"},
    "optimizer": {"learning_rate": "1e-3"},
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is trained on."""
    import torch

    torch.set_num_threads(1)  # more cost more here than they bring
    return tiny.make(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example dataset, as the store would hold it."""
    return make_rows(tmp_path_factory.mktemp("rows"), EXAMPLES / "datasets" / "polite.jsonl", Method.SFT)


def make_rows(folder: Path, source: Path, method: Method) -> Path:
    dataset.write(source, method, "apache-2.0", Folder(folder))
    return folder


@pytest.fixture(scope="session")
def bound(rows: Path) -> Bound:
    wanted = recipe.Recipe.model_validate(SETTINGS)
    return recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path, bound: Bound) -> tuple[Path, list[Step]]:
    """A run that has ended, and what was told of it."""
    out, steps = tmp_path_factory.mktemp("run") / "out", list[Step]()
    run.train(bound, Inputs(base, rows), out, steps.append)
    return out, steps


@pytest.fixture
def copy(done: tuple[Path, list[Step]], tmp_path: Path) -> Iterator[Path]:
    """A copy of the run, to be forged."""
    shutil.copytree(done[0], tmp_path / "copy")
    yield tmp_path / "copy"
