"""Several sources at once, what is here already, what an interruption left: nothing right is fetched twice."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from citrate.core.errors import IntegrityError, StoreError
from citrate.core.records import Artifact
from citrate.registry import attempts, unixfs
from citrate.registry.fetching import fetch_artifact, fetch_files, spans
from citrate.registry.sources import GatewaySource, Limit, LimitedSource, StoreSource
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.wild import Asked, Wild, fitting, plain, wild_gateway

LEAVES = 12
BYTES = pattern(LEAVES * CHUNK + 5)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)
    monkeypatch.setattr(spans, "SPAN_MIN_BYTES", 2 * CHUNK)


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher")


@pytest.fixture
def artifact(publisher: Store, tmp_path: Path) -> Artifact:
    (tmp_path / "weights.bin").write_bytes(BYTES)
    return publisher.add(tmp_path / "weights.bin")


def paced(asked: Asked, right: bytes, connection: socket.socket, wild: Wild, pause_s: float) -> None:
    """Send the right bytes, with a pause before each mebibyte."""
    answer = fitting(asked, right, len(BYTES))
    for at in range(0, len(answer), CHUNK):
        if wild.over.wait(pause_s):
            return
        connection.sendall(answer[at : at + CHUNK])


def leaves_asked(wild: Wild) -> list[int]:
    """Every leaf as often as it was asked for."""
    spans = [(a.start // CHUNK, -(-(a.stop or len(BYTES)) // CHUNK)) for a in wild.asked if not a.raw]
    return sorted(number for first, stop in spans for number in range(first, stop))


def test_two_sources_share_the_work_and_the_faster_one_does_more(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    with (
        wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0.3)) as slow,
        wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0.02)) as fast,
    ):
        fetched = fetch_artifact(artifact, store, [GatewaySource(slow.url), GatewaySource(fast.url)])
    assert unixfs.address(fetched.path) == artifact
    assert set(fetched.source.split(", ")) == {slow.url, fast.url}
    assert len(leaves_asked(fast)) > len(leaves_asked(slow))


def test_what_a_source_does_not_finish_is_taken_over(
    store: Store, publisher: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SILENT_S", 0.2)

    def hangs(asked: Asked, right: bytes, connection: socket.socket, wild: Wild) -> None:
        connection.sendall(fitting(asked, right, len(BYTES))[: CHUNK + CHUNK // 2])
        wild.over.wait(60)

    began_s = time.monotonic()
    with (
        wild_gateway(publisher, hangs) as hanging,
        wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0.01)) as good,
    ):
        fetched = fetch_artifact(artifact, store, [GatewaySource(hanging.url), GatewaySource(good.url)])
    assert unixfs.address(fetched.path) == artifact
    assert time.monotonic() - began_s < 25  # and not the 30 s for which a source may be silent


def test_a_source_that_lacks_some_leaves_is_used_for_the_others(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    gap = range(5, 7)

    def sieve(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        first = asked.start // CHUNK
        if first in gap:
            connection.sendall(plain(b"no such block", "404 Not Found"))
        else:
            reach = gap.start if first < gap.start else LEAVES + 1
            answer = fitting(asked, right, len(BYTES))
            head = len(answer) - len(right)
            connection.sendall(answer[: head + reach * CHUNK - asked.start])

    def only_the_gap(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        has = asked.start // CHUNK in gap
        connection.sendall(fitting(asked, right, len(BYTES)) if has else plain(b"", "404 Not Found"))

    with wild_gateway(publisher, sieve) as most, pytest.raises(StoreError, match="HTTP 404"):
        fetch_artifact(artifact, store, [GatewaySource(most.url)])
    with wild_gateway(publisher, only_the_gap) as rest:
        fetched = fetch_artifact(artifact, store, [GatewaySource(rest.url)])
    assert unixfs.address(fetched.path) == artifact
    assert fetched.fetched_bytes < 3 * CHUNK


def test_right_leaves_are_kept_wherever_they_stand(store: Store, publisher: Store, artifact: Artifact) -> None:
    partial = store.root / "partial" / artifact.cid
    partial.mkdir(parents=True)
    with (partial / "weights.bin").open("wb") as file:
        for number in (0, 3, 4, 9):
            file.seek(number * CHUNK)
            file.write(BYTES[number * CHUNK : (number + 1) * CHUNK])
        file.seek(6 * CHUNK)
        file.write(b"wrong" * 1000)
        file.truncate(len(BYTES) + 999)
    with wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0)) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert unixfs.address(fetched.path) == artifact
    assert leaves_asked(wild) == [1, 2, 5, 6, 7, 8, 10, 11, 12]


def test_leaves_of_another_object_are_copied_and_compared(
    store: Store, publisher: Store, artifact: Artifact, tmp_path: Path
) -> None:
    moved = BYTES[4 * CHUNK : 8 * CHUNK] + BYTES[: 4 * CHUNK] + pattern(CHUNK, seed=5)
    (tmp_path / "old.bin").write_bytes(moved)
    old = store.add(tmp_path / "old.bin")
    damaged = store.get(old.cid)
    damaged.chmod(0o644)
    with damaged.open("r+b") as file:
        file.seek(2 * CHUNK + 9)
        file.write(b"?")
    with wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0)) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert unixfs.address(fetched.path) == artifact
    assert leaves_asked(wild) == [6, 8, 9, 10, 11, 12]
    assert set(fetched.source.split(", ")) == {"store", wild.url}


def test_many_small_files_come_over_several_connections(
    store: Store, publisher: Store, serve: Serve, tmp_path: Path
) -> None:
    for number in range(60):
        path = tmp_path / "many" / f"{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"file %d" % number)
    artifact = publisher.add(tmp_path / "many")
    fetched = fetch_artifact(artifact, store, [GatewaySource(serve(publisher)), StoreSource(publisher, "beside")])
    assert unixfs.address(fetched.path) == artifact


def test_a_limit_holds_over_all_sources(store: Store, publisher: Store, artifact: Artifact) -> None:
    limit = Limit(8 * CHUNK)
    sources = [LimitedSource(StoreSource(publisher, name), limit) for name in ("one", "two")]
    began_s = time.monotonic()
    fetched = fetch_artifact(artifact, store, sources)
    assert time.monotonic() - began_s > 0.8 * LEAVES / 8
    assert unixfs.address(fetched.path) == artifact


def test_an_interrupt_ends_a_fetch_at_once_and_keeps_what_came(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    class Stopped(BaseException):
        pass

    def stop(_: str, done: int, __: int, ___: str = "", /) -> None:
        if done >= 2 * CHUNK:
            raise Stopped

    before = threading.active_count()
    with wild_gateway(publisher, lambda *asked: paced(*asked, pause_s=0.15)) as wild:
        with pytest.raises(Stopped):
            fetch_artifact(artifact, store, [GatewaySource(wild.url)], stop)
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert fetched.fetched_bytes < (LEAVES - 1) * CHUNK
    assert unixfs.address(fetched.path) == artifact
    deadline = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pull_killed_at_any_of_60_steps_is_resumed_and_nothing_right_is_fetched_again() -> None:
    in_memory = Path("/dev/shm")  # nothing is cut off from power here, so nothing needs a disk
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.exists() else None) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.registry.storage.pull_moments", folder],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=800, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["killed"] >= 60, told
    assert told["resumed"] >= 40, told


# ------------------------------------------------------------------ some files only


@pytest.fixture
def folder(publisher: Store, model: Path) -> Artifact:
    return publisher.add(model)


def test_some_files_are_fetched_and_nothing_else(
    store: Store, publisher: Store, folder: Artifact, serve: Serve, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetched = fetch_files(folder, {"sub/weights.bin"}, out, store, [GatewaySource(serve(publisher))])
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "sub" / "weights.bin"]
    assert (out / "sub" / "weights.bin").read_bytes() == pattern(3 * CHUNK + 17)
    assert fetched.fetched_bytes > 3 * CHUNK
    assert store.ls() == []
    assert not (store.root / "partial" / folder.cid).exists()


def test_some_files_of_what_is_stored_are_copied(store: Store, folder: Artifact, model: Path, tmp_path: Path) -> None:
    store.add(model)
    fetched = fetch_files(folder, {"config.json", ".hidden"}, tmp_path / "out", store, [])
    assert fetched.source == "store"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".hidden", "config.json"]
    assert store.get(folder.cid).joinpath("config.json").exists()


def test_some_files_come_whole_or_not_at_all(store: Store, publisher: Store, folder: Artifact, tmp_path: Path) -> None:
    def lies(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        wrong = right[:-1] + bytes([right[-1] ^ 1])
        connection.sendall(fitting(asked, wrong, 3 * CHUNK + 17))

    with wild_gateway(publisher, lies) as liar, pytest.raises(IntegrityError):
        fetch_files(folder, {"sub/weights.bin"}, tmp_path / "out", store, [GatewaySource(liar.url)])
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
