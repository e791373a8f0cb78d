"""What the public gateway conformance suite asks for, as tests of our own: by its groups, without its code.

The groups: trustless raw blocks; trustless CARs (pathing, scopes, byte ranges, order and duplicates, identity); path
gateway for UnixFS (listing, cache, symlinks, ranges, names, field orders, URIs); raw blocks and documents; CORS.
``test_conformance_kubo`` asks Kubo the same questions as us; here stands what Kubo needs not be asked for.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from citrate.registry import cid as cids
from citrate.registry import dagpb
from citrate.registry.carfile import CarFile
from citrate.registry.cid import Cid
from citrate.registry.dagpb import Link
from citrate.registry.store import Store
from citrate.registry.store.importing import import_car
from tests.registry.storage.cars import Dag
from tests.registry.storage.conformance_site import CAR, CLIENT, DAG_JSON, RAW, Site, served_site
from tests.registry.storage.conftest import serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def leaves(site: Site, *which: int) -> list[str]:
    return [cids.of(cids.RAW, site.pieces[i]) for i in which]


# ---- trustless CARs


def test_a_car_leads_from_the_root_to_the_file_and_holds_it(site: Site) -> None:
    way = [str(site.root), str(site.subdir)]
    multi = [str(site.multi), *leaves(site, 0, 1, 2, 3, 4)]
    for ask in ({"path": "?format=car"}, {"path": "", "Accept": CAR}):
        query, headers = ask.pop("path"), ask
        assert site.blocks(f"{site.root}/subdir/multiblock.txt{query}", **headers) == way + multi
        assert site.blocks(f"{site.root}/subdir{query}", **headers) == [*way, str(site.ascii), *multi]
        expected = [str(site.root), str(site.document), str(site.ascii)]
        assert site.blocks(f"{site.root}/document/files/single{query}", **headers) == expected


def test_a_scope_says_how_much(site: Site) -> None:
    base = f"{site.root}/subdir?format=car&dag-scope="
    assert site.blocks(base + "block") == [str(site.root), str(site.subdir)]
    assert site.blocks(base + "entity") == [str(site.root), str(site.subdir)]
    assert site.blocks(f"{site.document}?format=car&dag-scope=entity") == [str(site.document)]


@pytest.mark.parametrize(
    ("asked", "which"),
    [
        ("0:*", (0, 1, 2, 3, 4)),
        ("0:0", (0,)),
        ("512:*", (2, 3, 4)),
        ("512:1023", (2, 3)),
        ("512:-256", (2, 3)),
        ("-5:*", (3, 4)),
        ("-9999:*", (0, 1, 2, 3, 4)),
        ("-9999:-3", (0, 1, 2, 3)),
        ("1025:1025", (4,)),
        ("5000:*", ()),
    ],
)
def test_bytes_of_an_entity_need_only_their_own_blocks(site: Site, asked: str, which: tuple[int, ...]) -> None:
    got = site.blocks(f"{site.multi}?format=car&dag-scope=entity&entity-bytes={asked}")
    assert got == [str(site.multi), *leaves(site, *which)]


def test_blocks_that_are_not_here_do_not_matter_outside_the_range(site: Site) -> None:
    base = f"{site.lost}?format=car&dag-scope=entity&entity-bytes="
    assert site.blocks(base + "0:1000") == [str(site.lost), cids.of(cids.RAW, b"a" * 1024)]
    assert site.blocks(base + "2200:*") == [str(site.lost), cids.of(cids.RAW, b"c" * 1024)]
    for first, last, letter in ((997, 1000, b"a"), (2200, 2201, b"c")):
        answer = site.get(str(site.lost), Range=f"bytes={first}-{last}")
        assert (answer.status_code, answer.content) == (206, letter * (last - first + 1))
        assert answer.headers["content-range"] == f"bytes {first}-{last}/3072"
        assert answer.headers["content-type"].startswith("text/plain")
    with pytest.raises(httpx.RemoteProtocolError):  # sent up to what is missing, and no byte for it
        site.get(str(site.lost))


def test_duplicates_come_as_asked(site: Site) -> None:
    multi = [str(site.multi), *leaves(site, 0, 1, 2, 3, 4)]
    path, kind = str(site.twice), f"{CAR}; version=1; order=dfs"
    assert site.blocks(path, Accept=f"{kind}; dups=y") == [path, *multi, *multi, str(site.ascii)]
    assert site.blocks(path, Accept=f"{kind}; dups=n") == [path, *multi, str(site.ascii)]
    assert site.blocks(path + "?format=car", Accept=f"{kind}; dups=y") == [path, *multi, *multi, str(site.ascii)]
    assert site.blocks(path + "?format=car&car-dups=n", Accept=f"{kind}; dups=y") == [path, *multi, str(site.ascii)]
    assert site.get(path, Accept=f"{kind}; dups=y").headers["content-type"] == f"{kind}; dups=y"
    assert "order=unk" in site.get(path, Accept=f"{CAR}; order=unk").headers["content-type"]
    assert set(site.blocks(path, Accept=f"{CAR}; order=unk")) == {path, *multi, str(site.ascii)}


def test_inline_blocks_never_stand_in_a_car(site: Site) -> None:
    assert site.blocks("bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa", Accept=f"{CAR}; dups=y") == []


def test_each_shape_of_a_car_has_its_own_etag(site: Site) -> None:
    shapes = ["", "&dag-scope=entity", "&dag-scope=block", "&car-dups=y", "&dag-scope=entity&entity-bytes=0:5"]
    tags = {site.get(f"{site.multi}?format=car{shape}").headers["etag"] for shape in shapes}
    assert len(tags) == len(shapes)
    assert all(tag.startswith(f'W/"{site.multi}.car.') for tag in tags)


# ---- trustless raw blocks, and the order of a block's fields


def test_a_raw_block_has_the_headers_of_something_that_never_changes(site: Site) -> None:
    answer = site.get(f"{site.root}/subdir/ascii.txt", Accept=RAW)
    assert Cid.parse(str(site.ascii)).matches(answer.content)
    assert answer.headers["content-type"] == RAW
    assert answer.headers["content-length"] == "31"
    assert answer.headers["cache-control"] == "public, max-age=29030400, immutable"
    assert answer.headers["x-ipfs-path"] == f"/ipfs/{site.root}/subdir/ascii.txt"
    assert answer.headers["x-ipfs-roots"] == f"{site.root},{site.subdir},{site.ascii}"
    assert answer.headers["etag"] == f'"{site.ascii}.raw"'
    assert answer.headers["content-location"] == f"/ipfs/{site.root}/subdir/ascii.txt?format=raw"
    named = site.get(f"{site.ascii}?format=raw&filename=foobar.bin")
    assert 'attachment; filename="foobar.bin"' in named.headers["content-disposition"]


FIELD_ORDERS = {
    "folder, data first": "0a02080112330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    "120968656c6c6f2e7478741806",
    "folder, links first": "12330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    "120968656c6c6f2e74787418060a020801",
    "shard, data first": "0a250805121c80000000000000000000000000000000000000000000000000000000282230800212350a24015512"
    "205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b444668656c6c6f2e7478741806",
    "shard, links first": "12350a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b444668"
    "656c6c6f2e74787418060a250805121c800000000000000000000000000000000000000000000000000000002822308002",
}
"""The fixtures of IPIP-550: the same folder in both orders of fields."""


@pytest.mark.parametrize("name", FIELD_ORDERS)
def test_both_orders_of_fields_are_read_and_sent_as_they_came(name: str, store: Store) -> None:
    dag = Dag()
    dag.raw(b"hello\n")
    root = dag.put(cids.DAG_PB, bytes.fromhex(FIELD_ORDERS[name]))
    import_car(store, io.BytesIO(dag.car(root)), "test")
    with serving(store) as url:
        assert CLIENT.get(f"{url}/ipfs/{root}/hello.txt").content == b"hello\n"
        assert CLIENT.get(f"{url}/ipfs/{root}?format=raw").content.hex() == FIELD_ORDERS[name]


# ---- documents


def test_documents_are_sent_as_they_are_and_never_converted(site: Site) -> None:
    block = site.get(f"{site.document}?format=raw").content
    for query, accept, kind in (
        ("", "*/*", DAG_JSON),
        ("?format=dag-json", "*/*", DAG_JSON),
        ("", DAG_JSON, DAG_JSON),
        ("?format=json", "*/*", "application/json"),
        ("", "application/json", "application/json"),
    ):
        answer = site.get(str(site.document) + query, Accept=accept)
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, block, kind)
        assert answer.headers["etag"] == f'"{site.document}.{"dag-json" if kind == DAG_JSON else "json"}"'
        assert answer.headers["content-disposition"].startswith(f'inline; filename="{site.document}.json"')
    for target in (site.document, site.subdir, site.ascii):
        assert site.get(f"{target}?format=dag-cbor").status_code == 406
    assert site.get(f"{site.document}/foo/link?format=dag-json").json() == {"hello": "this is not a link"}
    assert site.get(f"{site.document}/foo/absent").status_code == 404
    inside = site.get(f"{site.document}/foo?format=dag-json")
    assert inside.status_code == 501
    assert "reading IPLD Kinds other than Links (CBOR Tag 42) is not implemented" in inside.text


def test_a_document_has_a_page_for_people(site: Site) -> None:
    page = site.get(f"{site.document}/", Accept="text/html")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["etag"].startswith('"DagIndex-')
    assert not {"cache-control", "content-disposition"} & set(page.headers)
    assert "</html>" in page.text
    assert f'<a href="/ipfs/{site.document}/foo/link">foo/link</a>' in page.text
    assert site.get(str(site.document), Accept="text/html").status_code == 301


def test_a_document_with_text_that_is_no_utf8_is_taken_and_shown(store: Store) -> None:
    dag = Dag()
    leaf = dag.raw(b"x")
    root = dag.put(cids.DAG_CBOR, b"\xa2\x61\xff\x61\xfe\x61x\xd8\x2a\x58\x25\x00" + leaf.binary)
    import_car(store, io.BytesIO(dag.car(root)), "test")
    with serving(store) as url:
        assert CLIENT.get(f"{url}/ipfs/{root}/x").content == b"x"
        page = CLIENT.get(f"{url}/ipfs/{root}/", headers={"Accept": "text/html"})
    assert (page.status_code, "udcfe" in page.text) == (200, True)


def test_a_block_under_two_names_is_sent_once(store: Store) -> None:
    dag = Dag()
    inside = dag.symlink(b"x")
    other = Cid(0, cids.DAG_PB, cids.SHA2_256, inside.digest)
    links = [Link(inside.binary, b"a", 1), Link(other.binary, b"b", 1)]
    root = dag.put(cids.DAG_PB, dagpb.encode(links, dagpb.directory_data()))
    import_car(store, io.BytesIO(dag.car(root)), "test")
    with serving(store) as url:
        answer = CLIENT.get(f"{url}/ipfs/{root}?format=car")
    assert [cid for cid, _ in CarFile(io.BytesIO(answer.content)).blocks()] == [root, inside]


# ---- what must not be


def test_what_is_not_pinned_is_not_served_but_its_own_cid_is(store: Store) -> None:
    dag = Dag()
    secret, shared = dag.raw(b"secret"), dag.raw(b"shared")
    hidden, shown = dag.folder(s=secret, x=shared, l=dag.symlink(b"x")), dag.folder(x=shared, l=dag.symlink(b"y"))
    import_car(store, io.BytesIO(dag.car(hidden, shown)), "test")
    allowed: Callable[[str], bool] = lambda root: root == str(shown)  # noqa: E731
    with serving(store, allowed) as url:
        assert CLIENT.get(f"{url}/ipfs/{shown}/x").content == b"shared"
        assert CLIENT.get(f"{url}/ipfs/{shared}").content == b"shared"
        for path in (str(hidden), f"{hidden}/x", f"{hidden}?format=car", str(secret), f"{secret}?format=raw"):
            assert CLIENT.get(f"{url}/ipfs/{path}").status_code == 404
        assert CLIENT.get(f"{url}/ipfs/bafkqabtimvwgy3yk").content == b"hello\n"


def test_a_made_up_block_opens_no_way_to_what_is_not_served(store: Store) -> None:
    dag = Dag()
    secret = dag.raw(b"secret")
    draft = dag.folder(s=secret, l=dag.symlink(b"x"))
    import_car(store, io.BytesIO(dag.car(draft)), "test")
    inside = b"\xa1\x61x\xd8\x2a\x58\x25\x00" + secret.binary  # {"x": link}, and it is its own CID
    forged = Cid(1, cids.DAG_CBOR, cids.IDENTITY, inside)
    with serving(store) as url:
        assert CLIENT.get(f"{url}/ipfs/{forged}/x").content == b"secret"
    with serving(store, lambda _: False) as url:
        for query in ("/x", "/x?format=raw", "?format=car", "/x?format=car"):
            try:
                answer = CLIENT.get(f"{url}/ipfs/{forged}{query}")
            except httpx.RemoteProtocolError:
                continue
            assert b"secret" not in answer.content
            assert str(store.root) not in answer.text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("nonsense", {}, 400),
        ("{root}/%ff", {}, 400),
        ("{root}/%2e%2e/x", {}, 400),
        ("{root}?format=tar", {}, 406),
        ("{root}", {"Accept": "application/x-tar"}, 406),
        ("{root}", {"Accept": "application/vnd.ipld.nonsense"}, 400),
        ("{root}?format=car&entity-bytes=1_0:*", {}, 400),
        ("{root}?format=car&car-version=2", {}, 400),
        ("{root}/subdir/ascii.txt", {"Range": "lines=1-2"}, 400),
        ("{root}/subdir/ascii.txt", {"Range": "bytes=31-"}, 416),
        ("{root}", {"Service-Worker": "script"}, 400),
        ("bafyaaaaa", {}, 400),
    ],
)
def test_what_cannot_be_answered_says_why(site: Site, path: str, headers: dict[str, str], status: int) -> None:
    answer = CLIENT.get(f"{site.url}/ipfs/{path.format(root=site.root)}", headers=headers)
    assert answer.status_code == status
    assert status == 416 or answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_hostile_folder_cannot_put_anything_into_the_page(store: Store) -> None:
    dag = Dag()
    names = ["<script>", '"><img src=x>', "javascript:alert(1)", "a\nb", "../../x", "&lt;"]
    root = dag.folder(**{name: dag.raw(name.encode()) for name in names}, l=dag.symlink(b"x"))
    import_car(store, io.BytesIO(dag.car(root)), "test")
    with serving(store) as url:
        page = CLIENT.get(f"{url}/ipfs/{root}/")
    assert page.status_code == 200
    assert not re.search(r"<(script|img)|href=\"(?!/ipfs/)", page.text)
    assert "sandbox" in page.headers["content-security-policy"]


def test_a_large_file_passes_through_without_being_held(store: Store, tmp_path: object) -> None:
    digest = hashlib.sha256()
    with store.writer(bare=True) as sink:
        file = sink.open("large")
        for i in range(64):
            piece = i.to_bytes(4, "big") * (1 << 18)
            digest.update(piece)
            file.write(piece)
        file.close()
        cid = sink.commit().cid
    with serving(store) as url, CLIENT.stream("GET", f"{url}/ipfs/{cid}") as answer:
        got = hashlib.sha256()
        for piece in answer.iter_raw(1 << 20):
            got.update(piece)
    assert got.hexdigest() == digest.hexdigest()
