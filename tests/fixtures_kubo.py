"""A real Kubo node for the tests: its own repository, random loopback ports, no peers.

Use it with ``from tests.fixtures_kubo import kubo`` in a conftest. A missing binary fails; it never skips.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PROFILE = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024")


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


def start_kubo(repository: Path) -> tuple[KuboNode, subprocess.Popen[bytes]]:
    environment = {**os.environ, "IPFS_PATH": str(repository)}
    binary = kubo_binary()
    subprocess.run(
        [binary, "init", "--profile=test,unixfs-v1-2025"], env=environment, check=True, capture_output=True, timeout=60
    )
    process = subprocess.Popen(
        [binary, "daemon", "--offline"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    api, gateway = repository / "api", repository / "gateway"
    deadline = time.monotonic() + 30
    while not (api.exists() and api.read_text() and gateway.exists() and gateway.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("the Kubo daemon did not start")
        time.sleep(0.02)
    return KuboNode(repository, api.read_text().strip(), gateway.read_text().strip()), process


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    node, process = start_kubo(tmp_path_factory.mktemp("kubo") / "repository")
    yield node
    process.terminate()
    process.wait(timeout=20)
