"""`citrate store import`, `cat`, `export` and `add --profile`, typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT, Machine
from tests.registry.storage.cars import Dag
from tests.registry.storage.conftest import pattern


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def test_import_list_print_and_export_a_foreign_dag(machine: Machine, tmp_path: Path) -> None:
    dag = Dag()
    root = dag.folder(**{"a.txt": dag.file(b"one ", b"two")}, link=dag.symlink(b"a.txt"))
    source, out = tmp_path / "in.car", tmp_path / "out.car"
    source.write_bytes(dag.car(root))
    (row,) = machine.gets("store", "import", str(source), "--reason", "demo")["objects"]
    assert row == {
        "cid": str(root), "sha256": None, "size_bytes": row["size_bytes"], "pinned": True, "blocks": 5, "whole": True,
        "status": "added", "damaged": False, "added": row["added"], "used": row["added"],
        "pins": [{"reason": "demo", "since": row["pins"][0]["since"]}],
    }  # fmt: skip
    assert machine.gets("store", "import", str(source))["objects"][0]["status"] == "unchanged"
    assert [item["cid"] for item in machine.gets("store", "ls")["objects"]] == [str(root)]
    assert "5 blocks" in machine.types("store", "ls").out
    assert machine.types("cat", f"{root}/a.txt").out == "one two"
    assert machine.gets("store", "export", str(root), "--out", str(out))["size_bytes"] == len(source.read_bytes())
    assert machine.gets("store", "verify")["ok"] is True
    assert machine.gets("store", "unpin", str(root))["pins"] == []
    assert machine.gets("store", "gc")["objects"][0]["cid"] == str(root)


def test_bad_cars_and_bad_wishes_are_one_line_and_the_right_exit_code(machine: Machine, tmp_path: Path) -> None:
    dag = Dag()
    root = dag.folder(link=dag.symlink(b"x"))
    whole = dag.car(root)
    for name, data, code in (
        ("text", b"no car at all\n", 1),
        ("cut", whole[:-3], 1),
        ("damaged", whole[:-1] + b"!", 3),
        ("partial", dag.car(root, without=[dag.blocks[0][0]]), 1),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        result = machine.types("store", "import", str(path))
        assert result.code == code, result.err
        assert "Traceback" not in result.err
        assert result.out == ""
    assert machine.types("store", "import", str(tmp_path / "absent")).code == 4
    assert machine.types("store", "import", str(tmp_path)).code == 5
    assert machine.gets("store", "ls")["objects"] == []
    (row,) = machine.gets("store", "import", str(tmp_path / "partial"), "--partial")["objects"]
    assert (row["whole"], row["blocks"]) == (False, 1)
    assert machine.types("cat", f"{root}/link").code == 4
    assert machine.types("store", "where", str(root)).code == 4
    assert machine.types("store", "export", str(root), "--out", str(tmp_path / "x")).code == 4
    assert not (tmp_path / "x").exists()


def test_add_in_the_profile_of_2015(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "weights").write_bytes(pattern(700_000))
    new = machine.gets("add", str(source))
    old = machine.gets("add", str(source), "--profile", "unixfs-v0-2015")
    assert old["cid"].startswith("Qm")
    assert {key: old[key] for key in ("sha256", "size_bytes", "files")} == {
        key: new[key] for key in ("sha256", "size_bytes", "files")
    }
    assert machine.gets("add", str(source), "--only-hash", "--profile", "unixfs-v0-2015")["cid"] == old["cid"]
    assert machine.types("store", "export", old["cid"], "--out", str(tmp_path / "x.car")).code == 0
    assert machine.types("add", str(source), "--profile", "unixfs-v9").code == 2


def test_a_reader_that_goes_away_is_no_failure_and_no_complaint(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(pattern(3_000_000))
    cid = machine.gets("add", str(tmp_path / "large"))["cid"]
    for command in (("cat", cid), ("store", "export", cid)):
        with subprocess.Popen(
            [sys.executable, "-m", "citrate.cli.main", *command],
            env=machine.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141
