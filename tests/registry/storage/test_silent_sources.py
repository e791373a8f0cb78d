"""A source that keeps silent holds up nobody: the next one is asked meanwhile, and who was silent is remembered."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from citrate.core.errors import StoreError
from citrate.core.records import Artifact
from citrate.registry import asking, attempts, by_cid, sources
from citrate.registry.fetching import fetch_artifact, fetch_block
from citrate.registry.sources import GatewaySource, Source, StoreSource
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.wild import wild_gateway

BOUND_S = 20.0
"""Less than one silence that is waited for to its end (30 s)."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody but the silent is waited for: what is asked at once, a store, is never silent."""
    monkeypatch.setattr(attempts, "HEDGE_S", 0.1)


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    (model / "more.bin").write_bytes(pattern(2 * CHUNK))  # inner nodes of two files are read side by side
    return publisher.add(model)


class Silent:
    """A source that says nothing until it is stopped, and then that it could not."""

    connections = 1

    def __init__(self, name: str = "silent", shared: Silent | None = None) -> None:
        self.name = name
        self.over = shared.over if shared else threading.Event()
        self.asked: list[str] = shared.asked if shared else []

    def another(self) -> Silent:
        return Silent(self.name, self)

    def stop(self) -> None:
        self.over.set()

    def block(self, cid: str) -> bytes:
        self.asked.append(cid)
        self.over.wait(60)
        raise sources.UnansweredError("timed out")

    def stream(self, cid: str, *_: object) -> sources.ByteStream:
        self.block(cid)
        raise AssertionError


class Late(Silent):
    """A source that has the block, and takes its time."""

    def __init__(self, store: Store, wait_s: float, name: str = "late") -> None:
        super().__init__(name)
        self._store, self._wait_s = store, wait_s

    def another(self) -> Late:
        return self

    def block(self, cid: str) -> bytes:
        self.over.wait(self._wait_s)
        return self._store.block(cid)


@pytest.mark.usefixtures("hurry")
def test_the_next_source_is_asked_and_the_silent_one_ended(publisher: Store, artifact: Artifact) -> None:
    silent = Silent()
    began_s = time.monotonic()
    block, name = fetch_block(artifact.cid, [silent, StoreSource(publisher, "good")])
    assert (block, name) == (publisher.block(artifact.cid), "good")
    assert silent.over.is_set()
    assert time.monotonic() - began_s < BOUND_S


@pytest.mark.usefixtures("hurry")
def test_what_was_learned_holds_for_all_that_is_asked_later(store: Store, publisher: Store, artifact: Artifact) -> None:
    silent = Silent()
    asked: list[Source] = [silent, StoreSource(publisher, "good")]
    fetch_block(artifact.cid, asked)
    fetched = fetch_artifact(artifact, store, asked)
    assert fetched.source == "good"
    assert silent.asked == [artifact.cid]  # once, for the first block of all


@pytest.mark.usefixtures("hurry")
def test_a_listener_that_never_answers_costs_a_pull_and_a_cat_next_to_nothing(
    store: Store, publisher: Store, artifact: Artifact, url: str
) -> None:
    with wild_gateway(publisher, lambda *told: told[3].over.wait(60) and None) as wild:
        began_s = time.monotonic()
        asked: list[Source] = [GatewaySource(wild.url), GatewaySource(url)]
        config = next(file for file in artifact.files if file.path == "config.json")
        assert b"".join(by_cid.cat(store, asked, config.cid)) == b'{"a": 1}'
        assert fetch_artifact(artifact, store, asked).dropped == ()
        assert time.monotonic() - began_s < BOUND_S


@pytest.mark.usefixtures("hurry")
def test_a_source_alone_is_waited_for_and_one_line_says_so(
    publisher: Store, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "citrate.sources"):
        assert fetch_block(artifact.cid, [Late(publisher, 0.5)])[1] == "late"
    assert [record.getMessage().split(" has")[0] for record in caplog.records] == ["late"]
    assert not asking.SILENT.of("late")  # it gave something after all


def test_whoever_is_interrupted_waits_for_nobody(artifact: Artifact) -> None:
    silent = Silent()
    asked_of = attempts.Attempts.of([silent])

    def fails() -> None:
        with pytest.raises(StoreError):
            asked_of.block(artifact.cid, CHUNK)

    failed = threading.Thread(target=fails)
    failed.start()
    while not silent.asked:
        time.sleep(0.01)
    asked_of.close()
    failed.join(BOUND_S)
    assert not failed.is_alive()
    fails()  # and after the end nothing is asked
    assert silent.asked == [artifact.cid]


@pytest.mark.usefixtures("hurry")
def test_of_two_that_are_slow_the_first_to_answer_is_taken(publisher: Store, artifact: Artifact) -> None:
    slow, slower = Late(publisher, 0.3), Late(publisher, 60, "later")
    assert fetch_block(artifact.cid, [slower, slow])[1] == "late"


def test_who_was_silent_is_asked_last_and_once_where_nobody_else_has_it(publisher: Store, artifact: Artifact) -> None:
    silent = Silent()
    silent.over.set()  # it fails at once, as often as it is asked
    with pytest.raises(StoreError, match="silent: timed out"):
        fetch_block(artifact.cid, [silent])
    assert len(silent.asked) == attempts.ATTEMPTS
    with pytest.raises(StoreError, match="silent: timed out"):
        fetch_block(artifact.cid, [silent])
    assert len(silent.asked) == attempts.ATTEMPTS + 1


def test_what_only_a_silent_source_has_still_comes(store: Store, publisher: Store, artifact: Artifact) -> None:
    asking.SILENT.note("late")
    empty = StoreSource(Store(store.root.parent / "empty"), "empty")
    assert "late" in fetch_artifact(artifact, store, [LateBlocks(publisher, 0.0), empty]).source


class LateBlocks(Late):
    """The same of files."""

    def stream(self, *_: object) -> sources.ByteStream:
        raise sources.NoStreamError("blocks only")
