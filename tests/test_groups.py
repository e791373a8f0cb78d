"""Tests that share something dear run on one worker, whatever the versions of pytest and pytest-xdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = """
import os, pathlib, pytest

@pytest.fixture(scope="module")
def shared():
    pass

def note(name):
    with (pathlib.Path(__file__).parent / name).open("a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")

@pytest.mark.xdist_group("named")
@pytest.mark.parametrize("number", range(8))
def test_named(number):
    note("named")

@pytest.mark.parametrize("number", range(8))
def test_by_fixture(shared, number):
    note("by fixture")
"""


def test_the_tests_of_a_group_run_on_one_worker(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "some"
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "tests" / "conftest.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  models: as ours\n")
    (folder / "test_some.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "--rootdir",
        str(tmp_path),
        "tests",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = {name: (folder / name).read_text().split() for name in ("named", "by fixture")}
    assert [len(each) for each in workers.values()] == [8, 8]
    assert all(len(set(each)) == 1 for each in workers.values()), workers
