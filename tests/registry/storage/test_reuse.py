"""What of a model's next version need not be fetched again: counted in bytes at the server, and read by Kubo."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from citrate.core.errors import StoreError
from citrate.core.records import PROFILE, TENSOR_PROFILE, Artifact
from citrate.registry.fetching import fetch_artifact
from citrate.registry.sources import GatewaySource
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.conftest import Serve, pattern
from tests.registry.storage.hostile import Answer, hostile_gateway
from tests.registry.storage.tensor_files import MIB, gguf, safetensors

SIZES = {f"layers.{n}.weight": 200_000 + 64 * n for n in range(10)} | {"embedding": 5 * MIB // 2, "norm": 66}
TENSORS = {name: pattern(size, seed) for seed, (name, size) in enumerate(SIZES.items())}
CHANGED = TENSORS | {"layers.3.weight": pattern(SIZES["layers.3.weight"], 99)}
TOTAL = sum(SIZES.values())
ROOM = 12_000
"""Headers and inner nodes."""


def folder(files: Mapping[str, bytes], root: Path) -> Path:
    """A model of these files."""
    root.mkdir()
    for name, data in {"config.json": b"{}", **files}.items():
        (root / name).write_bytes(data)
    return root


def halves(tensors: Mapping[str, bytes]) -> dict[str, bytes]:
    """Two shards."""
    items = list(tensors.items())
    return {f"model-{n}-of-2.safetensors": safetensors(dict(part)) for n, part in ((1, items[:5]), (2, items[5:]))}


NEXT: dict[str, tuple[dict[str, bytes], int]] = {
    "one layer changed, and a longer header": (
        {"model.safetensors": safetensors(CHANGED, {"format": "pt", "note": "longer" * 40})},
        SIZES["layers.3.weight"],
    ),
    "other shards": (halves(TENSORS), 0),
    "as GGUF": ({"model.gguf": gguf(TENSORS)}, 0),
    "a layer more": ({"model.safetensors": safetensors({"a new one": CHANGED["layers.3.weight"], **TENSORS})}, 200_192),
}  # fmt: skip


class Pulls:
    """A publisher, and a reader who has the first version already."""

    def __init__(self, profile: str, root: Path, serve: Serve) -> None:
        self.publisher, self.reader = Store(root / "publisher"), Store(root / "reader")
        self.profile, self.root, self.answered = profile, root, 0
        stack = ExitStack()
        self.close = stack.close
        self.proxy = stack.enter_context(hostile_gateway(serve(self.publisher), self._count))
        self.pull({"model.safetensors": safetensors(TENSORS, {"format": "pt"})}, "first")

    def _count(self, answer: Answer) -> None:
        self.answered += len(answer.body)

    def pull(self, files: Mapping[str, bytes], name: str) -> tuple[Artifact, int]:
        """Publish a model and pull it; gives it, and how many bytes the server sent."""
        added = self.publisher.add(folder(files, self.root / name), profile=self.profile)
        before = self.answered
        path = fetch_artifact(added, self.reader, [GatewaySource(self.proxy.url)]).path
        assert all((path / file).read_bytes() == data for file, data in files.items())
        return added, self.answered - before


@pytest.mark.parametrize("case", NEXT)
def test_only_the_tensors_that_changed_are_fetched(case: str, tmp_path: Path, serve: Serve) -> None:
    files, new = NEXT[case]
    pulls = Pulls(TENSOR_PROFILE, tmp_path, serve)
    try:
        assert TOTAL < pulls.answered < TOTAL + ROOM
        _, sent = pulls.pull(files, "next")
        assert new <= sent < new + ROOM
        assert pulls.reader.verify() == []
    finally:
        pulls.close()


def test_with_the_usual_leaves_a_longer_header_costs_everything(tmp_path: Path, serve: Serve) -> None:
    pulls = Pulls(PROFILE, tmp_path, serve)
    try:
        _, sent = pulls.pull(NEXT["one layer changed, and a longer header"][0], "next")
        assert sent > TOTAL
    finally:
        pulls.close()


def test_what_had_arrived_of_a_cut_file_is_not_fetched_again(store: Store, tmp_path: Path, serve: Serve) -> None:
    added = store.add(folder({"a.gguf": gguf(TENSORS)}, tmp_path / "model"), profile=TENSOR_PROFILE)
    sent, limit = list[int](), 3_000_000

    def cut_off(answer: Answer) -> None:
        left = limit - sum(sent)
        answer.send = None if len(answer.body) <= left else max(0, left)
        sent.append(min(len(answer.body), max(0, left)))

    reader = Store(tmp_path / "reader")
    with hostile_gateway(serve(store), cut_off) as proxy:
        with pytest.raises(StoreError):
            fetch_artifact(added, reader, [GatewaySource(proxy.url)])
        limit = 100_000_000
        fetched = fetch_artifact(added, reader, [GatewaySource(proxy.url)])
    assert (fetched.path / "a.gguf").read_bytes() == gguf(TENSORS)
    assert fetched.fetched_bytes < added.size_bytes - 1_500_000


@pytest.mark.servers
def test_kubo_reads_what_is_cut_at_tensors(store: Store, kubo: KuboNode, tmp_path: Path) -> None:
    many = safetensors({f"{n}": n.to_bytes(4, "little") for n in range(1100)})
    files = {"a.safetensors": safetensors(TENSORS), "a.gguf": gguf(TENSORS), "many": many}
    added = store.add(folder(files, tmp_path / "model"), profile=TENSOR_PROFILE)
    assert added.cid in kubo.ipfs("dag", "import", stdin=b"".join(store.export_car(added.cid)))
    for name, data in files.items():
        assert kubo.ipfs_bytes("cat", f"{added.cid}/{name}") == data
        first, length = len(data) // 3, 900
        got = kubo.ipfs_bytes("cat", f"--offset={first}", f"--length={length}", f"{added.cid}/{name}")
        assert got == data[first : first + length]
    stat = kubo.ipfs("files", "stat", f"/ipfs/{added.cid}")
    assert f"CumulativeSize: {sum(len(block) for block in blocks(store, added.cid))}" in stat.replace("\t", " ")


def blocks(store: Store, cid: str) -> list[bytes]:
    """Every block of an object, as often as it is linked to."""
    from citrate.registry import ipld
    from citrate.registry.cid import Cid

    block = store.block(cid)
    below = [str(link) for link in ipld.links(Cid.parse(cid), block)]
    return [block, *(inner for link in below for inner in blocks(store, link))]


@pytest.mark.servers
@pytest.mark.parametrize("server", ["kubo", "citrate"])
def test_byte_ranges_come_from_gateways(
    server: str, store: Store, kubo: KuboNode, serve: Serve, tmp_path: Path
) -> None:
    data = gguf(TENSORS)
    added = store.add(folder({"a.gguf": data}, tmp_path / "model"), profile=TENSOR_PROFILE)
    if server == "kubo":
        kubo.ipfs("dag", "import", stdin=b"".join(store.export_car(added.cid)))
    url = f"{kubo.gateway if server == 'kubo' else serve(store)}/ipfs/{added.cid}/a.gguf"
    places = [0, 1, 1000, 200_000, MIB, len(data) // 2, len(data) - 1]
    for first, last in itertools.combinations_with_replacement(places, 2):
        answer = httpx.get(url, headers={"Range": f"bytes={first}-{last}"})
        assert (answer.status_code, answer.content) == (206, data[first : last + 1])


@pytest.mark.servers
def test_what_kubo_serves_is_pulled(store: Store, kubo: KuboNode, tmp_path: Path) -> None:
    added = store.add(folder({"a.gguf": gguf(TENSORS)}, tmp_path / "model"), profile=TENSOR_PROFILE)
    kubo.ipfs("dag", "import", stdin=b"".join(store.export_car(added.cid)))
    reader = Store(tmp_path / "reader")
    path = fetch_artifact(added, reader, [GatewaySource(kubo.gateway)]).path
    assert (path / "a.gguf").read_bytes() == gguf(TENSORS)
    assert reader.artifact(added.cid) == added
