from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citrate.core.errors import FormatError, IntegrityError, NotFoundError, NotPermittedError, StoreError
from citrate.registry import unixfs
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern


def test_reading_an_absent_store_creates_nothing(store: Store) -> None:
    assert store.ls() == []
    assert not store.has("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
    assert store.verify() == []
    with pytest.raises(NotFoundError):
        store.get("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
    assert not store.root.exists()


def test_a_stored_directory_is_plain_read_only_files(store: Store, model: Path) -> None:
    artifact = store.add(model)
    path = store.get(artifact.cid)
    assert artifact == unixfs.address(model) == unixfs.address(path) == store.artifact(artifact.cid)
    assert not artifact.bare
    assert [file.path for file in artifact.files] == [".hidden", "config.json", "sub/weights.bin"]
    assert (path / "config.json").stat().st_mode & 0o222 == 0


def test_coreutils_alone_compute_the_digest(store: Store, model: Path) -> None:
    artifact = store.add(model)
    listing = subprocess.run(
        "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum",
        shell=True, cwd=store.get(artifact.cid), check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert hashlib.sha256(listing).hexdigest() == artifact.sha256


def test_a_stored_file_keeps_its_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    artifact = store.add(tmp_path / "tiny.gguf")
    assert artifact.bare
    assert artifact.sha256 == hashlib.sha256(b"GGUF").hexdigest()
    assert store.get(artifact.cid).name == "tiny.gguf"
    assert store.ls()[0].path == store.get(artifact.cid)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(min_value=0, max_value=3 * CHUNK), max_size=12), st.booleans())
def test_hashing_while_writing_gives_the_same_as_hashing_afterwards(
    store: Store, lengths: list[int], announced: bool
) -> None:
    data = pattern(sum(lengths))
    with store.writer(bare=True) as sink:
        file, at = sink.open("weights.bin", len(data) if announced else None), 0
        buffer = bytearray(3 * CHUNK)  # reused by the caller, as converters do
        for length in lengths:
            buffer[:length] = data[at : at + length]
            file.write(memoryview(buffer)[:length])
            at += length
        entry = file.close()
        artifact = sink.commit()
    path = store.get(artifact.cid)
    assert path.read_bytes() == data
    assert (entry.cid, entry.sha256, entry.size_bytes) == (
        unixfs.address(path).cid, hashlib.sha256(data).hexdigest(), len(data),
    )  # fmt: skip


def test_files_of_one_object_may_be_written_side_by_side(store: Store) -> None:
    with store.writer(bare=False) as sink:
        files = [sink.open(f"part-{i}") for i in range(3)]
        for i, file in enumerate(files):
            file.write(pattern(9 * CHUNK, i))
        for i, file in enumerate(files):
            file.write(b"end %d" % i)
            file.close()
        artifact = sink.commit()
    assert unixfs.address(store.get(artifact.cid)) == artifact


def test_leaving_without_commit_discards_everything(store: Store) -> None:
    with store.writer(bare=True) as sink:
        sink.open("a").write(pattern(9 * CHUNK))
    with pytest.raises(RuntimeError), store.writer(bare=True) as sink:
        sink.open("a").write(pattern(9 * CHUNK))
        raise RuntimeError
    assert store.ls() == []
    assert list((store.root / "staging").iterdir()) == []


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a\\b", "a\nb", "a/", "."])
def test_an_unsafe_path_is_refused(store: Store, path: str) -> None:
    with store.writer(bare=False) as sink, pytest.raises(FormatError):
        sink.open(path)


def test_paths_that_cannot_stand_together_are_refused(store: Store) -> None:
    with store.writer(bare=False) as sink:
        sink.open("a/b").close()
        for path in ("a/b", "a", "a/b/c"):
            with pytest.raises(FormatError):
                sink.open(path)


def test_an_object_is_not_committed_with_an_open_file(store: Store) -> None:
    with store.writer(bare=False) as sink:
        sink.open("a").write(b"x")
        with pytest.raises(FormatError, match="closed"):
            sink.commit()
    with store.writer(bare=False) as sink, pytest.raises(FormatError, match="at least one"):
        sink.commit()


def test_a_bare_object_is_one_file(store: Store) -> None:
    with store.writer(bare=True) as sink:
        sink.open("a").close()
        with pytest.raises(FormatError):
            sink.open("b")


def test_adding_again_keeps_the_object_that_stands(store: Store, model: Path) -> None:
    first = store.add(model)
    inode = (store.get(first.cid) / "config.json").stat().st_ino
    assert store.add(model) == first
    assert (store.get(first.cid) / "config.json").stat().st_ino == inode
    assert len(store.ls()) == 1


def link(path: Path) -> None:
    (path / "link").symlink_to(path / "config.json")


def folder_link(path: Path) -> None:
    (path / "link").symlink_to(path / "sub")


def pipe(path: Path) -> None:
    os.mkfifo(path / "pipe")


def empty(path: Path) -> None:
    (path / "sub" / "empty").mkdir()


def control(path: Path) -> None:
    (path / "a\nb").write_bytes(b"")


def backslash(path: Path) -> None:
    (path / "a\\b").write_bytes(b"")


def not_text(path: Path) -> None:
    Path(os.fsdecode(bytes(path) + b"/\xff")).write_bytes(b"")


@pytest.mark.parametrize("spoil", [link, folder_link, pipe, empty, control, backslash, not_text])
def test_what_a_listing_cannot_say_is_refused(store: Store, model: Path, spoil) -> None:
    spoil(model)
    for task in (store.add, unixfs.address):
        with pytest.raises(FormatError):
            task(model)
    assert store.ls() == []


@pytest.mark.parametrize("name", ["CON", "nul.txt", "aux", "COM1", "a:b", "trailing."])
def test_names_that_other_systems_keep_for_devices_are_names(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "model" / name / name).write_bytes(b"no device")
    artifact = store.add(tmp_path / "model")
    assert [file.path for file in artifact.files] == [f"{name}/{name}"]
    assert (store.get(artifact.cid) / name / name).read_bytes() == b"no device"


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused_and_not_read(store: Store, tmp_path: Path, device: str) -> None:
    for task in (store.add, unixfs.address):
        with pytest.raises(FormatError, match="is a device, and not a regular file"):
            task(Path(device))
    with pytest.raises(StoreError, match="not a regular file"):
        unixfs.hash_file(Path(device))
    assert store.ls() == []


def test_a_link_as_the_artifact_itself_is_refused(store: Store, model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(FormatError) as caught:
        store.add(tmp_path / "link")
    assert "cp -rL" in caught.value.hint


def test_nothing_there_is_not_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        store.add(tmp_path / "absent")


def test_a_file_that_changes_while_it_is_read_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(pattern(8 * CHUNK))

    def grow(_stage: str, done: int, _total: int) -> None:
        if done == 2 * CHUNK:
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(StoreError, match="changed while"):
        store.add(path, grow)
    assert store.ls() == []


def test_an_untouched_object_is_not_read_again(store: Store, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cid = store.add(model).cid

    def refuse(path: Path, **_: object) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(unixfs, "hash_file", refuse)
    store.get(cid)
    (store.get(cid) / "config.json").touch()
    with pytest.raises(AssertionError):
        store.get(cid)
    monkeypatch.undo()
    store.get(cid)  # hashed, and the receipt renewed
    monkeypatch.setattr(unixfs, "hash_file", refuse)
    store.get(cid)


def test_hashing_again_is_told_of_and_nothing_else(store: Store, model: Path) -> None:
    artifact, steps = store.add(model), list[tuple[str, int, int]]()
    path = store.get(artifact.cid, lambda *step: steps.append(step[:3]))
    assert steps == []
    for name in ("config.json", "sub/weights.bin"):
        os.utime(path / name)
    store.get(artifact.cid, lambda *step: steps.append(step[:3]))
    size = 3 * CHUNK + 17 + 8
    assert {(stage, total) for stage, _, total in steps} == {("verify", size)}
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1][1] == size


def test_an_export_is_told_of(store: Store, model: Path) -> None:
    artifact, steps = store.add(model), list[tuple[str, int, int]]()
    b"".join(store.export_car(artifact.cid, lambda *step: steps.append(step[:3])))
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1] == ("export", artifact.size_bytes, artifact.size_bytes)
    assert len(steps) > 4
    steps.clear()
    b"".join(store.export_car(artifact.files[2].cid, lambda *step: steps.append(step[:3])))
    assert {total for _, _, total in steps} == {0}, "nobody counts the bytes of a part"


def flip(path: Path) -> None:
    status = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing had been


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 5)


def delete(path: Path) -> None:
    path.unlink()


def accompany(path: Path) -> None:
    (path.parent / "modeling_evil.py").write_text("import os")


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent.parent / "elsewhere")


@pytest.mark.parametrize("damage", [flip, cut, delete, accompany, replace_by_link])
def test_a_damaged_object_is_never_handed_out(store: Store, model: Path, damage) -> None:
    cid = store.add(model).cid
    damage(store.get(cid) / "sub" / "weights.bin")
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            store.get(cid)
    assert caught.value.expected != caught.value.actual
    assert len(store.verify()) == 1


def test_a_block_is_compared_with_its_cid(store: Store, model: Path) -> None:
    artifact = store.add(model)
    for data in store.export_car(artifact.cid):
        assert data
    leaf = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    with pytest.raises(NotFoundError):
        store.block(leaf)
    config = artifact.files[1]
    assert store.block(config.cid) == b'{"a": 1}'
    flip(store.get(artifact.cid) / "config.json")
    with pytest.raises(IntegrityError):
        store.block(config.cid)


def test_a_damaged_copy_does_not_hide_a_good_one(store: Store, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").write_bytes(b"the same bytes")
        (tmp_path / name / "own").write_text(name)
    first, second = store.add(tmp_path / "a"), store.add(tmp_path / "b")
    flip(store.get(first.cid) / "same")
    same = second.files[1].cid
    assert store.block(same) == b"the same bytes"


def test_cat_reads_by_path(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    assert b"".join(store.cat(cid, "sub/weights.bin")) == pattern(3 * CHUNK + 17)
    assert b"".join(store.cat(cid, ".hidden")) == b""
    with pytest.raises(NotFoundError):
        store.cat(cid, "sub/absent")
    with pytest.raises(FormatError, match="directory"):
        store.cat(cid, "sub")


def test_a_block_of_one_mebibyte_is_the_largest(store: Store) -> None:
    cid = store.put_block(bytes(CHUNK))
    assert store.put_block(bytes(CHUNK)) == cid
    assert store.block(cid) == bytes(CHUNK)
    assert len(store.ls()) == 1
    with pytest.raises(FormatError):
        store.put_block(bytes(CHUNK + 1))


def test_a_pinned_object_stays_until_its_last_reason_is_gone(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    store.pin(cid, "published")
    store.pin(cid, "mine")
    store.unpin(cid, "published")
    assert store.pins(cid) == ["mine"]
    assert store.ls()[0].pinned
    with pytest.raises(NotPermittedError):
        store.remove(cid)
    store.unpin(cid, "mine")
    store.remove(cid)
    assert store.ls() == []
    assert list((store.root / "objects").iterdir()) == []
    with pytest.raises(NotFoundError):
        store.pin(cid, "too late")


def test_gc_deletes_what_has_no_pin_and_what_interrupted_fetches_left(store: Store, model: Path) -> None:
    kept, going = store.add(model).cid, store.put_block(b"going")
    store.pin(kept, "published")
    (store.root / "objects" / "orphan").mkdir()
    with store.layout.lock("fetching.partial"):
        for name in ("fetching", "abandoned"):
            (store.root / "partial" / name).mkdir(parents=True)
        assert [stored.cid for stored in store.gc(dry_run=True)] == [going]
        assert len(store.ls()) == 2
        assert [stored.cid for stored in store.gc()] == [going]
    assert [stored.cid for stored in store.ls()] == [kept]
    assert [path.name for path in (store.root / "objects").iterdir()] == [kept]
    assert [path.name for path in (store.root / "partial").iterdir()] == ["fetching"]


def test_no_room_is_noticed_before_the_work(store: Store) -> None:
    with store.writer(bare=True) as sink, pytest.raises(StoreError) as caught:
        sink.open("endless", 1 << 60)
    assert "free some space" in caught.value.hint
    assert store.ls() == []


def test_an_index_of_a_newer_citrate_is_left_alone(store: Store, model: Path) -> None:
    import sqlite3

    store.add(model)
    with sqlite3.connect(store.root / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="format 99"):
        Store(store.root).ls()


def test_an_index_that_is_no_index_is_an_error(store: Store) -> None:
    store.root.mkdir()
    (store.root / "index.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError):
        store.ls()
