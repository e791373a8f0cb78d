"""CARs into the store: what becomes of a DAG, what is refused, and that nothing is ever half there."""

from __future__ import annotations

import io
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError, NotPermittedError
from citrate.registry import car, dagcbor, dagpb, reader
from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.paths import find
from citrate.registry.store import Store
from citrate.registry.store.importing import Imported, import_car
from citrate.registry.varint import varint
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import Dag, section, version_2
from tests.registry.storage.conftest import CHUNK, pattern

counter = itertools.count()


def take(store: Store, data: bytes, *, partial: bool = False) -> list[Imported]:
    return import_car(store, io.BytesIO(data), "test", partial=partial)


def assert_untouched(store: Store) -> None:
    assert store.ls() == []
    for folder in ("packs", "objects", "staging"):
        assert not (store.root / folder).exists() or list((store.root / folder).iterdir()) == []


@pytest.fixture
def dag() -> Dag:
    return Dag()


# ---- what becomes of a DAG


def test_our_own_export_comes_back_as_the_same_plain_files(store: Store, model: Path, tmp_path: Path) -> None:
    artifact = store.add(model)
    other = Store(tmp_path / "other")
    (found,) = take(other, b"".join(store.export_car(artifact.cid)))
    assert found.added
    assert (found.stored.cid, found.stored.sha256, found.stored.blocks) == (artifact.cid, artifact.sha256, 0)
    assert other.artifact(artifact.cid) == artifact
    assert (other.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == pattern(3 * CHUNK + 17)
    assert other.pins(artifact.cid) == ["test"]
    assert not (other.root / "packs").exists()


def test_a_raw_block_becomes_a_file(store: Store, dag: Dag) -> None:
    root = dag.raw(b"manifest")
    (found,) = take(store, dag.car(root))
    assert found.stored.path.read_bytes() == b"manifest"
    assert store.put_block(b"manifest") == str(root)


def test_a_foreign_file_stays_readable_and_exports_as_it_came(store: Store, dag: Dag) -> None:
    root = dag.folder(a=dag.file(b"one ", b"two"), link=dag.symlink(b"a"))
    data = dag.car(root)
    (found,) = take(store, data)
    assert (found.stored.sha256, found.stored.blocks, found.stored.whole) == ("", 5, True)
    assert b"".join(store.cat(str(root), "a")) == b"one two"
    exported = b"".join(store.export_car(str(root)))
    assert sorted(exported) == sorted(data)  # the same blocks, depth first
    assert take(store, exported)[0].added is False
    with pytest.raises(NotFoundError, match="kept as blocks"):
        store.get(str(root))
    with pytest.raises(FormatError, match="symbolic link"):
        store.cat(str(root), "link")


def test_documents_and_inline_blocks_are_followed(store: Store, dag: Dag) -> None:
    inline = Cid(1, cids.RAW, cids.IDENTITY, b"inside its CID")
    far = dag.raw(b"far")
    document = dag.json({"far": {"/": str(far)}, "near": [{"/": str(inline)}], "bytes": {"/": {"bytes": "AQI"}}})
    (found,) = take(store, dag.car(document))
    assert found.stored.blocks == 2
    assert b"".join(store.cat(str(document), "far")) == b"far"
    assert b"".join(store.cat(str(document), "near/0")) == b"inside its CID"
    with pytest.raises(FormatError, match="into a document"):
        store.cat(str(document), "bytes")


def test_every_hash_that_ipfs_uses_is_checked(store: Store) -> None:
    for code, length in ((0x12, 32), (0x13, 64), (0x14, 64), (0x16, 32), (0x11, 20), (0xB220, 32), (0xB260, 32)):
        probe = Cid(1, cids.RAW, code, b"")
        cid = Cid(1, cids.RAW, code, probe.hash(b"block")[:length])
        (found,) = take(store, dagcbor.car_header([cid]) + section(cid, b"block"))
        assert store.block(found.stored.cid) == b"block"
        with pytest.raises(IntegrityError):
            take(store, dagcbor.car_header([cid]) + section(cid, b"blocK"))


def test_a_block_is_found_under_every_codec_and_version(store: Store, dag: Dag) -> None:
    root = dag.file(b"a", b"b", version=0)
    take(store, dag.car(root))
    for other in (Cid(1, cids.DAG_PB, root.hash_code, root.digest), Cid(1, cids.RAW, root.hash_code, root.digest)):
        assert store.block(str(other)) == store.block(str(root))
        assert store.owners(str(other)) == [str(root)]


def test_several_roots_and_what_no_root_leads_to(store: Store, dag: Dag) -> None:
    shared = dag.raw(b"shared")
    one, two = dag.folder(x=shared), dag.folder(y=shared, z=dag.symlink(b"x"))
    dag.raw(b"nobody's")
    found = take(store, dag.car(one, two, one))
    assert [item.stored.cid for item in found] == [str(one), str(two)]
    assert [bool(item.stored.blocks) for item in found] == [False, True]  # the first is what citrate itself writes
    with pytest.raises(NotFoundError):
        store.block(cids.of(cids.RAW, b"nobody's"))
    store.unpin(str(one), "test")
    assert [gone.cid for gone in store.gc()] == [str(one)]
    assert b"".join(store.cat(str(two), "y")) == b"shared"


def test_version_2_is_read_and_pieces_of_any_size(store: Store, dag: Dag) -> None:
    root = dag.folder(link=dag.symlink(b"x"))

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))

    (found,) = import_car(store, Trickle(version_2(dag.car(root))), "test")
    assert found.stored.cid == str(root)


def test_missing_blocks_are_taken_from_the_store(store: Store, dag: Dag) -> None:
    leaf, link = dag.raw(b"here already"), dag.symlink(b"x")
    take(store, dag.car(leaf))
    root = dag.folder(leaf=leaf, link=link)
    take(store, dag.car(root, without=[leaf]))
    store.unpin(str(leaf), "test")
    store.gc()
    assert b"".join(store.cat(str(root), "leaf")) == b"here already"


def test_a_part_of_a_dag_is_kept_when_asked_for_and_completed_later(store: Store, dag: Dag) -> None:
    root = dag.file(b"one", b"two", b"three")
    lost = dag.blocks[1][0]
    with pytest.raises(FormatError, match="not whole") as caught:
        take(store, dag.car(root, without=[lost]))
    assert "--partial" in caught.value.hint
    assert_untouched(store)
    (found,) = take(store, dag.car(root, without=[lost]), partial=True)
    assert (found.stored.whole, found.stored.blocks) == (False, 3)
    with pytest.raises(NotFoundError):
        list(store.cat(str(root)))
    (found,) = take(store, dag.car(root))
    assert found.stored.whole
    assert b"".join(store.cat(str(root))) == b"onetwothree"
    assert len(list((store.root / "packs").iterdir())) == 1
    with pytest.raises(FormatError, match="not whole"):
        take(Store(store.root / "other"), dag.car(root, without=[root]), partial=True)


# ---- pins, gc, verify


def test_pins_gc_and_verify_know_dags(store: Store, dag: Dag) -> None:
    root = dag.folder(link=dag.symlink(b"x"))
    take(store, dag.car(root))
    with pytest.raises(NotPermittedError, match="pinned: test"):
        store.remove(str(root))
    assert store.verify() == []
    store.pin(str(root), "another")
    store.unpin(str(root), "test")
    assert store.gc() == []
    store.unpin(str(root), "another")
    assert [gone.cid for gone in store.gc(dry_run=True)] == [str(root)]
    assert [gone.cid for gone in store.gc()] == [str(root)]
    assert list((store.root / "packs").iterdir()) == []
    assert store.ls() == []


def test_a_flipped_bit_is_named_never_served_and_mended_by_another_import(store: Store, dag: Dag) -> None:
    root = dag.folder(a=dag.file(b"x" * 100, b"y" * 100), link=dag.symlink(b"x"))
    (found,) = take(store, dag.car(root))
    for at in random.Random(3).sample(range(found.stored.size_bytes), 20):
        pack = store.stored(str(root)).path
        pack.chmod(0o644)
        sound = bytearray(pack.read_bytes())
        sound[at] ^= 1 << at % 8
        pack.write_bytes(sound)
        (damage,) = store.verify()
        assert isinstance(damage, IntegrityError)
        with pytest.raises(IntegrityError):
            list(store.export_car(str(root)))
        assert take(store, dag.car(root))[0].added
        assert store.verify() == []
    assert len(list((store.root / "packs").iterdir())) == 1


def test_a_damaged_plain_object_is_replaced_by_an_import(store: Store, model: Path) -> None:
    artifact = store.add(model)
    data = b"".join(store.export_car(artifact.cid))
    victim = store.get(artifact.cid) / "config.json"
    victim.chmod(0o644)
    victim.write_bytes(b'{"a": 2}')
    assert take(store, data)[0].added
    assert store.verify() == []
    assert victim.read_bytes() == b'{"a": 1}'


def test_an_index_of_the_first_format_is_brought_up(store: Store, model: Path, dag: Dag) -> None:
    artifact = store.add(model)
    with sqlite3.connect(store.root / "index.sqlite") as old:
        for table in ("blocks", "dags", "packs"):
            old.execute(f"DROP TABLE {table}")
        old.execute("PRAGMA user_version = 1")
    old.close()
    opened = Store(store.root)
    assert [item.cid for item in opened.ls()] == [artifact.cid]
    root = dag.symlink(b"x")
    take(opened, dag.car(root))
    assert {item.cid for item in opened.ls()} == {artifact.cid, str(root)}


# ---- what is refused


def hostile() -> dict[str, tuple[bytes, type[CitrateError]]]:
    dag = Dag()
    root = dag.folder(link=dag.symlink(b"x"))
    good = dag.car(root)
    cid, block = dag.blocks[-1]
    header = dagcbor.car_header([root])
    wide = Cid.of(cids.RAW, bytes(dagpb.BLOCK_MAX_BYTES + 1))
    odd = Cid.of(0x78, b"git")
    unknown = Cid(1, cids.RAW, 0x1E, bytes(32))
    short = Cid(1, cids.RAW, cids.SHA2_256, Cid.of(cids.RAW, b"x").digest[:12])
    broken = Cid.of(cids.DAG_PB, b"\xff\xff")
    return {
        "nothing": (b"", FormatError),
        "text": (b"hello, this is no CAR\n", FormatError),
        "a header past its bound": (varint(1 << 40) + bytes(100), FormatError),
        "a header that is cut off": (good[:20], FormatError),
        "a header of zero bytes": (b"\0" + good, FormatError),
        "no root": (dagcbor.car_header([]) + good, FormatError),
        "version 3": (header.replace(b"version\x01", b"version\x03") + section(cid, block), FormatError),
        "roots that are no links": (varint(15) + b"\xa2\x65roots\x81\x01\x67version\x01"[:15], FormatError),
        "a root that is not in it": (header, FormatError),
        "cut off in a block": (good[:-5], FormatError),
        "cut off in a length": (good + b"\x80", FormatError),
        "cut off between two blocks": (good[: -len(section(*dag.blocks[0]))], FormatError),
        "an empty section": (good + b"\0", FormatError),
        "a section past its bound": (header + varint(1 << 50) + bytes(100), FormatError),
        "an endless number": (header + b"\xff" * 20, FormatError),
        "a block past its bound": (header + section(wide, bytes(dagpb.BLOCK_MAX_BYTES + 1)), FormatError),
        "a block with another's CID": (header + section(root, b"other"), IntegrityError),
        "a flipped bit": (good[:-1] + bytes((good[-1] ^ 1,)), IntegrityError),
        "an unknown codec": (dagcbor.car_header([odd]) + section(odd, b"git"), FormatError),
        "an unknown hash": (dagcbor.car_header([unknown]) + section(unknown, b"x"), FormatError),
        "a digest too short to trust": (dagcbor.car_header([root]) + section(short, b"x"), FormatError),
        "a malformed block": (dagcbor.car_header([broken]) + section(broken, b"\xff\xff"), FormatError),
        "version 2 that begins before its header": (
            version_2(good)[:27] + bytes(8) + version_2(good)[35:],
            FormatError,
        ),
        "version 2 that ends early": (version_2(good)[: -len(good) // 2], FormatError),
        "deep lists": (varint(9000) + b"\x81" * 9000, FormatError),
    }


@pytest.mark.parametrize("name", hostile())
def test_a_bad_car_is_one_error_and_leaves_nothing(name: str, store: Store) -> None:
    data, expected = hostile()[name]
    with pytest.raises(expected) as caught:
        take(store, data)
    assert caught.value.message
    assert_untouched(store)


def test_every_flipped_bit_and_every_cut_is_noticed_or_harmless(tmp_path: Path) -> None:
    dag = Dag()
    root = dag.folder(a=dag.file(b"one", b"two"), link=dag.symlink(b"x"))
    good, accepted = dag.car(root), 0
    positions = random.Random(11)
    for i in range(400):
        data = bytearray(good)
        if i % 2:
            data[positions.randrange(len(data))] ^= 1 << positions.randrange(8)
        else:
            del data[positions.randrange(len(data)) :]
        store = Store(tmp_path / str(i))
        try:
            found = take(store, bytes(data))
        except CitrateError:
            assert_untouched(store)
            continue
        accepted += 1  # the root in the header became another that is in the file too
        for item in found:
            list(car.walk(item.stored.cid, store.block))
    assert accepted == 0


def test_a_few_blocks_that_unfold_to_exabytes_stay_a_few_blocks(store: Store, dag: Dag) -> None:
    leaf, size = dag.raw(bytes(CHUNK)), CHUNK
    for _ in range(5):
        links = [dagpb.Link(leaf.binary, b"", size)] * 1024
        leaf, size = dag.put(cids.DAG_PB, dagpb.encode(links, dagpb.file_data([size] * 1024))), size * 1024
    folder = dag.folder(a=leaf, b=leaf)
    for _ in range(30):
        folder = dag.folder(a=folder, b=folder)
    (found,) = take(store, dag.car(folder))
    assert found.stored.blocks == 1 + 5 + 31
    assert store.verify() == []


@pytest.mark.parametrize("name", ["..", ".", "/etc/passwd", "../../x", "a/b", "a\\b", "a\nb", "", "\udc80"])
def test_names_that_lead_elsewhere_stay_names_in_a_block(name: str, store: Store, tmp_path: Path) -> None:
    dag = Dag()
    leaf = dag.raw(b"x")
    links = [dagpb.Link(leaf.binary, name.encode(errors="surrogateescape"), 1)]
    root = dag.put(cids.DAG_PB, dagpb.encode(links, dagpb.directory_data()))
    before = sorted(tmp_path.iterdir())
    (found,) = take(store, dag.car(root))
    assert found.stored.blocks == 2
    assert sorted(tmp_path.iterdir()) == sorted({*before, store.root})
    assert [path.name for path in (store.root / "packs").iterdir()] == [found.stored.path.name]


def test_a_sharded_folder_that_leads_to_itself_over_and_over_is_none(store: Store, dag: Dag) -> None:
    at = dag.raw(b"x")
    for _ in range(8):
        links = [dagpb.Link(at.binary, b"%02X" % place, 1) for place in range(256)]
        at = dag.put(cids.DAG_PB, dagpb.encode(links, dagpb.shard_data((1 << 256) - 1, 256)))
    (found,) = take(store, dag.car(at))
    assert found.stored.blocks == 9
    with pytest.raises(FormatError, match="not a directory"):
        reader.entries(store.block, str(at))


def test_a_chain_of_blocks_as_deep_as_it_likes_is_followed(store: Store, dag: Dag) -> None:
    at = dag.raw(b"end")
    for _ in range(5000):
        at = dag.json([{"/": str(at)}])
    assert take(store, dag.car(at))[0].stored.blocks == 5001


# ---- killed and side by side

IMPORT = """
import os, signal, sys
from pathlib import Path
from citrate.registry.store import Store, dags, dag_writer, importing, index, layout
def kill_at(owner, name, after):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, wrapped)
{kill}
with open(sys.argv[2], "rb") as stream:
    for found in importing.import_car(Store(Path(sys.argv[1])), stream, "test"):
        print(found.stored.cid, flush=True)
"""


def start(store: Store, source: Path, kill: str = "") -> subprocess.Popen[str]:
    code = IMPORT.format(kill=kill)
    return subprocess.Popen([sys.executable, "-c", code, store.root, source], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Cid]:
    dag = Dag()
    root = dag.folder(a=dag.file(*(pattern(5000, i) for i in range(50))), link=dag.symlink(b"a"))
    path = tmp_path / "foreign.car"
    path.write_bytes(dag.car(root))
    return path, root


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        ("dag_writer.DagWriter", "put", True),
        ("dag_writer.DagWriter", "gather", True),
        ("dag_writer.os", "fsync", True),
        ("Path", "rename", False),
        ("Path", "rename", True),
        ("dags.DagShelf", "insert", False),
        ("dags.DagShelf", "insert", True),
        ("dags.DagShelf", "sweep", False),
    ],
)
def test_a_kill_at_any_step_leaves_nothing_partial(
    store: Store, foreign: tuple[Path, Cid], owner: str, name: str, after: bool
) -> None:
    path, root = foreign
    process = start(store, path, f"kill_at({owner}, {name!r}, {after})")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    there = name == "sweep" or (name == "insert" and after)
    assert [item.cid for item in store.ls()] == [str(root)] * there
    assert store.pins(str(root)) == ["test"] * there  # never without its pin
    assert store.verify() == []
    with path.open("rb") as stream:
        assert import_car(store, stream, "test")[0].added is not there
    store.gc()
    assert len(list((store.root / "packs").iterdir())) == 1
    assert list((store.root / "staging").iterdir()) == []
    assert b"".join(store.cat(str(root), "a")) == b"".join(pattern(5000, i) for i in range(50))


def test_kills_at_random_moments_leave_nothing_partial_and_lose_nothing_reported(
    tmp_path: Path, foreign: tuple[Path, Cid]
) -> None:
    path, root = foreign
    moments, reported = random.Random(5), 0
    for i in range(16):
        store = Store(tmp_path / f"store-{i}")
        process = start(store, path, 'print("ready", flush=True)')
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.08))
        process.kill()
        if process.communicate(timeout=30)[0].strip():
            reported += 1
            assert store.pins(str(root)) == ["test"]
        assert [item.cid for item in store.ls()] in ([], [str(root)])
        assert store.verify() == []
        with path.open("rb") as stream:
            import_car(store, stream, "test")
        store.gc()
        assert b"".join(store.cat(str(root), "a")) == b"".join(pattern(5000, i) for i in range(50))
        assert len(list((store.root / "packs").iterdir())) == 1
    assert reported < 16, "no kill came in time"


def test_processes_that_import_the_same_end_with_one_copy(store: Store, foreign: tuple[Path, Cid]) -> None:
    path, root = foreign
    processes = [start(store, path) for _ in range(4)]
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == {str(root)}
    assert [process.returncode for process in processes] == [0] * 4
    assert [item.cid for item in store.ls()] == [str(root)]
    assert len(list((store.root / "packs").iterdir())) == 1
    assert store.verify() == []


def test_memory_stays_flat_however_large_the_car(store: Store, tmp_path: Path) -> None:
    dag = Dag()
    root = dag.folder(link=dag.symlink(b"x"), big=dag.file(*(pattern(CHUNK, i) for i in range(8))))
    small, large = tmp_path / "small.car", tmp_path / "large.car"
    small.write_bytes(dag.car(root))
    with large.open("wb") as file:
        file.write(dag.car(root))
        for i in range(300):
            block = pattern(CHUNK, 1000 + i)
            file.write(section(Cid.of(cids.RAW, block), block))
    code = IMPORT.format(kill="") + "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = []
    for path in (small, large):
        run = [sys.executable, "-c", code, str(tmp_path / path.stem), str(path)]
        done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 16 << 10  # KiB; the large one brings 300 MiB more


# ---- the real Kubo


@pytest.mark.servers
@pytest.mark.parametrize(
    "options",
    [
        ("--cid-version=0",),
        ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024"),
        ("--cid-version=1", "--raw-leaves=false", "--chunker=size-1000", "--max-file-links=20"),
        ("--chunker=buzhash", "--raw-leaves"),
        ("--trickle", "--chunker=size-5000"),
        ("--hash=blake2b-256", "--cid-version=1"),
        ("--inline", "--inline-limit=64", "--cid-version=1"),
        ("--preserve-mode", "--preserve-mtime", "--raw-leaves=false"),
    ],
    ids=" ".join,
)
def test_what_kubo_adds_makes_the_round_trip_byte_for_byte(
    options: tuple[str, ...], kubo: KuboNode, store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "many").mkdir(parents=True)
    (source / "weights.bin").write_bytes(pattern(3 * CHUNK + 17))
    (source / "small").write_bytes(b"small")
    for i in range(1400):
        (source / "many" / (f"{i:04d}" + "n" * 180)).write_bytes(b"%d" % (i // 2))
    root = kubo.ipfs("add", "-rQ", *options, str(source))
    exported = kubo.ipfs_bytes("dag", "export", root)
    (found,) = take(store, exported)
    assert (found.stored.cid, found.stored.blocks == 0) == (root, "--max-file-links=1024" in options)
    assert b"".join(store.export_car(root)) == exported
    assert b"".join(store.cat(root, "weights.bin")) == pattern(3 * CHUNK + 17)
    assert b"".join(store.cat(root, "many/1234" + "n" * 180)) == b"617"
    assert root in kubo.ipfs("dag", "import", stdin=b"".join(store.export_car(root)))


SIZES = [0, 1, 255, 256, 257, 256 * 5 - 1, 256 * 5 + 1, 256 * 25 + 1]
names = st.text(st.sampled_from("az09._- ~#%&+'\"éЖ漢🍋"), min_size=1, max_size=20).filter(
    lambda n: n not in (".", "..")
)
trees = st.recursive(
    st.sampled_from(SIZES), lambda below: st.dictionaries(names, below, max_size=5), max_leaves=10
).filter(lambda tree: isinstance(tree, dict))
options = st.tuples(
    st.sampled_from(("--cid-version=0", "--cid-version=1")), st.sampled_from(("--raw-leaves", "--raw-leaves=false")),
    st.sampled_from(("--trickle=false", "--trickle")), st.sampled_from(("--max-file-links=5", "--max-file-links=174")),
    st.sampled_from(("--max-directory-links=0", "--max-directory-links=3")),
)  # fmt: skip


def write(tree: object, path: Path, files: dict[str, bytes], name: str = "") -> None:
    """Write a tree of sizes, and remember every file's bytes by its path."""
    if isinstance(tree, int):
        files[name] = pattern(tree, len(files))
        path.write_bytes(files[name])
        return
    assert isinstance(tree, dict)
    path.mkdir()
    for below, inside in tree.items():
        write(inside, path / below, files, f"{name}/{below}".lstrip("/"))


@pytest.mark.servers
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(tree=trees, chosen=options)
def test_random_trees_of_any_shape_make_the_round_trip(
    tree: object, chosen: tuple[str, ...], kubo: KuboNode, tmp_path: Path
) -> None:
    path, files = tmp_path / str(next(counter)), dict[str, bytes]()
    write(tree, path, files)
    root = kubo.ipfs("add", "-rQ", "--hidden", "--chunker=size-256", *chosen, str(path))
    exported = kubo.ipfs_bytes("dag", "export", root)
    store = Store(tmp_path / f"store-{path.name}")
    take(store, exported)
    assert b"".join(store.export_car(root)) == exported
    for name, content in files.items():
        assert b"".join(store.cat(root, name)) == content
        middle = len(content) // 2
        found = find(store.block, root, name)
        assert b"".join(reader.content(store.block, found.cid, middle, middle + 3)) == content[middle : middle + 3]


@pytest.mark.servers
@pytest.mark.parametrize("codec", ["dag-cbor", "dag-json"])
def test_documents_make_the_round_trip_byte_for_byte(codec: str, kubo: KuboNode, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pattern(CHUNK))
    file = kubo.ipfs("add", "-Q", str(tmp_path / "file"))
    document = b'{"z":{"/":"%b"},"b":[{"/":"bafkqabtimvwgy3yk"},1,null,true,1.5,-7,{"/":{"bytes":"AQI"}}],"a":{}}'
    root = kubo.ipfs("dag", "put", "--store-codec", codec, stdin=document % file.encode())
    exported = kubo.ipfs_bytes("dag", "export", root)
    take(store, exported)
    assert b"".join(store.export_car(root)) == exported
    assert b"".join(store.cat(root, "z")) == pattern(CHUNK)
