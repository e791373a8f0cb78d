"""Verified files in a folder of the user's: what is there and equal stays, anything else is refused."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, CitrateError, UnavailableError
from citrate.core.records import Artifact
from citrate.registry.fetching import fetch_files
from citrate.registry.retrieve import copy_out
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Artifact:
    return Store(tmp_path / "publisher").add(model)


def test_files_are_added_to_those_that_are_there_and_equal(
    store: Store, folder: Artifact, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    store.add(model)
    fetch_files(folder, {"config.json"}, out, store, [])
    fetch_files(folder, {"config.json", "sub/weights.bin"}, out, store, [])
    assert (out / "sub" / "weights.bin").read_bytes() == pattern(3 * CHUNK + 17)
    assert fetch_files(folder, {"config.json"}, out, store, []).source == "out"
    assert copy_out(store.get(folder.cid), out, folder) == copy_out(store.get(folder.cid), out, folder) == out
    assert Store(tmp_path / "other").add(out).cid == folder.cid
    (out / "config.json").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="other bytes"):
        copy_out(store.get(folder.cid), out, folder)
    (out / "config.json").unlink()
    (out / "mine").touch()
    with pytest.raises(AlreadyExistsError, match="holds mine"):
        fetch_files(folder, {"config.json"}, out, store, [])
    assert not (out / "config.json").exists()


@pytest.mark.parametrize("place", ["/proc/x", "taken/x", "taken"])
def test_a_folder_that_cannot_be_is_named_as_it_was_typed(
    store: Store, folder: Artifact, model: Path, tmp_path: Path, place: str
) -> None:
    store.add(model)
    (tmp_path / "taken").touch()
    out = tmp_path / place
    for give in (lambda: fetch_files(folder, {"config.json"}, out, store, []), lambda: copy_out(model, out, folder)):
        with pytest.raises(CitrateError, match=f"{re.escape(str(out))} (cannot be written|exists and is no folder)"):
            give()


def test_no_room_for_files_is_exit_5(
    store: Store, folder: Artifact, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.add(model)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(UnavailableError, match="no room") as told:
        copy_out(store.get(folder.cid), tmp_path / "out", folder)
    assert "free some space" in told.value.hint
    assert not (tmp_path / "out").exists()
