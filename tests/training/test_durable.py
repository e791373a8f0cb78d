"""What stands in a run's folder is whole or not there, however the command ended and however full the disk is."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citrate.training import durable, recipe, run
from tests.training.test_recipe import GOOD


@contextmanager
def no_room() -> Iterator[None]:
    """Nothing can be written to any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_kept_of_a_journal_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "leaves.jsonl"
    path.write_bytes(b"one\ntwo\nthree\ntor")
    assert durable.lines(path) == [b"one", b"two", b"three"]
    with no_room():
        durable.keep_lines(path, 2)
    assert path.read_bytes() == b"one\ntwo\n"
    durable.keep_lines(path, 0)
    durable.keep_lines(tmp_path / "none", 0)
    assert path.read_bytes() == b"" and durable.lines(tmp_path / "none") == []


def test_a_recipe_that_was_torn_does_not_take_the_folder(tmp_path: Path) -> None:
    bound = recipe.bind(recipe.Recipe.model_validate(GOOD), base_sha256="a" * 64, dataset_root="b" * 64)
    (tmp_path / ".lock").touch()
    (tmp_path / "announced.json").write_text("{}")
    with no_room(), pytest.raises(OSError, match="too large"):
        run._take(tmp_path, bound)
    run._take(tmp_path, bound)
    assert (tmp_path / "recipe.json").read_bytes() == bound.to_bytes()
    run._take(tmp_path, bound)


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    durable.write(tmp_path / "a.json", b"old")
    with no_room(), pytest.raises(OSError, match="too large"):
        durable.write(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"old"
    durable.write(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_bytes() == b"new"
