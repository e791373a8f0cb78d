"""Machines for the end-to-end tests: homes in which real `citrate` commands are typed, against real servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT, SAMPLE, Machine, Result, refuses
from tests.e2e.market import market, market_session
from tests.fixtures_kubo import kubo, kubos

__all__ = ["ROOT", "SAMPLE", "Machine", "Result", "kubo", "kubos", "market", "market_session", "refuses"]


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
            gateway.wait(60)
        machine.types("devnet", "down")


@pytest.fixture
def reader(release: Release, tmp_path: Path) -> Machine:
    """Another machine: it knows the chain's RPC and the publisher's gateway, and shares nothing else."""
    return Machine(tmp_path / "reader", CITRATE_RPC_URL=release.rpc_url, CITRATE_GATEWAYS=release.gateway)


@pytest.fixture
def fresh(tmp_path: Path) -> Machine:
    """A machine with nothing configured and nothing in its home."""
    return Machine(tmp_path / "fresh")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the sample model, to be damaged."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "model"))
