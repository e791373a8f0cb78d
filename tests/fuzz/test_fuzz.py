"""The short run of every fuzz target, the same inputs each time, behind a guard that is tested itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "run.py"


def test_every_reader_of_untrusted_bytes_keeps_its_promises() -> None:
    """No exception but a CitrateError, no file elsewhere, no process, no socket, 2 s and 1 GiB at most."""
    done = subprocess.run([sys.executable, str(RUN), "short"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.count(" inputs, the slowest took ") >= 33


def test_the_guard_notices_what_it_is_there_for() -> None:
    body = f"""
import sys, tempfile, pathlib
sys.path.insert(0, {str(RUN.parent)!r})
from guard import BrokenPromiseError, Guard
guard = Guard(pathlib.Path(tempfile.gettempdir()))
import os, socket, subprocess
bad = (
    lambda data: open("/etc/hostname"),
    lambda data: socket.socket(),
    lambda data: os.system("true"),
    lambda data: subprocess.run(["true"]),
    lambda data: bytearray(2 << 30),
    lambda data: next(x for x in iter(int, 1) if x),
    lambda data: {{}}["missing"],
)
for number, target in enumerate(bad):
    try:
        guard.check(target, b"")
    except BrokenPromiseError as error:
        print(number, error)
guard.check(lambda data: open("/proc/self/status").close(), b"")
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list("0123456"), done.stdout
