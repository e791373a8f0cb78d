from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citrate.core.records import Artifact
from citrate.registry import asking, attempts, gateway
from citrate.registry.fetching import spans
from citrate.registry.store import Store
from tests.fixtures_kubo import kubo, kubos
from tests.registry.storage.cars import Dag

__all__ = ["kubo", "kubos"]

CHUNK = 1 << 20

Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def nobody_was_silent() -> None:
    """What a process remembers of sources ends with each test: a port may be somebody else's then."""
    asking.SILENT.forget()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is thought silent because the machine is busy; tests of impatience set their own times."""
    monkeypatch.setattr(attempts, "HEDGE_S", 60.0)
    monkeypatch.setattr(spans, "SILENT_S", 60.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that failed is asked again at once."""
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    """Whose bytes are fetched."""
    return Store(tmp_path / "publisher")


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    """The model, in the publisher's store."""
    return publisher.add(model)


@pytest.fixture
def url(serve: Serve, publisher: Store) -> str:
    """The publisher's gateway."""
    return serve(publisher)


@pytest.fixture
def dag() -> Dag:
    return Dag()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small directory with a hidden file, a subfolder, an empty file and a file of several leaves."""
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_bytes(b'{"a": 1}')
    (root / ".hidden").write_bytes(b"")
    (root / "sub" / "weights.bin").write_bytes(pattern(3 * CHUNK + 17))
    return root


@contextlib.contextmanager
def serving(store: Store, allowed: Callable[[str], bool] | None = None) -> Iterator[str]:
    """The real gateway on a thread, until the block ends."""
    urls: list[str] = []
    server, listener = gateway.make_server(store, "127.0.0.1", 0, allowed, urls.append)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not urls:
        time.sleep(0.005)
    try:
        yield urls[0]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start the real gateway on a thread; stops them all at the end."""
    with contextlib.ExitStack() as running:
        yield lambda store, allowed=None: running.enter_context(serving(store, allowed))


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes of which no two leaves are the same."""
    block = bytes((i * 131 + seed) % 251 for i in range(4096))
    out = bytearray(block * (size // 4096 + 1))[:size]
    for at in range(0, size - 8, 4096):
        out[at : at + 8] = (at + seed).to_bytes(8, "little")
    return bytes(out)
