"""Our gateway and Kubo's, asked the same: status, headers that matter, bytes."""

from __future__ import annotations

import io
import itertools
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from citrate.registry.cid import Cid
from citrate.registry.store import Store
from citrate.registry.store.importing import import_car
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import Dag
from tests.registry.storage.conftest import pattern, serving

pytestmark = pytest.mark.servers

RAW, CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"
COMPARED = (
    "content-type", "content-length", "content-range", "content-disposition", "content-location", "cache-control",
    "x-ipfs-roots", "x-ipfs-path", "accept-ranges", "location", "etag",
)  # fmt: skip
"""Kubo 0.42 sends no ``Ipfs-Uri`` yet; ``test_conformance`` has what the suite says of it."""


LONG = "n" * 180
CLIENT = httpx.Client(timeout=30)


@dataclass
class Tree:
    """The same DAGs on a Kubo node and in our store, by name."""

    kubo: KuboNode
    store: Store
    cids: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, path: Path, *options: str) -> str:
        return self._take(name, self.kubo.ipfs("add", "-rQ", "--hidden", *options, str(path)))

    def put(self, name: str, document: str, codec: str) -> str:
        stdin = document.encode()
        return self._take(name, self.kubo.ipfs("dag", "put", "--store-codec", codec, stdin=stdin))

    def bring(self, name: str, dag: Dag, root: Cid) -> str:
        """A DAG that no ``ipfs add`` makes."""
        self.kubo.ipfs_bytes("dag", "import", "--pin-roots=false", stdin=dag.car(root))
        return self._take(name, str(root))

    def _take(self, name: str, cid: str) -> str:
        import_car(self.store, io.BytesIO(self.kubo.ipfs_bytes("dag", "export", cid)), "test")
        self.cids[name] = cid
        return cid


@pytest.fixture(scope="module")
def tree(kubo: KuboNode, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("trees")
    tree = Tree(kubo, Store(folder / "store"))
    many = folder / "hamt"
    many.mkdir()
    for i in range(1300):
        (many / f"{LONG}{i:04d}.txt").write_bytes(b"%d" % i)
    (many / "multi.bin").write_bytes(pattern(5 * 256 + 7))
    site = folder / "site"
    (site / "ą" / "ę").mkdir(parents=True)
    (site / "pages" / "inner").mkdir(parents=True)
    (site / "copies").mkdir()
    (site / "ascii.txt").write_bytes(b"hello application/vnd.ipld.raw\n")
    (site / "noname").write_bytes(b"words without an extension\n")
    (site / "document").write_bytes(b'{"json": true}')
    (site / "ą" / "ę" / "file-źł.txt").write_bytes(b"text on a path with utf8\n")
    (site / "ą" / "ę" / "t.json").write_bytes(b'{"test": "json"}\n')
    (site / "a%2C+b=c d.txt").write_bytes(b"percent")
    (site / "pages" / "index.html").write_bytes(b"<html><body>index</body></html>")
    (site / "pages" / "inner" / "b.txt").write_bytes(b"b")
    (site / "copies" / "one.bin").write_bytes(pattern(1026))
    (site / "copies" / "two.bin").write_bytes(pattern(1026))
    (site / "copies" / "three.txt").write_bytes(b"hello application/vnd.ipld.raw\n")
    (site / "empty").mkdir()
    (site / "empty.txt").write_bytes(b"")
    (site / "link").symlink_to("ascii.txt")
    (site / "sub dir").mkdir()
    (site / "sub dir" / "file!'()*~.txt").write_bytes(b"sub-delims")
    tree.add("site", site, "--chunker=size-256", "--raw-leaves", "--cid-version=1")
    tree.add("site0", site, "--chunker=size-256")
    tree.add("hamt", many, "--chunker=size-256", "--raw-leaves", "--cid-version=1")
    file = tree.add("file", site / "copies" / "one.bin", "--chunker=size-256", "--raw-leaves", "--cid-version=1")
    tree.add("trickle", site / "copies" / "one.bin", "--chunker=size-100", "--trickle")
    for codec in ("dag-cbor", "dag-json"):
        inner = tree.put(codec + "-inner", '{"hello": "this is not a link"}', codec)
        document = {"foo": {"link": {"/": inner}, "list": [{"/": file}, 7]}, "n": 1}
        tree.put(codec, json.dumps(document), codec)
    dag = Dag()
    inside = dag.folder(**{"b.txt": dag.raw(b"b.txt inside a")})
    tree.bring("slashed", dag, dag.folder(**{"a": inside, "a/b.txt": dag.raw(b"no path leads here")}))
    tree.put("json", '{"plain": "json block"}', "json")
    tree.put("cbor", '{"plain": "cbor block"}', "cbor")
    return tree


@pytest.fixture(scope="module")
def ours(tree: Tree) -> Iterator[str]:
    with serving(tree.store) as url:
        yield url


@dataclass(frozen=True)
class Case:
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.headers or ''}".strip()


def ranges(path: str, **headers: str) -> list[Case]:
    asked = ["0-0", "6-16", "-3", "2-", "0-99999", "6-16,0-4", "5-4", "99999-", "x-y", "0-,0-"]
    return [Case(path, {**headers, "Range": f"bytes={one}"}) for one in asked]


def cars(path: str, size: int = 1287) -> list[Case]:
    last = f"{size - 1}:*"
    spans = [None, "0:*", "0:0", "512:*", "512:1023", "512:-256", "-5:*", "-9999:*", "-9999:-3", last, "0:9999"]
    cases = []
    for scope, dups, span in itertools.product((None, "block", "entity", "all"), ("y", "n"), spans):
        if span and scope != "entity":
            continue
        query = {"format": "car", "dag-scope": scope, "entity-bytes": span, "car-dups": dups}
        cases.append(Case(path + "?" + urllib.parse.urlencode({k: v for k, v in query.items() if v})))
    return cases


IN_SITE = (
    "ascii.txt", "noname", "document", "%C4%85/%C4%99/file-%C5%BA%C5%82.txt", "%C4%85/%C4%99/t.json", "link",
    "empty.txt", "a%252C+b=c%20d.txt", "copies/one.bin", "pages/", "pages", "%C4%85/%C4%99", "absent",
    "ascii.txt/below", "pages/index.html", "pages?a=b", "copies/../ascii.txt", "copies%2Fone.bin", "./ascii.txt",
    "../x", "%2e%2e/x", "link/x", "sub%20dir", "sub%20dir/", "sub%20dir/file%21%27%28%29%2A~.txt",
    "sub%20dir/file!'()*~.txt",
)  # fmt: skip
ROOTS = ("site", "site0", "hamt", "file", "trickle", "json", "cbor", "dag-json", "dag-cbor")
DOCUMENTS = ("json", "cbor", "dag-json", "dag-cbor")
INSIDE = ("foo", "foo/link", "foo/link/hello", "foo/list/0", "foo/list/1", "foo/list/2", "foo/no", "n/x")
FORMATS = ("raw", "json", "cbor", "dag-json", "dag-cbor")
ACCEPTED = (
    RAW, "application/json", "application/cbor", "application/vnd.ipld.dag-json",
    "foo, application/vnd.ipld.dag-cbor,bar", "text/html", "*/*", "application/vnd.ipld.nonsense",
)  # fmt: skip
NAMED = (
    "filename=foo.bin", "filename=foo.txt&download=true", "filename=test%D1%82.txt", "format=raw&filename=x.bin",
    "format=car&filename=x.car", "format=json&filename=y.json",
)  # fmt: skip
CAR_TYPES = (
    "", "; version=1", "; version=2", "; order=dfs; dups=y", "; order=unk", "; order=bfs", "; dups=n", "; dups=maybe"
)  # fmt: skip
BAD_CARS = (
    "dag-scope=x", "car-version=2", "car-order=x", "car-dups=x", "dag-scope=entity&entity-bytes=5",
    "dag-scope=entity&entity-bytes=5:1", "dag-scope=entity&entity-bytes=a:b", "dag-scope=entity&entity-bytes=-1:-5",
)  # fmt: skip
INLINE = (
    "bafkqabtimvwgy3yk", "bafkqabtimvwgy3yk/", "bafkqabtimvwgy3yk?format=raw", "bafkqaaa", "bafkqaaa?format=raw",
    "bafkqaaa?format=car",
)  # fmt: skip
ABSENT = (
    "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN",
)
CARS_OF = (
    "{file}", "{site}/copies/one.bin", "{site}", "{site}/copies", "{hamt}/multi.bin", "{dag-cbor}", "{trickle}",
    "{dag-json}/foo/list/0", "{site}/link", "{site}/empty", "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa",
)  # fmt: skip

CASES = [
    *(Case(f"/ipfs/{{site}}/{name}") for name in IN_SITE),
    *(Case(f"/ipfs/{{{root}}}{slash}") for root in ROOTS for slash in ("", "/")),
    *(Case(f"/ipfs/{{{root}}}?format={kind}") for root in ("site", "site0", "file", *DOCUMENTS) for kind in FORMATS),
    *(Case(f"/ipfs/{{{root}}}", {"Accept": kind}) for root in ("site", "file", *DOCUMENTS) for kind in ACCEPTED),
    *(Case(f"/ipfs/{{{root}}}", method="HEAD") for root in ("site", "file", *DOCUMENTS)),
    *(Case(f"/ipfs/{{site}}/{name}", method="HEAD") for name in ("ascii.txt", "link", "pages/", "absent", "noname")),
    *(Case(f"/ipfs/{{{root}}}/{path}") for root in ("dag-json", "dag-cbor") for path in INSIDE),
    *ranges("/ipfs/{site}/ascii.txt"),
    *ranges("/ipfs/{file}"),
    *ranges("/ipfs/{site}/pages/"),
    *ranges("/ipfs/{site}/ascii.txt?format=raw"),
    *ranges("/ipfs/{site}", Accept=RAW),
    *ranges("/ipfs/{dag-json}"),
    *(Case(f"/ipfs/{{slashed}}/{name}") for name in ("", "a/b.txt", "a%2Fb.txt", "a%2fb.txt", "a%252Fb.txt")),
    Case("/ipfs/{site}/empty.txt", {"Range": "bytes=0-5"}),
    *(Case(f"/ipfs/{{site}}/ascii.txt?{query}") for query in NAMED),
    *(case for path in CARS_OF for case in cars(f"/ipfs/{path}")),
    *(Case(f"/ipfs/{{hamt}}?format=car&dag-scope={scope}") for scope in ("entity", "block")),
    *(Case(f"/ipfs/{{hamt}}/{name}") for name in (f"{LONG}0685.txt?format=car", f"{LONG}0685.txt", "nothing")),
    Case("/ipfs/{site}?format=car", method="HEAD"),
    *(Case("/ipfs/{site}/copies", {"Accept": CAR + parameters}) for parameters in CAR_TYPES),
    Case("/ipfs/{site}/copies?format=car", {"Accept": f"{CAR}; dups=y"}),
    Case("/ipfs/{site}/copies?format=raw", {"Accept": f"{CAR}; dups=y"}),
    *(Case(f"/ipfs/{{site}}?format=car&{query}") for query in BAD_CARS),
    *(Case(f"/ipfs/{path}") for path in ("nonsense", *INLINE, *ABSENT)),
    *(Case("/ipfs/{site}/ascii.txt", {"If-None-Match": tag}) for tag in ('"x"', "*", 'W/"x", "y"')),
    *(
        Case(path, {"Cache-Control": "only-if-cached"}, method)
        for method in ("GET", "HEAD")
        for path in ("/ipfs/{site}/ascii.txt", *(f"/ipfs/{cid}" for cid in ABSENT))
    ),
    Case("/ipfs/{site}", {"Service-Worker": "script"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_answer(case: Case, tree: Tree, ours: str) -> None:
    path = case.path
    for name, cid in tree.cids.items():
        path = path.replace("{" + name + "}", cid)
    mine, theirs = (
        CLIENT.request(case.method, base + path, headers=case.headers) for base in (ours, tree.kubo.gateway)
    )
    assert mine.status_code == theirs.status_code, (mine.text[:300], theirs.text[:300])
    assert mine.headers["x-content-type-options"] == "nosniff"
    differing = {
        name: (mine.headers.get(name), theirs.headers.get(name))
        for name in COMPARED
        if mine.headers.get(name) != theirs.headers.get(name)
    }
    if theirs.has_redirect_location:
        assert mine.headers["location"] == theirs.headers["location"]
        return
    if "Cache-Control" in case.headers and case.method == "HEAD":
        return  # Kubo says yes or no, and nothing else
    if case.headers.get("Range") == "bytes=-3" and "." not in path:
        differing.pop("content-type", None)  # of a file without a name whose beginning Kubo does not look at
    if theirs.status_code == 304 and "etag" not in theirs.headers:  # which RFC 9110 wants there
        differing.pop("etag", None)
    if not theirs.headers.get("x-ipfs-path", "").isascii():  # no such header may hold those characters (RFC 9110)
        differing.pop("x-ipfs-path", None)
    my_etag, their_etag = (answer.headers.get("etag", "") for answer in (mine, theirs))
    if "DirIndex" in my_etag or "DagIndex" in my_etag:
        differing.pop("content-length", None)  # the pages look different
        differing.pop("etag", None)
        assert [etag.partition("-")[0] for etag in (my_etag, their_etag)] == [my_etag.partition("-")[0]] * 2
        assert my_etag.rpartition("_CID-")[2] == their_etag.rpartition("_CID-")[2]
    elif "car;" in mine.headers.get("content-type", ""):
        differing.pop("content-length", None)  # a stream; Go's server announces short ones
        differing.pop("etag", None)  # of the parameters, which each server digests in its own way
        assert my_etag.rpartition(".")[0] == their_etag.rpartition(".")[0]
        assert mine.content == theirs.content
    elif mine.status_code < 300:
        assert mine.content == theirs.content
    if mine.status_code < 400:
        assert differing == {}, differing
