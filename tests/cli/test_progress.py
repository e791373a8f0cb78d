"""Progress: smoothed over seconds, bars on a terminal, lines and events only for those who asked."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from citrate.cli.pace import Pace
from citrate.cli.progress import Periodic, Standing, document, line

CITRATE = [sys.executable, "-m", "citrate.cli.main"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_seconds_and_not_of_a_block() -> None:
    clock = Clock()
    pace = Pace(clock)
    for step in range(100):  # 10 s at 1,000 a second, in bursts
        clock.now = step * 0.1
        pace.update(1000 * (step // 10))
    assert pace.per_second == pytest.approx(1000, rel=0.1)
    for step in range(200):  # then 20 s at 10 a second: what was before is forgotten
        clock.now = 10 + step * 0.1
        pace.update(9000 + step)
    assert pace.per_second == pytest.approx(10, rel=0.05)
    assert pace.left_s(9199 + 50) == pytest.approx(5, rel=0.05)


def test_nothing_is_said_of_a_rate_before_there_is_one() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.per_second is None
    pace.update(5)
    assert pace.per_second is None
    assert pace.left_s(10) is None
    clock.now = 2
    pace.update(5)
    assert pace.per_second == 0
    assert pace.left_s(10) is None, "something that stands still does not end"
    pace.update(1)  # anew
    assert pace.per_second is None


def test_lines_come_every_ten_seconds_and_at_the_end_of_what_was_told_of() -> None:
    clock, told = Clock(), list[Standing]()
    update = Periodic(told.append, clock=clock)
    for second in range(26):
        clock.now = float(second)
        update("fetch", second * 10**6, 25 * 10**6, "http://one")
        update("short", 1, 1)
    assert [standing.done // 10**6 for standing in told] == [10, 20, 25]
    assert line(told[0]) == "fetch  10.0 MB of 25.0 MB  40 %  1.0 MB/s  0:15 left  http://one"
    assert document(told[1]) == {
        "event": "progress", "stage": "fetch", "done_bytes": 20 * 10**6, "total_bytes": 25 * 10**6,
        "bytes_per_s": 10**6, "left_s": 5.0, "source": "http://one",
    }  # fmt: skip


def test_steps_are_not_called_bytes() -> None:
    standing = Standing("logits", 1, 3, "", 0.25, 3725.0)
    assert line(standing) == "logits  1 of 3  33 %  1:02:05 left"
    assert document(standing)["done_steps"] == 1


def test_an_unknown_total_is_not_made_up() -> None:
    standing = Standing("import", 2000, 0, "", None, None)
    assert line(standing) == "import  2.0 kB"
    assert document(standing)["total_bytes"] is None


def sparse_file(folder: Path) -> Path:
    path = folder / "weights"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    return path


def test_a_pipe_gets_no_progress_unless_it_asks(tmp_path: Path) -> None:
    command = [*CITRATE, "add", "--only-hash", str(sparse_file(tmp_path))]
    silent = subprocess.run([*command, "--quiet", "--progress"], capture_output=True, text=True, check=True)
    assert silent.stderr == ""
    command[-1] = __file__  # a moment's work on any machine
    short = subprocess.run([*command, "--progress"], capture_output=True, text=True, check=True)
    assert "left" not in short.stderr, "what takes a moment is not told of"


def test_a_terminal_gets_a_bar_with_rate_and_time(tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "CITRATE_HOME": str(tmp_path / "home")}
    command = [*CITRATE, "add", "--only-hash", "--json", str(sparse_file(tmp_path))]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=its_end)
    os.close(its_end)
    shown = b""
    for _ in itertools.count():
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # its other end is closed
            break
        if not piece:
            break
        shown += piece
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert json.loads(out)["size_bytes"] == 300 << 20
    assert "hash" in shown.decode()
    assert "314.6 MB" in shown.decode()
