"""A real Anvil for the tests: one a session, our contracts on it, every test begins from the same state.

Use it with ``from tests.fixtures_anvil import anvil, chain`` in a conftest. A missing binary fails; it never skips.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from citrate.core.records import Variant, VariantRecord
from citrate.registry import anvil as binaries
from citrate.registry import cid
from citrate.registry.chain import Chain
from citrate.registry.deployers import deploy_locally
from citrate.registry.payload import ReleasePayload
from citrate.registry.rpc import JsonRpc
from citrate.registry.signer import Signer

CHAIN_ID = 31337
_ACTORS = {"publisher": 1, "stranger": 2, "validator": 3, "pauper": 4}


def anvil_binary() -> Path:
    found = binaries.find(Path("/nonexistent"))
    if found is None:
        pytest.fail("no Anvil: neither on PATH nor in node_modules of the checkout; make setup installs it")
    return found


@dataclass
class AnvilNode:
    """A running node of the tests' own."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def rpc(self) -> JsonRpc:
        return JsonRpc(self.url, timeout_s=120)  # for what hangs: on a busy machine a thousand views take a while


def start_anvil(*arguments: str) -> AnvilNode:
    """Start Anvil on a free loopback port, without contracts and without anything kept."""
    command = [str(anvil_binary()), "--quiet", "--port", "0", "--accounts", "1", "--hardfork", "osaka", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for connection in psutil.Process(process.pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                return AnvilNode(f"http://127.0.0.1:{connection.laddr.port}", process)
        time.sleep(0.02)
    process.kill()
    pytest.fail("Anvil did not start")


def stop_anvil(node: AnvilNode) -> None:
    node.process.kill()
    node.process.wait(60)


@pytest.fixture(scope="session")
def anvil_session() -> Iterator[AnvilNode]:
    node = start_anvil()
    deploy_locally(node.rpc)
    for name in ("publisher", "stranger", "validator"):
        node.rpc.call("anvil_setBalance", signer_of(name).address, hex(10**24))
    yield node
    stop_anvil(node)


@pytest.fixture
def anvil(anvil_session: AnvilNode) -> Iterator[AnvilNode]:
    """The session's Anvil; what the test does to it is undone afterwards."""
    snapshot = anvil_session.rpc.call("evm_snapshot")
    yield anvil_session
    anvil_session.rpc.call("evm_revert", snapshot)


@pytest.fixture
def chain(anvil: AnvilNode, tmp_path: Path) -> Chain:
    """The registry on the session's Anvil, opened by a home of the test's own."""
    return Chain.connect(anvil.url, CHAIN_ID, home=tmp_path / "chain-home")


@pytest.fixture
def publisher() -> Signer:
    return signer_of("publisher")


@pytest.fixture
def stranger() -> Signer:
    return signer_of("stranger")


def signer_of(name: str, chain_id: int = CHAIN_ID) -> Signer:
    """An actor's key; ``pauper`` has no funds."""
    return Signer(_ACTORS[name].to_bytes(32, "big"), chain_id)


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def variant_record(variant: str, tag: str = "", size_bytes: int = 4096) -> VariantRecord:
    """A variant whose digests are made from its name and ``tag``."""
    codec = cid.RAW if variant.startswith("gguf") else cid.DAG_PB
    where = cid.encode(codec, bytes.fromhex(sha256_of(f"cid {variant} {tag}")))
    return VariantRecord(Variant.parse(variant), where, sha256_of(f"sha {variant} {tag}"), size_bytes)


def release_of(
    publisher: str, name: str = "tiny", version: str = "1.0.0", variants: str = "safetensors,gguf:Q4_K_M"
) -> ReleasePayload:
    """A release whose digests are made from its name and version."""
    records = tuple(variant_record(variant, version) for variant in variants.split(","))
    return ReleasePayload(publisher, name, version, "apache-2.0", sha256_of(f"{name} {version}"), records)
