"""A run's folder is one command's at a time, and its processes' as long as one of them lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, TrainingError
from citrate.training import holding


def test_a_second_command_is_refused_and_the_first_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_PATIENCE_S", 0.1)
    with (
        holding.held(tmp_path / "a" / "out"),
        pytest.raises(TrainingError, match="another command is training in"),
        holding.held(tmp_path / "a" / "out"),
    ):
        pass
    assert not (tmp_path / "a" / "out").exists(), "nothing was begun"
    with holding.held(tmp_path / "a" / "out"):
        (tmp_path / "a" / "out" / "recipe.json").write_text("{}")
    assert [path.name for path in (tmp_path / "a" / "out").iterdir()] == ["recipe.json"]


def test_a_process_that_outlives_its_command_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = holding._locked(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[lock]
    )
    os.close(lock)  # as the end of a command that was killed does
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="another command"):
        patch.setattr(holding, "_PATIENCE_S", 0.1)
        with holding.held(tmp_path):
            pass
    process.communicate()
    with holding.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_what_is_no_folder_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(AlreadyExistsError, match="is no folder"), holding.held(path):
            pass
    assert (tmp_path / "file").read_text() == "mine"
