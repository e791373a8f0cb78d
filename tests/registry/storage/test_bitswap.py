"""Two real Kubo nodes on loopback that know nobody but each other: what one has, citrate gets through the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core.errors import StoreError
from citrate.registry.by_cid import fetch_dag
from citrate.registry.kubo import Kubo
from citrate.registry.sources import KuboSource, MissingError, NoStreamError, wire
from citrate.registry.sources.protocol import ByteStream
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode, running_kubo
from tests.registry.storage.conftest import CHUNK, pattern

pytestmark = pytest.mark.servers

LEAVES = 8


class LeafByLeaf(KuboSource):
    """Asks its node for single blocks, and when some have come, has somebody die before the next."""

    def __init__(self, node: KuboNode, die: Callable[[], None], after: int) -> None:
        super().__init__(node.api)
        self._die, self._left = die, after

    def another(self) -> LeafByLeaf:
        return self

    def car(self, _: str) -> ByteStream:
        raise NoStreamError("blocks only")

    def block(self, cid: str) -> bytes:
        if self._left == 0:
            self._die()
        block = super().block(cid)
        self._left -= 1
        return block


def test_when_the_only_provider_dies_the_fetch_ends_in_time_and_goes_on_when_it_is_back(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(pattern(LEAVES * CHUNK, seed=5))
    publisher = Store(tmp_path / "publisher")
    cid = publisher.add(tmp_path / "weights").cid
    with running_kubo(tmp_path / "a", online=True) as a, running_kubo(tmp_path / "b", online=True) as b:
        Kubo(a.api).push(publisher, cid)
        with monkeypatch.context() as patched:
            b.connect(a)

            def die() -> None:
                a.kill()
                patched.setattr(wire, "READ_TIMEOUT_S", 1.0)  # from now on nothing can come

            started = time.monotonic()
            with pytest.raises(StoreError, match="no source has"):
                fetch_dag(store, [LeafByLeaf(b, die, after=4)], cid, "me")
            assert time.monotonic() - started < 30
        assert store.ls() == []
        received = b.received_bytes()
        assert 3 * CHUNK <= received < LEAVES * CHUNK
        a.start()
        b.connect(a)
        found = fetch_dag(store, [KuboSource(b.api)], cid, "me")
        assert found.fetched_bytes == LEAVES * CHUNK - 3 * CHUNK  # the root and three leaves had come
        assert b.received_bytes() > received
    assert store.get(cid).read_bytes() == pattern(LEAVES * CHUNK, seed=5)


def test_a_node_without_peers_that_lacks_it_is_given_up(store: Store, kubo: KuboNode) -> None:
    absent = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
    with pytest.raises(StoreError, match="no source has"):
        fetch_dag(store, [KuboSource(kubo.api)], absent, "me")
    with pytest.raises(MissingError):
        KuboSource(kubo.api).block(absent)
