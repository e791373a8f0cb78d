"""What stands of an announcement in a run's folder, and is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from citrate.core.errors import FormatError
from citrate.facade import Registry
from citrate.fine_tuning import running
from citrate.fine_tuning.inputs import Prepared
from citrate.training import recipe
from citrate.training.process import Files
from citrate.training.recipe import Bound
from tests.training.test_recipe import GOOD


@pytest.mark.parametrize("text", [b'{"run":"x"}', b'{"run":1}', b"{}", b"{", b'{"run":"1"}' + b" " * 300])
def test_a_garbled_announcement_is_one_line_and_sends_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "announced.json").write_bytes(text)
    bound = recipe.bind(recipe.Recipe.model_validate(GOOD), base_sha256="a" * 64, dataset_root="b" * 64)
    prepared = Prepared(bound, Files(tmp_path, tmp_path), "", base_ref="me/tiny")
    for announce in (True, False):
        with pytest.raises(FormatError, match=r"announced\.json|JSON"):
            running.train(Registry.open(home=tmp_path / "home"), prepared, tmp_path, announce=announce)
    assert [path.name for path in tmp_path.iterdir()] == ["announced.json"], "nothing was begun"


@pytest.mark.models
@pytest.mark.xdist_group("training")
def test_a_run_that_was_announced_says_so_to_who_goes_on_without(
    copy: Path, bound: Bound, base: Path, rows: Path, tmp_path: Path
) -> None:
    (copy / "announced.json").write_bytes(b'{"run":"7"}')
    notes: list[str] = []
    prepared = Prepared(bound, Files(base, rows), "", base_ref="me/tiny")
    found = running.train(Registry.open(home=tmp_path / "home"), prepared, copy, on_notes=notes.extend)
    assert found.run_id == 0 and notes == [
        "this run was announced (run 7): with --announce its outcome is recorded, too"
    ]
