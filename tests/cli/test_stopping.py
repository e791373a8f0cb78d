"""A stop ends a command once, with its exit code, wherever it hits; nothing swallows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from citrate.cli import stopping
stopping._AGAIN_AFTER_S = 0.05
watch = stopping.Stopping()

def stop(number=signal.SIGINT):
    os.kill(os.getpid(), number)

def swallow():
    try:
        stop()
        time.sleep(30)
    except BaseException:
        pass

try:
    with watch:
        {body}
    print("went on")
except KeyboardInterrupt as error:
    print(type(error).__name__)
    watch.pass_on()
    sys.exit(130)
"""


def ends(tmp_path: Path, body: str, ignored: bool = False) -> tuple[int, str]:
    """Exit code and last line of a ``python -m`` whose command does ``body``."""
    (tmp_path / "program.py").write_text(PROGRAM.format(body="\n        ".join(body.splitlines())))
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()[-1]


def test_a_stop_inside_the_definition_of_a_class_is_no_death_by_the_signal(tmp_path: Path) -> None:
    assert ends(tmp_path, "exec('stop(); time.sleep(30)')") == (130, "Stopped")


def test_a_stop_that_was_swallowed_comes_again(tmp_path: Path) -> None:
    assert ends(tmp_path, "swallow(); time.sleep(30)") == (130, "Stopped")


def test_a_stop_that_was_swallowed_at_the_very_end_still_counts(tmp_path: Path) -> None:
    assert ends(tmp_path, "swallow()") == (130, "Stopped")


def test_an_error_that_a_stop_was_turned_into_is_told_as_the_stop(tmp_path: Path) -> None:
    assert ends(tmp_path, "swallow(); raise ImportError") == (130, "Stopped")


def test_what_tidies_up_after_a_stop_is_left_in_peace(tmp_path: Path) -> None:
    body = "try: stop(); time.sleep(30)\nfinally: time.sleep(0.3); print('tidied')\nprint('went on')"
    assert ends(tmp_path, body + "\n") == (130, "Stopped")
    nested = "try: stop(); time.sleep(30)\nfinally:\n try: raise OSError\n except OSError: time.sleep(0.3)"
    assert ends(tmp_path, nested) == (130, "Stopped")


def test_a_stop_that_comes_when_the_end_is_decided_changes_nothing(tmp_path: Path) -> None:
    assert ends(tmp_path, "pass\nimport atexit; atexit.register(stop)") == (0, "went on")


def test_what_was_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    assert ends(tmp_path, "stop()", ignored=True) == (0, "went on")


@pytest.mark.parametrize("tidy", ["", "try: stop(signal.SIGTERM); time.sleep(30)\nfinally: print('tidied')"])
def test_a_termination_tidies_up_and_then_kills(tmp_path: Path, tidy: str) -> None:
    assert ends(tmp_path, tidy or "stop(signal.SIGTERM); time.sleep(30)") == (-signal.SIGTERM, "Stopped")
