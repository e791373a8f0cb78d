"""A chain of its own for money and time: what the tests do to its clock disturbs nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from citrate.core.canonical import Json
from citrate.registry.rpc import JsonRpc
from tests.e2e.machine import SAMPLE, Machine

ETHER = 10**18
PRICE_WEI = ETHER // 100
_KEYS = {"buyer": 11, "juror": 12, "reporter": 13, "pauper": 14}


@dataclass(frozen=True)
class Market:
    """A publisher who sells ``priced`` and gives away ``suspect``, a gateway, and a chain whose clock can be moved."""

    machine: Machine
    address: str
    rpc_url: str
    gateway: str
    contracts: dict[str, str]
    folder: Path

    @property
    def priced(self) -> str:
        return f"{self.address}/priced@1.0.0"

    @property
    def suspect(self) -> str:
        return f"{self.address}/suspect@1.0.0"

    def calls(self, method: str, *params: Json) -> Json:
        """Ask the node itself."""
        return JsonRpc(self.rpc_url).call(method, *params)

    def block(self) -> Json:
        return self.calls("eth_blockNumber")

    def pass_time(self, seconds: int) -> None:
        self.calls("evm_increaseTime", seconds)
        self.calls("evm_mine")

    def visitor(self, name: str = "", **settings: str) -> Machine:
        """Another machine; one with a name has a key, and money unless it is the pauper."""
        home = self.folder / (name or "nobody")
        machine = Machine(home, CITRATE_RPC_URL=self.rpc_url, CITRATE_GATEWAYS=self.gateway, **settings)
        if name:
            machine.env["CITRATE_PRIVATE_KEY"] = f"{_KEYS[name]:064x}"
            if name != "pauper":
                self.calls("anvil_setBalance", self.address_of(machine), hex(1000 * ETHER))
        return machine

    @staticmethod
    def address_of(machine: Machine) -> str:
        keys = machine.gets("key", "list")["keys"]
        assert isinstance(keys, list)
        return str(keys[0]["address"])


@pytest.fixture(scope="session")
def market_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    machine = Machine(folder / "publisher")
    gateway = None
    register = ("register-model", str(SAMPLE), "--variants", "gguf:Q8_0", "--checks", "tensors")
    try:
        priced = machine.gets(*register, "--name", "priced", "--price", "0.01ether")
        machine.gets(*register, "--name", "suspect")
        status = machine.gets("devnet", "status")
        serve = [sys.executable, "-m", "citrate.cli.main", "gateway", "--port", "0", "--json"]
        gateway = subprocess.Popen(serve, env=machine.env, stdout=subprocess.PIPE, text=True)
        assert gateway.stdout is not None
        url = json.loads(gateway.stdout.readline())["url"]
        contracts = status["contracts"]
        assert isinstance(contracts, dict)
        yield Market(machine, str(priced["ref"]).partition("/")[0], str(status["rpc_url"]), url, contracts, folder)
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(60)
        machine.types("devnet", "down")


@pytest.fixture
def market(market_session: Market, tmp_path: Path) -> Iterator[Market]:
    """The market; what the test does to its chain is undone, and visitors' homes are the test's own."""
    whole = market_session
    snapshot = whole.calls("evm_snapshot")
    yield Market(whole.machine, whole.address, whole.rpc_url, whole.gateway, whole.contracts, tmp_path)
    whole.calls("evm_revert", snapshot)
