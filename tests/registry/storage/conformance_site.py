"""A site of a few DAGs that the real gateway serves, for the questions of the conformance suite."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx

from citrate.registry.carfile import CarFile
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


@contextlib.contextmanager
def served_site(folder: Path) -> Iterator[Site]:
    """A site in a store of its own, until the block ends."""
    store = Store(folder / "store")
    site = Site(store)
    with serving(store) as url:
        site.url = url
        yield site
