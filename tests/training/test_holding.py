"""A run's folder is one command's at a time, and its processes' as long as one of them lives."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, CitrateError, TrainingError
from citrate.training import accelerating, holding, process, recipe
from citrate.training.process import Files
from tests.training.test_recipe import GOOD


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
    with process._Workers(lock) as workers:
        workers._spawn([sys.executable, "-c", "import sys; sys.stdin.read()"], os.environ)
        os.close(lock)  # as the end of a command that was killed does
        with monkeypatch.context() as patch, pytest.raises(TrainingError, match="another command"):
            patch.setattr(holding, "_PATIENCE_S", 0.1)
            with holding.held(tmp_path):
                pass
    with holding.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


_LAUNCHER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True).wait()
"""
"""As torchrun starts a process: in a session of its own, and with nothing of what it has itself but the first three."""
_WORKER = """
import time
from citrate.training import worker
worker._end_with_our_command({"launched": True})
print('{"event": "ready"}', flush=True)
time.sleep(3600)
"""


def test_what_accelerate_starts_holds_the_folder_and_ends_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its launcher was killed, and could end nobody."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-c", _LAUNCHER, _WORKER]
    monkeypatch.setattr(accelerating, "launcher", lambda *_: (command, {}))
    lock = holding._locked(out)
    with process._Workers(lock) as workers:
        workers.launch({}, "", scratch, os.environ, 1)
        assert next(workers.events()) == {"event": "ready"}
        os.close(lock)
        workers._processes[0].kill()
        workers._processes[0].wait()
        with monkeypatch.context() as patch, pytest.raises(TrainingError, match="another command"):
            patch.setattr(holding, "_PATIENCE_S", 0.1)
            with holding.held(out):
                pass
    monkeypatch.setattr(holding, "_PATIENCE_S", 60)
    with holding.held(out):
        pass


def test_a_run_is_not_begun_beside_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_PATIENCE_S", 0.1)
    bound = recipe.bind(recipe.Recipe.model_validate(GOOD), base_sha256="a" * 64, dataset_root="b" * 64)
    with holding.held(tmp_path), pytest.raises(TrainingError, match="another command"):
        process.train(bound, Files(tmp_path, tmp_path), tmp_path, lambda _: None)


def test_what_is_no_folder_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(AlreadyExistsError, match="is no folder"), holding.held(path):
            pass
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(CitrateError, match="cannot be written"), holding.held(Path("/proc/none/out")):
        pass
