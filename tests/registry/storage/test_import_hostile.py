"""CARs that are broken, or made to break something: one error, in bounded time, and nothing left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from citrate.core.errors import CitrateError, FormatError, IntegrityError
from citrate.registry import car, dagcbor, dagpb, ipld, reader
from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.store import Store
from citrate.registry.varint import varint
from tests.registry.storage.cars import Dag, assert_untouched, section, take, version_2
from tests.registry.storage.conftest import CHUNK


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
    assert "model" not in caught.value.hint
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


def test_a_file_whose_sizes_lie_is_called_malformed() -> None:
    dag = Dag()
    link = dagpb.Link(dag.raw(b"hello").binary, b"", 5)
    lying = dag.put(cids.DAG_PB, dagpb.encode([link], dagpb.file_data([5, 4])))
    blocks = {str(cid): block for cid, block in dag.blocks}
    with pytest.raises(FormatError, match="do not add up") as told:
        b"".join(reader.content(blocks.__getitem__, str(lying)))
    assert "download" not in told.value.hint
    folder = dag.folder()
    with pytest.raises(FormatError, match="is no part of a file"):
        b"".join(reader.content({str(cid): block for cid, block in dag.blocks}.__getitem__, str(folder)))


def test_json_that_is_nested_deep_is_said_in_words() -> None:
    block = b"[" * 100_000
    with pytest.raises(FormatError, match="nested too deep"):
        ipld.decode(Cid.of(cids.JSON, block), block)
