"""Memory does not grow with a file: each command does its work under a limit that the file is larger than."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_DATA")

GIB = 1 << 30
LIMIT_BYTES = 192 << 20  # of private memory, mapped or not, the stacks of threads included


def citrate(home: Path, *arguments: str | Path) -> str:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))

    environment = {**os.environ, "CITRATE_HOME": str(home)}
    command = [sys.executable, "-m", "citrate.cli.main", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limit, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def test_the_limit_is_one(tmp_path: Path) -> None:
    code = f"bytearray({LIMIT_BYTES})"
    limit = (LIMIT_BYTES, LIMIT_BYTES)
    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit),
        capture_output=True, text=True,
    )  # fmt: skip
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("how", ["--only-hash", "--cid-only"])
def test_hashing_more_than_two_gib(how: str, tmp_path: Path) -> None:
    path = sparse(tmp_path / "weights", 2 * GIB + 1)
    assert json.loads(citrate(tmp_path / "home", "add", how, "--json", path))["size_bytes"] == 2 * GIB + 1


def test_adding_verifying_and_exporting(tmp_path: Path) -> None:
    path, home = sparse(tmp_path / "weights", 300 << 20), tmp_path / "home"
    cid = json.loads(citrate(home, "add", "--json", path))["cid"]
    assert json.loads(citrate(home, "store", "verify", "--json"))["ok"]
    citrate(home, "store", "export", cid, "--out", "/dev/null")
