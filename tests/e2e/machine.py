"""A home in which real `citrate` commands are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.e2e.starter import Starter

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "tiny-llama"
_TIMEOUT_S = 280
_BUSY = ("anvil.log", ".lock", "-wal", "-shm", ".sqlite", ".db")


@cache
def _starter() -> Starter:
    return Starter(ROOT)


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.out)
        return document

    @property
    def error(self) -> dict[str, object]:
        error = self.json["error"]
        assert isinstance(error, dict)
        return error


class Machine:
    """A home, and what is typed there."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CITRATE_")}
        self.env = {**kept, "CITRATE_HOME": str(home), **settings}

    def types(self, *arguments: str, stdin: str = "", **settings: str) -> Result:
        """Run a command, whatever comes of it."""
        environment = {**self.env, **settings}
        if _starter().can(environment, stdin.encode()):
            code, out, err = _starter().run(arguments, environment, stdin.encode(), _TIMEOUT_S)
            return Result(code, out.decode(), err.decode())
        done = subprocess.run(
            [sys.executable, "-m", "citrate.cli.main", *arguments],
            env=environment,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def answers(self, *arguments: str, typed: str) -> Result:
        """Run a command on a terminal, where somebody types; both streams come back as ``out``."""
        ours, its = os.openpty()
        command = [sys.executable, "-m", "citrate.cli.main", *arguments]
        process = subprocess.Popen(command, env=self.env, cwd=ROOT, stdin=its, stdout=its, stderr=its)
        os.close(its)
        os.write(ours, typed.encode())
        shown = b""
        with suppress(OSError):  # how a terminal ends on Linux
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        return Result(process.wait(100), shown.decode(), "")

    def gets(self, *arguments: str) -> dict[str, object]:
        """Run a command that must succeed, and read its JSON."""
        result = self.types(*arguments, "--json")
        assert result.code == 0, result.out + result.err
        return result.json

    def files(self) -> set[str]:
        """Every file of the home, but for locks, logs and the databases' own."""
        found = (path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file())
        return {name for name in found if not name.endswith(_BUSY) and "lock" not in name}


def refuses(result: Result, code: int, kind: str, *words: str) -> None:
    """The result is an error as CLI.md says, in its JSON form: type, one line, a hint."""
    assert result.code == code, result.out + result.err
    error = result.error
    assert error["type"] == kind
    message = str(error["message"])
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert error["hint"]
    assert "Traceback" not in result.err
