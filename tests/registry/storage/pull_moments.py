"""A program: pull a file from a real gateway again and again, killed each time a little later, and resume it.

The gateway runs in a process of its own and counts what it sends; every pull is a fork of this process, so that one
costs milliseconds. What is right on disk after the kill is found by comparing bytes, not by asking the store.

    python -m tests.registry.storage.pull_moments FOLDER
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from citrate.core.records import Artifact
from citrate.registry import fetching, pieces
from citrate.registry.sources import GatewaySource
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern

LEAVES = 4
SIZE = LEAVES * CHUNK + 17
_WORD = 8


class Counter:
    """A number that several processes see."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _WORD)

    def add(self, count: int) -> None:
        self._memory[:] = (self.value + count).to_bytes(_WORD, "little")

    @property
    def value(self) -> int:
        return int.from_bytes(self._memory[:], "little")


def serve(store: Store, sent: Counter, url: int) -> None:
    """Serve the store until killed; write the gateway's address to ``url``."""
    from tests.registry.storage.wild import Asked, Wild, fitting, wild_gateway

    def honest(asked: Asked, right: bytes, connection: Any, _: Wild) -> None:
        answer = fitting(asked, right, SIZE)
        for at in range(0, len(answer), CHUNK // 4):
            connection.sendall(answer[at : at + CHUNK // 4])
            sent.add(len(answer[at : at + CHUNK // 4]))

    with wild_gateway(store, honest) as wild:
        os.write(url, wild.url.encode())
        os.close(url)
        signal.pause()


def forked(work: Callable[[], None]) -> int:
    """Do something in a process of its own; returns how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a fork must not go on as its parent
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


def pull(artifact: Artifact, home: Path, url: str) -> None:
    """What is killed, and what resumes."""
    fetching.fetch_artifact(artifact, Store(home), [GatewaySource(url)])


def killed_at(step: int, artifact: Artifact, home: Path, url: str) -> None:
    """Pull, and be killed right before the step with this number: a write, a sync, a change of names."""
    seen = [0]
    pieces.WRITE_BYTES = CHUNK // 16  # more steps

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen[0] += 1
            if seen[0] > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return call

    for name in ("pwrite", "fsync", "posix_fallocate", "fchmod", "rename"):
        setattr(os, name, counted(getattr(os, name)))
    pull(artifact, home, url)


def right_leaves(home: Path, artifact: Artifact) -> int:
    """How many leaves of the file stand right on disk, wherever the killed process left it."""
    content = pattern(SIZE)
    best = 0
    for path in [*home.glob(f"partial/{artifact.cid}/*"), *home.glob(f"objects/{artifact.cid}/*")]:
        there = path.read_bytes()
        starts = range(0, SIZE, CHUNK)
        best = max(best, sum(there[at : at + CHUNK] == content[at : at + CHUNK] for at in starts))
    return best


def main(folder: Path) -> dict[str, int]:
    """Kill a pull at every step and resume it; returns how many were killed, and how many with leaves on disk.

    Raises:
        AssertionError: one was visible half done, or fetched again what was right.
    """
    publisher = Store(folder / "publisher")
    (folder / "weights.bin").write_bytes(pattern(SIZE))
    artifact = publisher.add(folder / "weights.bin")
    sent = Counter()
    reading, writing = os.pipe()
    server = os.fork()
    if server == 0:
        serve(publisher, sent, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        url = pipe.read()
    told = {"killed": 0, "resumed": 0}
    try:
        for step in itertools.count():
            home = folder / "home"
            shutil.rmtree(home, ignore_errors=True)
            ended = forked(partial(killed_at, step, artifact, home, url))
            assert ended in (0, signal.SIGKILL), ended
            if ended == 0:
                return told
            kept = right_leaves(home, artifact)
            told["killed"] += 1
            told["resumed"] += kept > 0
            before = sent.value
            assert forked(partial(resume, artifact, home, url)) == 0, step
            again = sent.value - before
            assert again <= max(0, SIZE - kept * CHUNK) + 1000, f"step {step}: {kept} leaves were right, sent {again}"
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    raise AssertionError("unreachable")


def resume(artifact: Artifact, home: Path, url: str) -> None:
    """Nothing is visible; the next pull makes it whole."""
    store = Store(home)
    assert store.ls() == []
    pull(artifact, home, url)
    assert store.verify() == []
    assert [stored.cid for stored in store.ls()] == [artifact.cid]
    assert not (home / "partial" / artifact.cid).exists()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201
