"""Adding reads once and writes once, whatever is added, and makes it durable before it is seen."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citrate.core.errors import StoreError
from citrate.registry import unixfs
from citrate.registry.store import Store, durability, writer

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """300 small files in three folders, and one of three leaves."""
    for i in range(300):
        path = tmp_path / "many" / f"{i % 3}" / f"file {i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(i * 7))
    (tmp_path / "many" / "large").write_bytes(os.urandom(2 * MIB + 1))
    return tmp_path / "many"


def test_many_small_files_are_the_same_object_as_hashed_in_place(store: Store, many: Path) -> None:
    artifact = store.add(many)
    assert artifact == unixfs.address(many)
    assert store.verify() == []
    found = store.get(artifact.cid)
    for file in artifact.files:
        assert (found / file.path).read_bytes() == (many / file.path).read_bytes()
        assert (found / file.path).stat().st_mode & 0o777 == 0o444


def counted_fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(descriptor), real(descriptor))[1])
    return calls


def test_many_small_files_wait_for_the_disk_once(store: Store, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, moved = list[Path](), list[int]()

    @contextlib.contextmanager
    def watched(folder: Path) -> Iterator[Callable[[], None]]:
        yield lambda: (together.append(folder), moved.append(len(list((store.root / "objects").glob("*")))))[0]

    monkeypatch.setattr(writer, "whole_sync", watched)
    calls = counted_fsyncs(monkeypatch)
    store.add(many)
    assert len(together) == 1
    assert moved == [0], "it is durable before it has its place"
    assert len(calls) < 20


def test_each_file_is_synced_where_the_file_system_promises_less(
    store: Store, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "_is_synced_whole", lambda _folder: False)
    calls = counted_fsyncs(monkeypatch)
    store.add(many)
    assert len(calls) >= 301


def test_a_write_that_failed_on_the_way_to_the_disk_leaves_nothing(
    store: Store, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer, "whole_sync", lambda _folder: contextlib.nullcontext(lost))
    with pytest.raises(StoreError, match="Input/output error"):
        store.add(many)
    assert store.ls() == []
    assert list((store.root / "staging").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="syncfs is Linux's")
def test_the_file_system_is_asked(tmp_path: Path) -> None:
    with durability.whole_sync(tmp_path) as sync:
        if sync is not None:
            sync()
    with durability.whole_sync(Path("/proc")) as sync:
        assert sync is None


def test_a_small_file_that_grows_or_shrinks_while_it_is_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    for data in (b"longer than before", b"s"):
        path.write_bytes(b"at first")
        real = os.read

        def read(descriptor: int, count: int, data: bytes = data, real: Callable[..., bytes] = real) -> bytes:
            path.write_bytes(data)
            return real(descriptor, count)

        with monkeypatch.context() as patched:
            patched.setattr(os, "read", read)
            with pytest.raises(StoreError, match="changed while it was read"):
                unixfs.hash_file(path)


def test_a_sparse_file_stays_sparse(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"front")
        file.seek(200 * MIB + 5)
        file.write(b"middle")
        file.truncate(300 * MIB + 1)
    artifact = store.add(path)
    assert artifact == unixfs.address(path)
    kept = store.get(artifact.cid)
    assert kept.stat().st_size == 300 * MIB + 1
    assert kept.stat().st_blocks * 512 < 4 * MIB
    assert store.verify() == []


COUNTED = """
import sys
from pathlib import Path
from citrate.registry.store import Store

def counted() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}

store, source = Store(Path(sys.argv[1])), Path(sys.argv[2])
store.put_block(b"so that the index stands")
before = counted()
{work}
after = counted()
print(after["rchar"] - before["rchar"], after["wchar"] - before["wchar"])
"""
ADD = "store.add(source)"
CONVERT = """
data = source.read_bytes()
before = counted()
with store.writer(bare=False) as sink:
    for name in ("a", "b"):
        file = sink.open(name, len(data))
        for at in range(0, len(data), 1 << 22):
            file.write(memoryview(data)[at : at + (1 << 22)])
        file.close()
    sink.commit()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc counts what a process reads and writes")
@pytest.mark.parametrize(("work", "reads", "writes"), [(ADD, 1, 1), (CONVERT, 0, 2)], ids=["added", "converted"])
def test_no_byte_is_read_twice_or_copied(tmp_path: Path, work: str, reads: int, writes: int) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(16 * MIB) * 4)
    command = [sys.executable, "-c", COUNTED.replace("{work}", work), tmp_path / "store", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read, wrote = map(int, done.stdout.split())
    size, room = source.stat().st_size, 4 * MIB  # the index, and what Python imports
    assert reads * size <= read < reads * size + room
    assert writes * size <= wrote < writes * size + room
