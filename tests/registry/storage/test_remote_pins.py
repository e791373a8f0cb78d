"""Pinning services through a real Kubo node: what is pinned there has travelled from our node to theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citrate import Registry
from citrate.core.errors import CitrateError, ConfigError, NotFoundError, NotPermittedError, StoreError
from citrate.registry.kubo import Kubo
from citrate.registry.pushing import Pushed
from citrate.registry.remote_pins import PinStatus, RemotePins, services
from citrate.registry.store import Store
from tests.e2e.machine import Machine
from tests.fixtures_kubo import Pair
from tests.pinning_service import TOKEN, PinningService, pinning_service
from tests.registry.storage.conftest import CHUNK, pattern

CLOSED = "http://127.0.0.1:1"

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def running(kubos: Pair) -> Iterator[PinningService]:
    with pinning_service(kubos.b) as service:
        for name, *known in (("good", service.url, TOKEN), ("wrong", service.url, "x"), ("down", CLOSED, "x")):
            kubos.a.ipfs("pin", "remote", "service", "add", name, *known)
        yield service


@pytest.fixture
def service(running: PinningService) -> PinningService:
    running.pins, running.requests, running.refusal, running.fate = {}, [], None, ""
    return running


@pytest.fixture
def pins(service: PinningService, kubos: Pair) -> RemotePins:
    return RemotePins(Kubo(kubos.a.api), "good")


def pushed(tmp_path: Path, kubos: Pair, seed: int) -> str:
    """A file that nobody but node A has."""
    (tmp_path / "weights").write_bytes(pattern(2 * CHUNK + 5, seed=seed))
    store = Store(tmp_path / "store")
    cid = store.add(tmp_path / "weights").cid
    Kubo(kubos.a.api).push(store, cid)
    return cid


def test_a_service_fetches_what_it_is_to_pin_from_our_node(
    pins: RemotePins, service: PinningService, kubos: Pair, tmp_path: Path
) -> None:
    cid, steps, before = pushed(tmp_path, kubos, 1), list[tuple[str, int, int]](), kubos.b.received_bytes()
    assert pins.status(cid) is PinStatus.ABSENT
    assert pins.request(cid, "weights") in (PinStatus.QUEUED, PinStatus.PINNING, PinStatus.PINNED)
    assert pins.wait([cid], 60, lambda *step: steps.append(step[:3])) == {cid: PinStatus.PINNED}
    assert steps[-1] == ("pin", 1, 1)
    assert kubos.b.received_bytes() - before >= 2 * CHUNK
    assert cid in kubos.b.ipfs("pin", "ls", "--type=recursive")
    assert [pin.name for pin in service.pins.values()] == ["weights"]
    assert pins.request(cid, "weights") is PinStatus.PINNED
    assert service.requests.count("POST /pins") == 1  # it was not asked again
    assert (pins.remove(cid), pins.remove(cid), pins.status(cid)) == (True, False, PinStatus.ABSENT)


def test_a_pin_that_failed_is_an_error_and_the_next_request_asks_anew(
    pins: RemotePins, service: PinningService, kubos: Pair, tmp_path: Path
) -> None:
    cid, service.fate = pushed(tmp_path, kubos, 2), "failed"
    assert pins.request(cid, "x") is PinStatus.FAILED
    with pytest.raises(StoreError, match="good failed to pin") as caught:
        pins.wait([cid], 60)
    assert caught.value.cid == cid
    service.fate = "pinned"
    assert pins.request(cid, "x") is PinStatus.PINNED
    assert len(service.pins) == 1


def test_a_pin_that_stays_queued_ends_in_time_and_is_not_asked_for_twice(
    pins: RemotePins, service: PinningService, kubos: Pair, tmp_path: Path
) -> None:
    cid, service.fate = pushed(tmp_path, kubos, 3), "queued"
    for _ in range(2):
        assert pins.request(cid, "x") is PinStatus.QUEUED
    with pytest.raises(StoreError, match=r"still has .* queued after 1 s") as caught:
        pins.wait([cid], 1)
    assert "--status" in caught.value.hint
    assert len(service.pins) == 1
    service.pins.clear()
    with pytest.raises(StoreError, match="no longer knows"):
        pins.wait([cid], 1)


@pytest.mark.parametrize(
    ("name", "refusal", "kind", "text"),
    [
        ("wrong", None, NotPermittedError, "UNAUTHORIZED"),
        ("good", (402, "INSUFFICIENT_FUNDS"), NotPermittedError, "INSUFFICIENT_FUNDS"),
        ("good", (403, "FORBIDDEN"), NotPermittedError, "FORBIDDEN"),
        ("good", (409, "DUPLICATE"), StoreError, "DUPLICATE"),
        ("good", (500, "INTERNAL_SERVER_ERROR"), StoreError, "INTERNAL_SERVER_ERROR"),
        ("down", None, StoreError, "connection refused"),
        ("nobody", None, NotFoundError, "knows no pinning service 'nobody'"),
    ],
)
def test_what_a_service_refuses_is_told_in_its_words_and_without_the_token(
    service: PinningService,
    kubos: Pair,
    name: str,
    refusal: tuple[int, str] | None,
    kind: type[CitrateError],
    text: str,
) -> None:
    service.refusal = refusal
    pins, cid = RemotePins(Kubo(kubos.a.api), name), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    asked: list[Callable[[], object]] = [lambda: pins.request(cid, "x"), lambda: pins.remove(cid)]
    for ask in asked:
        with pytest.raises(kind, match=text) as caught:
            ask()
        assert type(caught.value) is kind
        assert TOKEN not in caught.value.message + caught.value.hint
        assert "ipfs pin remote service" in caught.value.hint


def test_kubo_shows_the_token_to_nobody(running: PinningService, kubos: Pair) -> None:
    kubo = Kubo(kubos.a.api)
    assert services(kubo) == ("down", "good", "wrong")
    shown = [kubo.call("config/show"), kubo.call("pin/remote/service/ls", options={"stat": "true"})]
    assert TOKEN not in json.dumps(shown)
    with pytest.raises(StoreError, match="cannot show"):
        kubo.call("config", "Pinning.RemoteServices.good.API.Key")


def test_pushing_waits_shows_and_removes(service: PinningService, kubos: Pair, tmp_path: Path) -> None:
    registry = Registry.open(home=str(tmp_path / "home"), kubo_api=kubos.a.api)
    (tmp_path / "weights").write_bytes(pattern(CHUNK, seed=9))
    cid = registry.store.add(tmp_path / "weights").cid

    def told(*found: Pushed) -> tuple[str, bool]:
        (only,) = found
        assert (only.what, only.cid) == ("object", cid)
        return only.status, only.sent_bytes > CHUNK

    assert told(*registry.pushed(cid, "good")) == ("absent", False)
    assert told(*registry.push(cid, "good")) == ("pinned", True)
    assert told(*registry.push(cid, "kubo:good")) == ("pinned", False)
    assert told(*registry.pushed(cid, "kubo")) == ("pinned", False)
    assert told(*registry.pushed(cid, "good", remove=True)) == ("removed", False)
    assert told(*registry.pushed(cid, "good", remove=True)) == ("absent", False)
    assert told(*registry.pushed(cid, kubos.a.api, remove=True)) == ("removed", False)
    service.fate = "queued"
    assert told(*registry.push(cid, "good", wait=False)) == ("queued", True)
    with pytest.raises(StoreError, match="still has"):
        registry.push(cid, "good", timeout_s=0.2)
    with pytest.raises(NotFoundError, match="knows no pinning service"):
        registry.push(cid, "nobody")
    for wrong in ("", "kubo:", "other:good", "ftp://host/x"):
        with pytest.raises(ConfigError):
            registry.push(cid, wrong)
    with pytest.raises(ConfigError, match="no Kubo is configured"):
        Registry.open(home=str(tmp_path / "home")).push(cid, "good")


def test_the_command_tells_what_it_did(service: PinningService, kubos: Pair, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "home", CITRATE_KUBO_API=kubos.a.api)
    (tmp_path / "weights").write_bytes(pattern(CHUNK, seed=10))
    cid = Registry.open(home=str(machine.home)).store.add(tmp_path / "weights").cid
    document = machine.gets("push", cid, "--to", "good")
    (row,) = document["objects"]
    assert {**row, "sent_bytes": 0} == {"variant": "object", "cid": cid, "status": "pinned", "sent_bytes": 0}
    assert (document["ref"], document["to"], len(service.pins)) == (cid, "good", 1)
    service.fate = "queued"
    service.pins.clear()
    late = machine.types("push", cid, "--to", "good", "--timeout", "0.2")
    assert (late.code, late.out) == (5, "")
    assert "still has" in late.err
    assert machine.types("push", cid, "--to", "good", "--status", "--remove").code == 2
