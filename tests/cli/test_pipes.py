"""A reader that has enough ends the command, quietly and with the exit code that shells know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from citrate.registry.store import Store


@pytest.mark.parametrize("command", ["cat", "where"])
def test_a_reader_that_leaves_ends_the_command(tmp_path: Path, command: str) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 4096)
    cid = Store(tmp_path / "home" / "store").add(tmp_path / "big.bin").cid
    arguments = (command, cid) if command == "cat" else ("store", command, cid)
    process = subprocess.Popen(
        [sys.executable, "-m", "citrate.cli.main", "--home", str(tmp_path / "home"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (141, b"")
