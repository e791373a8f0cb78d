"""Real Kubo nodes for the tests: a repository each, random loopback ports, no peers but those they are given.

Use it with ``from tests.fixtures_kubo import kubo`` in a conftest. A missing binary fails; it never skips.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PROFILE = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024")
_START_TIMEOUT_S = 60


def kubo_binary() -> str:
    own = CHECKOUT / "bin" / "ipfs"
    found = str(own) if own.exists() else shutil.which("ipfs")
    if found is None:
        pytest.fail("no Kubo: neither bin/ipfs in the checkout nor ipfs on PATH; make setup builds it")
    return found


@dataclass
class KuboNode:
    """A running node. ``api`` is a multiaddr, ``gateway`` a URL."""

    repository: Path
    api: str
    gateway: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def ipfs(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the ``ipfs`` command line against this node; returns its stripped output."""
        return self.ipfs_bytes(*arguments, stdin=stdin).decode().strip()

    def ipfs_bytes(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """As ``ipfs``, for output that is not text."""
        done = subprocess.run(
            [kubo_binary(), *arguments],
            input=stdin,
            env={**os.environ, "IPFS_PATH": str(self.repository)},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def only_hash(self, *paths: Path) -> list[str]:
        """The CIDs that Kubo computes for files or directories, hidden files included."""
        arguments = ("add", "--only-hash", "-r", "--hidden", "--quiet", *PROFILE)
        return [self.ipfs(*arguments, str(path)).splitlines()[-1] for path in paths]

    @property
    def address(self) -> str:
        """Where its peers find it, on loopback."""
        (address, *_) = json.loads(self.ipfs("id"))["Addresses"]
        return str(address)

    def connect(self, other: KuboNode) -> None:
        """Make ``other`` a peer."""
        self.ipfs("swarm", "connect", other.address)

    def received_bytes(self) -> int:
        """How much data came over bitswap since the node started."""
        return int(json.loads(self.ipfs("bitswap", "stat", "--enc=json"))["DataReceived"])

    def start(self) -> None:
        """Start the daemon on this repository, and read its addresses."""
        api, gateway = self.repository / "api", self.repository / "gateway"
        for path in (api, gateway):
            path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [kubo_binary(), "daemon", *self.arguments],
            env={**os.environ, **self.environment, "IPFS_PATH": str(self.repository)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (api.exists() and api.read_text() and gateway.exists() and gateway.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail("the Kubo daemon did not start")
            time.sleep(0.02)
        self.api, self.gateway = api.read_text().strip(), gateway.read_text().strip()

    def stop(self) -> None:
        """End the daemon and wait for it; does nothing where none runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=30)


@contextmanager
def running_kubo(
    repository: Path, *, online: bool = False, settings: Mapping[str, object] | None = None, **environment: str
) -> Iterator[KuboNode]:
    """A node until the block ends.

    Args:
        repository: its folder, which is made.
        online: whether it may have peers, on a fixed port of loopback; it still knows nobody by itself.
        settings: names and values for its configuration.
        environment: variables for the daemon.
    """
    init = ("init", "--profile=test,unixfs-v1-2025")
    node = KuboNode(repository, "", "", () if online else ("--offline",), environment)
    subprocess.run(
        [kubo_binary(), *init],
        env={**os.environ, "IPFS_PATH": str(repository)},
        check=True,
        capture_output=True,
        timeout=_START_TIMEOUT_S,
    )
    chosen = dict(settings or {})
    if online:
        chosen = {"Routing.Type": "none", "Addresses.Swarm": [f"/ip4/127.0.0.1/tcp/{_free_port()}"], **chosen}
    configuration = json.loads((repository / "config").read_text())
    for name, value in chosen.items():
        *sections, last = name.split(".")
        table = configuration
        for section in sections:
            table = table.setdefault(section, {})
        table[last] = value
    (repository / "config").write_text(json.dumps(configuration))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    """A node without peers."""
    with running_kubo(tmp_path_factory.mktemp("kubo") / "repository") as node:
        yield node


@dataclass(frozen=True)
class Pair:
    """Two nodes that may be connected, and know nobody else."""

    a: KuboNode
    b: KuboNode


@pytest.fixture(scope="session")
def kubos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes that are not connected yet."""
    base = tmp_path_factory.mktemp("kubos")
    with running_kubo(base / "a", online=True) as a, running_kubo(base / "b", online=True) as b:
        yield Pair(a, b)
