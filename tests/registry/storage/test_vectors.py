"""The 14 official vectors of IPIP-499, seven for each profile; those of a gibibyte are streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from citrate.core.records import FileEntry
from citrate.registry import cid, dag
from citrate.registry.dagpb import Link
from citrate.registry.doublehash import DoubleHash, double_hash
from citrate.registry.profiles import V0Importer
from citrate.registry.stream import Feeder, Stream

MIB = 1 << 20
NAME_CHARS = b"abcdefghijklmnopqrstuvwxyz01234567890-_"


def keystream(size: int, seed: str) -> bytes:
    return _cipher(seed).update(bytes(size))


def _cipher(seed: str):
    key = hashlib.sha256(seed.encode()).digest()
    return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()


def streamed(size: int, seed: str, hashes: DoubleHash) -> str:
    cipher, feeder, zeros, left = _cipher(seed), Feeder(Stream(hashes=hashes)), bytes(8 * MIB), size
    while left:
        piece = cipher.update(zeros[: min(left, len(zeros))])
        feeder.write(piece)
        left -= len(piece)
    return feeder.finish().dag().cid


def addressed(data: bytes) -> str:
    feeder = Feeder(Stream())
    feeder.write(data)
    return feeder.finish().dag().cid


def test_a_literal() -> None:
    assert addressed(b"hello world") == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


@pytest.mark.parametrize(
    ("size", "seed", "expected"),
    [
        (MIB, "chunk-v1-seed", "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"),
        (MIB + 1, "chunk-v1-seed", "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"),
        (1024 * MIB, "v1-2025-seed", "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),
        (1024 * MIB + 1, "v1-2025-seed", "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"),
    ],
)
def test_a_file(size: int, seed: str, expected: str) -> None:
    hashes = DoubleHash() if size == 1024 * MIB else double_hash(size)  # one of the large ones each way
    assert streamed(size, seed, hashes) == expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (21, "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4"),  # 256 KiB: still one block
        (22, "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu"),  # one byte more: a HAMT
    ],
)
def test_a_directory_at_the_threshold(last: int, expected: str) -> None:
    stream, at, files = keystream(MIB, "hamt-unixfs-v1-2025"), 0, []
    content = cid.of(cid.RAW, b"x")
    for i in range(4766):
        length = last if i == 4765 else 11
        name = bytes(NAME_CHARS[byte % len(NAME_CHARS)] for byte in stream[at : at + length]).decode()
        files.append(FileEntry(name, 1, hashlib.sha256(b"x").hexdigest(), content))
        at += length
    assert dag.directory(files).root.cid == expected


CHUNK_V0 = 256 << 10


def chunks_v0(size: int, seed: str) -> Iterator[bytes]:
    cipher = _cipher(seed)
    for at in range(0, size, CHUNK_V0):
        yield cipher.update(bytes(min(CHUNK_V0, size - at)))


def test_a_literal_in_the_profile_of_2015() -> None:
    assert str(V0Importer().stream(iter([b"hello world"])).cid) == "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"


@pytest.mark.parametrize(
    ("size", "seed", "expected"),
    [
        (CHUNK_V0, "chunk-v0-seed", "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE"),
        (CHUNK_V0 + 1, "chunk-v0-seed", "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"),
        (174 * CHUNK_V0, "v0-seed", "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2"),
        (174 * CHUNK_V0 + 1, "v0-seed", "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW"),
    ],
)
def test_a_file_in_the_profile_of_2015(size: int, seed: str, expected: str) -> None:
    assert str(V0Importer().stream(chunks_v0(size, seed)).cid) == expected


@pytest.mark.parametrize(
    ("count", "length", "expected"),
    [
        (4096, 30, "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN"),  # names and CIDs: 256 KiB, still one block
        (4033, 31, "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP"),  # one byte more: a HAMT
    ],
)
def test_a_directory_at_the_threshold_of_2015(count: int, length: int, expected: str) -> None:
    stream, importer = keystream(MIB, "hamt-unixfs-v0-2015"), V0Importer()
    leaf = importer.stream(iter([b"x"]))
    links = []
    for i in range(count):
        name = bytes(NAME_CHARS[byte % len(NAME_CHARS)] for byte in stream[i * length : (i + 1) * length])
        links.append(Link(leaf.cid.binary, name, leaf.tsize))
    assert str(importer.directory(links).cid) == expected


def test_the_empty_directory() -> None:
    root = dag.directory([]).root
    assert root.cid == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    # the same block under the profile of 2015: QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn
    assert root.digest.hex() == "59948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef"


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 1024 * MIB, 1024 * MIB + 1, 3000 * MIB + 5])
def test_the_tsize_follows_from_the_size_alone(size: int) -> None:
    built = dag.file_dag(bytes(32) * dag.leaf_count(size), size)
    assert built.tsize == dag.file_tsize(size) == size + sum(len(node.block) for node in built.nodes)
