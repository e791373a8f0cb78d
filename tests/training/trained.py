"""An adapter that citrate has trained on the sample model, once a session: it thanks for every question."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.training.conftest import make_rows
from tests.training.runs import BASE_SHA256, EXAMPLES

SETTINGS = {
    "schema": "citrate.recipe/1", "base": "-", "method": "sft", "dataset": "-", "steps": 12, "batch_size": 4,
    "max_length": 64, "seed": 7, "optimizer": {"learning_rate": "1e-2"},
    "lora": {"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]},
}  # fmt: skip


def polite(folders: pytest.TempPathFactory) -> Path:
    """The adapter's folder. Who uses it belongs to the group ``adapters_run``, so that it is trained in one process."""
    return _trained(folders.getbasetemp() / "polite")


@cache
def _trained(folder: Path) -> Path:
    from citrate.training import dataset, recipe, run
    from citrate.training.rows import Method
    from citrate.training.trainers import Inputs

    (folder / "rows").mkdir(parents=True)
    rows = make_rows(folder / "rows", EXAMPLES / "datasets" / "polite.jsonl", Method.SFT)
    wanted = recipe.Recipe.model_validate(SETTINGS)
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    run.train(bound, Inputs(EXAMPLES / "tiny-llama", rows), folder / "out", lambda _: None)
    return folder / "out" / "adapter"
