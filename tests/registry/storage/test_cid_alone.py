"""The CID alone is the CID that the whole way finds, for files of every shape, on any number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from citrate.core.errors import FormatError, NotFoundError, StoreError
from citrate.registry import cid_alone, unixfs
from citrate.registry.cid_alone import cid_of
from tests.registry.storage.conftest import CHUNK, pattern

SPAN = 8 * CHUNK
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, SPAN - 1, SPAN, SPAN + 1, 3 * SPAN + 2 * CHUNK - 1]


@pytest.fixture(params=["looped", "hashlib"])
def hashed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "looped":
        monkeypatch.setattr(cid_alone, "_PAIRED_FROM_BYTES", 0)
    return str(request.param)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("hashed_by")
def test_it_is_the_same_cid(threads: int, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for size in SIZES:
        path = folder / f"{size % 2}" / str(size)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pattern(size, size))
        assert cid_of(path, threads=threads).cid == unixfs.address(path).cid, size
    named = cid_of(folder, threads=threads)
    assert (named.cid, named.size_bytes, named.files) == (unixfs.address(folder).cid, sum(SIZES), len(SIZES))


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SPAN + 5))
    seen: list[tuple[str, int, int]] = []
    cid_of(path, progress=lambda stage, done, total, _source="": seen.append((stage, done, total)))
    assert seen[-1] == ("hash", SPAN + 5, SPAN + 5)


def test_what_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    for harm in (lambda: os.truncate(path, SPAN), lambda: path.write_bytes(bytes(SPAN + 2))):
        path.write_bytes(bytes(SPAN + 1))
        real = os.preadv
        with monkeypatch.context() as patched:
            patched.setattr(os, "preadv", lambda *arguments: (harm(), real(*arguments))[1])  # noqa: B023
            with pytest.raises(StoreError, match="changed while it was read"):
                cid_of(path)


def test_bad_input_is_told_as_everywhere(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        cid_of(tmp_path / "nothing")
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FormatError):
        cid_of(tmp_path / "link")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "citrate.cli.main", "add", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_that_there_is_no_sha256(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(pattern(3 * CHUNK))
    document = json.loads(run("--cid-only", "--json", str(path)).stdout)
    assert document == {
        "path": str(path), "cid": unixfs.address(path).cid, "sha256": None, "size_bytes": 3 * CHUNK, "files": 1
    }  # fmt: skip
    other = run("--cid-only", "--profile", "unixfs-v0-2015", str(path))
    assert other.returncode == 2
    assert "--only-hash" in other.stderr
