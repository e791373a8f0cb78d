"""A model that travels between two Kubo nodes: published to one, pulled through the other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Release
from tests.e2e.machine import Machine
from tests.fixtures_kubo import Pair, running_kubo

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]  # where the release is published already


def test_a_node_that_waits_for_its_peers_holds_up_no_pull(release: Release, tmp_path: Path) -> None:
    with running_kubo(tmp_path / "repository", online=True) as node:  # nobody else's: it never had a peer
        lonely = Machine(tmp_path / "lonely", CITRATE_RPC_URL=release.rpc_url, CITRATE_KUBO_API=node.api)
        began_s = time.monotonic()
        done = lonely.types("pull", f"{release.ref}#gguf:Q8_0", "--from", release.gateway)
        assert time.monotonic() - began_s < 85, "less than the three silences, 30 s each, for which it would be waited"
    assert done.code == 0, done.err
    assert f"{node.api} has not answered for 2 s: the next source is asked as well" in done.err
    assert done.err.count(f"{node.api} has not answered") == 1


def test_a_model_pushed_to_one_node_is_pulled_through_another_that_gets_it_over_bitswap(
    release: Release, kubos: Pair, tmp_path: Path
) -> None:
    ref = f"{release.ref}#gguf:Q8_0"
    pushed = release.machine.gets("push", ref, "--to", kubos.a.api)["objects"]
    assert [(item["variant"], item["status"]) for item in pushed] == [("gguf:Q8_0", "pinned"), ("manifest", "pinned")]
    other = Machine(tmp_path / "other", CITRATE_RPC_URL=release.rpc_url, CITRATE_KUBO_API=kubos.b.api)
    before = kubos.b.received_bytes()
    kubos.b.connect(kubos.a)
    pulled = other.gets("pull", ref)
    assert (pulled["source"], pulled["cid"]) == (kubos.b.api, pushed[0]["cid"])
    assert kubos.b.received_bytes() - before >= pulled["size_bytes"]
    assert other.gets("verify", str(pulled["path"]), "--ref", ref)["ok"] is True
    assert [item["status"] for item in other.gets("push", ref, "--to", "kubo", "--status")["objects"]] == ["absent"] * 2
