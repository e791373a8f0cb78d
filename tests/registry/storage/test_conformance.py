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
from tests.registry.storage.conftest import serving

RAW, CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"
DAG_JSON, DAG_CBOR = "application/vnd.ipld.dag-json", "application/vnd.ipld.dag-cbor"
CLIENT = httpx.Client(timeout=30)


class Site:
    """A store with a few DAGs, served."""

    def __init__(self, store: Store) -> None:
        self.dag = Dag()
        dag = self.dag
        self.ascii = dag.raw(b"hello application/vnd.ipld.raw\n")
        self.pieces = [bytes((65 + i,)) * 256 for i in range(4)] + [b"!!"]
        self.multi = dag.file(*self.pieces)
        self.subdir = dag.folder(**{"ascii.txt": self.ascii, "multiblock.txt": self.multi})
        self.index = dag.raw(b"<p>index</p>")
        self.page = dag.folder(**{"index.html": self.index})
        self.twice = dag.folder(a=self.multi, b=self.multi, c=self.ascii)
        self.symlink = dag.symlink(b"foo")
        self.odd = dag.folder(
            **{
                "a#b?c.txt": dag.raw(b"1"),
                "Portugal%2C+España=Peninsula Ibérica.txt": dag.raw(b"2"),
                "sub dir": self.subdir,
            }
        )
        self.hard = b"every byte but the unreserved is encoded"
        self.nested = dag.folder(**{"sub dir": dag.folder(**{"file!'()*~.txt": dag.raw(self.hard)})})
        inside = dag.folder(**{"b.txt": dag.raw(b"b.txt inside a")})
        self.slashed = dag.folder(**{"a": inside, "a/b.txt": dag.raw(b"a link that no path leads to")})
        self.inner = dag.json({"hello": "this is not a link"})
        self.document = dag.json({"foo": {"link": {"/": str(self.inner)}}, "files": {"single": {"/": str(self.ascii)}}})
        self.root = dag.folder(
            subdir=self.subdir, page=self.page, twice=self.twice, bar=self.symlink, document=self.document,
            odd=self.odd, nested=self.nested, slashed=self.slashed,
        )  # fmt: skip
        self.lost = dag.file(b"a" * 1024, b"b" * 1024, b"c" * 1024)
        missing = dag.blocks[-3][0]
        import_car(store, io.BytesIO(dag.car(self.root)), "test")
        import_car(store, io.BytesIO(dag.car(self.lost, without=[missing])), "test", partial=True)
        self.url = ""

    def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return CLIENT.request(method, f"{self.url}/ipfs/{path}", headers=names)

    def blocks(self, path: str, **headers: str) -> list[str]:
        """The CIDs in a CAR, each block compared with its own."""
        answer = self.get(path, **headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(CAR)
        assert answer.headers["accept-ranges"] == "none"
        assert re.search(r'attachment; filename=".*\.car"', answer.headers["content-disposition"])
        return [str(cid) for cid, _ in CarFile(io.BytesIO(answer.content)).blocks()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    store = Store(tmp_path_factory.mktemp("site") / "store")
    site = Site(store)
    with serving(store) as url:
        site.url = url
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


# ---- the path gateway


def test_a_folder_is_listed_under_a_path_that_ends_with_a_slash(site: Site) -> None:
    assert site.get(f"{site.root}/odd/sub dir").headers["location"] == f"/ipfs/{site.root}/odd/sub%20dir/"
    page = site.get(f"{site.root}/odd/sub dir/")
    assert page.headers["etag"].startswith('"DirIndex-')
    assert page.headers["etag"].endswith(f'_CID-{site.subdir}"')
    assert page.headers["cache-control"] == "public, max-age=604800, stale-while-revalidate=2678400"
    assert page.headers["x-ipfs-roots"] == f"{site.root},{site.odd},{site.subdir}"
    assert "Index of" in page.text
    here = f"/ipfs/{site.root}/odd/sub%20dir"
    assert f'<a href="{here}">sub dir</a>' in page.text
    assert f'<a href="{here}/..">..</a>' in page.text
    assert f'<a href="{here}/ascii.txt">ascii.txt</a>' in page.text
    assert f'href="/ipfs/{site.ascii}?filename=ascii.txt"' in page.text
    assert ">..<" not in site.get(f"{site.root}/").text
    assert site.get(f"{site.root}/i-do-not-exist").status_code == 404


def test_an_index_stands_for_its_folder(site: Site) -> None:
    page = site.get(f"{site.root}/page/")
    assert page.content == b"<p>index</p>"
    assert page.headers["etag"] == f'"{site.page}"'
    assert page.headers["cache-control"] == "public, max-age=29030400, immutable"
    assert page.headers["x-ipfs-path"] == f"/ipfs/{site.root}/page/"
    assert page.headers["x-ipfs-roots"] == f"{site.root},{site.page}"


@pytest.mark.parametrize("tag", ['"{0}"', 'W/"{0}"', '"fake", "other", "{0}"', "*"])
@pytest.mark.parametrize(
    ("path", "target"),
    [("subdir/ascii.txt", "ascii"), ("page/", "page"), ("subdir/", "subdir"), ("document", "document")],
)
def test_who_has_it_already_is_told_so(site: Site, tag: str, path: str, target: str) -> None:
    cid = getattr(site, target)
    answer = site.get(f"{site.root}/{path}", If_None_Match=tag.format(cid))
    assert (answer.status_code, answer.content) == (304, b"")


def test_the_etag_of_a_page_is_known_again(site: Site) -> None:
    for path, headers in ((f"{site.root}/subdir/", {}), (f"{site.document}/", {"Accept": "text/html"})):
        tag = site.get(path, **headers).headers["etag"]
        assert site.get(path, If_None_Match=tag, **headers).status_code == 304
        assert site.get(path, If_None_Match="W/" + tag, **headers).status_code == 304


def test_only_if_cached_is_412_for_what_is_not_here(site: Site) -> None:
    for method in ("GET", "HEAD"):
        absent = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"
        assert site.get(absent, method, Cache_Control="only-if-cached").status_code == 412
        assert site.get(f"{site.root}/page/?format=json", method, Cache_Control="only-if-cached").status_code == 200


def test_a_symbolic_link_is_its_target_and_is_not_followed(site: Site) -> None:
    answer = site.get(f"{site.root}/bar")
    assert (answer.content, answer.headers["content-type"]) == (b"foo", "inode/symlink")


def test_many_ranges_are_answered_with_the_first(site: Site) -> None:
    for path, headers in ((f"{site.root}/subdir/ascii.txt", {}), (f"{site.ascii}", {"Accept": RAW})):
        answer = site.get(path, Range="bytes=6-16,0-4", **headers)
        assert (answer.status_code, answer.content) == (206, b"application")
        assert answer.headers["content-range"] == "bytes 6-16/31"
    assert site.get(f"{site.ascii}", Range="bytes=-9999").content == b"hello application/vnd.ipld.raw\n"
    assert site.get(f"{site.ascii}", Range="bytes=99999-,0-1").content == b"he"
    assert site.get(f"{site.ascii}", Range="bytes=0-1", If_Range='"other"').status_code == 200


SPELLINGS = (
    "Portugal%252C%2BEspa%C3%B1a%3DPeninsula%20Ib%C3%A9rica.txt",
    "Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
    "Portugal%252C%2bEspa%c3%b1a%3dPeninsula%20Ib%c3%a9rica%2etxt",
    "x%2F..%2FPortugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_has_one_address_however_it_is_spelled(site: Site, spelling: str) -> None:
    answer = site.get(f"{site.odd}/{spelling}")
    assert answer.content == b"2"
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.odd}/{SPELLINGS[0]}"
    assert "x-ipfs-path" not in answer.headers  # no header may hold those characters


def test_the_address_of_a_cid_is_that_of_its_usual_form(site: Site) -> None:
    old = Cid(0, cids.DAG_PB, cids.SHA2_256, site.odd.digest)
    answer = site.get(f"{old}/a%23b%3Fc.txt?format=json&filename=x")
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.odd}/a%23b%3Fc.txt"
    assert answer.headers["x-ipfs-path"] == f"/ipfs/{old}/a#b?c.txt"
    upper = str(site.odd).upper()
    assert site.get(f"{upper}/a%23b%3Fc.txt").content == b"1"


HARD = "sub%20dir/file%21%27%28%29%2A~.txt"


@pytest.mark.parametrize(
    ("asked", "address", "content"),
    [
        ("{ascii}", "{ascii}", b"hello application/vnd.ipld.raw\n"),
        ("{nested}/sub%20dir/", "{nested}/sub%20dir/", b""),
        ("{nested}/" + HARD, "{nested}/" + HARD, b"every byte but the unreserved is encoded"),
        ("{nested}/sub%20dir/file!'()*%7e.txt", "{nested}/" + HARD, b"every byte but the unreserved is encoded"),
        ("{slashed}/a/b.txt", "{slashed}/a/b.txt", b"b.txt inside a"),
        ("{slashed}/a%2Fb.txt", "{slashed}/a/b.txt", b"b.txt inside a"),
        ("{slashed}/a%2fb.txt?format=raw", "{slashed}/a/b.txt", b"b.txt inside a"),
    ],
)
def test_what_is_served_has_the_address_of_ipip_548(site: Site, asked: str, address: str, content: bytes) -> None:
    cids_by_name = {name: str(getattr(site, name)) for name in ("ascii", "nested", "slashed")}
    answer = site.get(asked.format(**cids_by_name))
    assert answer.status_code == 200
    assert answer.headers["ipfs-uri"] == f"ipfs://{address.format(**cids_by_name)}"
    assert content in answer.content


@pytest.mark.parametrize("path", ["", "/sub%20dir"])
def test_a_redirect_to_the_slash_has_the_address_that_was_asked_for(site: Site, path: str) -> None:
    answer = site.get(f"{site.nested}{path}")
    assert (answer.status_code, answer.headers["location"]) == (301, f"/ipfs/{site.nested}{path}/")
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.nested}{path}"


def test_scripts_of_any_page_may_read(site: Site) -> None:
    for method in ("GET", "OPTIONS"):
        answer = site.get("bafkqabtimvwgy3yk/", method)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        for name, values in {
            "access-control-allow-methods": ("GET", "HEAD", "OPTIONS"),
            "access-control-allow-headers": ("Content-Type", "Range", "User-Agent", "X-Requested-With"),
            "access-control-expose-headers": ("Content-Range", "Content-Length", "X-Ipfs-Roots", "Ipfs-Uri"),
        }.items():
            assert set(values) <= set(answer.headers.get_list(name, split_commas=True))


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
