"""Machines for the end-to-end tests: homes in which real `citrate` commands are typed, against real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures_kubo import kubo

__all__ = ["kubo"]

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "tiny-llama"
_BUSY = ("anvil.log", ".lock", "-wal", "-shm", ".sqlite", ".db")


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
        done = subprocess.run(
            [sys.executable, "-m", "citrate.cli.main", *arguments],
            env={**self.env, **settings},
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def gets(self, *arguments: str) -> dict[str, object]:
        """Run a command that must succeed, and read its JSON."""
        result = self.types(*arguments, "--json")
        assert result.code == 0, result.out + result.err
        return result.json

    def files(self) -> set[str]:
        """Every file of the home, but for locks, logs and the databases' own."""
        found = (path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file())
        return {name for name in found if not name.endswith(_BUSY) and "lock" not in name}


@dataclass(frozen=True)
class Release:
    """The published sample model: by whom, the reference, the chain's RPC, the publisher's gateway."""

    machine: Machine
    ref: str
    address: str
    rpc_url: str
    gateway: str
    result: dict[str, object]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The sample model, published with its four default variants from a home with nothing configured."""
    machine = Machine(tmp_path_factory.mktemp("publisher") / "home")
    gateway = None
    try:
        result = machine.gets("register-model", str(SAMPLE), "--name", "tiny-llama", "--alias", "prod")
        status = machine.gets("devnet", "status")
        gateway = subprocess.Popen(
            [sys.executable, "-m", "citrate.cli.main", "gateway", "--port", "0", "--json"],
            env=machine.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert gateway.stdout is not None
        url = json.loads(gateway.stdout.readline())["url"]
        address = str(result["ref"]).partition("/")[0]
        yield Release(machine, f"{address}/tiny-llama", address, str(status["rpc_url"]), url, result)
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(10)
        machine.types("devnet", "down")


@pytest.fixture
def reader(release: Release, tmp_path: Path) -> Machine:
    """Another machine: it knows the chain's RPC and the publisher's gateway, and shares nothing else."""
    return Machine(tmp_path / "reader", CITRATE_RPC_URL=release.rpc_url, CITRATE_GATEWAYS=release.gateway)


@pytest.fixture
def fresh(tmp_path: Path) -> Machine:
    """A machine with nothing configured and nothing in its home."""
    return Machine(tmp_path / "fresh")
