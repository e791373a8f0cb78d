"""A program: carry out an operation on a store again and again, hit by a fault each time a little later.

Every run is a fork of this process, so that a run costs milliseconds. The run counts its steps (bytes written, names
changed, statements of the index), and right before the one that it was given it ends itself with SIGKILL, or finds the
disk full. A second fork then looks at what is left with fresh eyes. What was reported done is noted outside the home.

    python -m tests.registry.storage.moments OPERATION FOLDER MOMENTS kill|fill_up
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citrate import formats
from citrate.core.errors import CitrateError
from citrate.core.records import Artifact, Variant
from citrate.registry import fetching, unixfs
from citrate.registry.sources import local
from citrate.registry.store import Store, importing
from tests.registry.storage.cars import Dag
from tests.registry.storage.conftest import CHUNK, pattern

SAMPLE = Path(__file__).parents[3] / "examples" / "tiny-llama"
COPYING, RENAMING, INDEXING = "copying", "renaming", "indexing"
_STATEMENT_STEPS = 20


class Steps:
    """Counts the steps of a run by their stage, and does ``then`` right before number ``last``."""

    def __init__(self, last: int | None = None, then: Callable[[str], None] = lambda _: None) -> None:
        self.seen: list[str] = []
        self._last = last
        self._then = then

    def take(self, stage: str) -> None:
        self.seen.append(stage)
        if len(self.seen) - 1 == self._last:
            self._then(stage)

    def watch(self) -> None:
        """From now on this process is counted. Names are seen by an audit hook, the rest where it is called."""
        for name in ("write", "pwrite", "fsync", "ftruncate"):
            setattr(os, name, self._counted(getattr(os, name)))
        names = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link")
        sys.addaudithook(lambda event, _: self.take(RENAMING) if event in names else None)
        connect = sqlite3.connect

        def watched(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, factory=self._connection(), **options)
            connection.set_progress_handler(self._in_statement, _STATEMENT_STEPS)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]

    def _in_statement(self) -> int:
        try:
            self.take(INDEXING)
        except sqlite3.Error:
            return 1  # SQLite gives up the statement
        return 0

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.take(COPYING)
            return original(*args, **options)

        return counted

    def _connection(self) -> type[sqlite3.Connection]:
        take = self.take

        class Watched(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                take(INDEXING)
                return super().execute(*args)

        return Watched


def kill(_: str) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_up(stage: str) -> None:
    """The disk has no room, for this one step."""
    if stage == INDEXING:
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise full
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Operation:
    """``prepare`` fills a store before the run; ``run`` returns the CIDs that it reports as done; ``after`` are those
    that the store has when a run has come to its end."""

    prepare: Callable[[Store], None]
    run: Callable[[Store], list[str]]
    after: tuple[str, ...]


# ---------------------------------------------------------------- the operations


def operation(name: str, folder: Path) -> Operation:
    """One of add, pull, convert, gc, import; what it needs is made in ``folder``."""
    model = folder / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_bytes(b"{}")
    (model / "sub" / "weights.bin").write_bytes(pattern(2 * CHUNK + 17))
    return {"add": _add, "pull": _pull, "convert": _convert, "gc": _gc, "import": _import}[name](folder, model)


def _add(_: Path, model: Path) -> Operation:
    def run(store: Store) -> list[str]:
        artifact = store.add(model)
        store.pin(artifact.cid, "added")
        return [artifact.cid]

    return Operation(lambda _: None, run, (unixfs.address(model).cid,))


def _pull(folder: Path, model: Path) -> Operation:
    publisher = Store(folder / "publisher")
    artifact = publisher.add(model)

    def run(store: Store) -> list[str]:
        fetching.fetch_artifact(artifact, store, [local.StoreSource(Store(publisher.root), "publisher")])
        store.pin(artifact.cid, "pulled me/model")
        return [artifact.cid]

    return Operation(lambda _: None, run, (artifact.cid,))


def _convert(folder: Path, _: Path) -> Operation:
    model = formats.open_model(SAMPLE)

    def run(store: Store) -> list[str]:
        variant = Variant.parse("safetensors")
        with store.writer(bare=formats.is_bare(variant)) as sink:
            formats.convert(model, variant, sink, name="tiny")
            return [sink.commit().cid]

    cid = _forked(lambda: run(Store(folder / "sample")))
    return Operation(lambda _: None, run, tuple(cid))


def _gc(_: Path, model: Path) -> Operation:
    """Room is made of what was pulled, then what was pulled goes by age, and what nobody needs with it."""
    kept = unixfs.address(model)

    def prepare(store: Store) -> None:
        store.add(model)
        store.pin(kept.cid, "published")
        for number in range(2):
            store.put_block(b"nobody needs %d" % number)
        for size in (20_000, 300):
            store.pin(store.put_block(pattern(size)), "pulled me/model@1.0.0")
        dag = Dag()
        for name, reason in ((b"x", ""), (b"y", "pulled me/model@1.0.0")):
            root = dag.folder(link=dag.symlink(name))
            importing.import_car(store, io.BytesIO(dag.car(root)), reason or "test")
            store.unpin(str(root), "test")
        for left in ("partial/abandoned", "staging/killed", "objects/orphan"):
            (store.root / left).mkdir(parents=True)
            (store.root / left / "file").write_bytes(b"left over")

    def run(store: Store) -> list[str]:
        Store(store.root, max_bytes=kept.size_bytes + 10_000).make_room(1)
        store.gc(older_than_s=0)
        return [kept.cid]

    return Operation(prepare, run, (kept.cid,))


def _import(folder: Path, model: Path) -> Operation:
    publisher = Store(folder / "publisher")
    artifact = publisher.add(model)
    dag = Dag()
    foreign = dag.folder(a=dag.file(*(pattern(5000, i) for i in range(20))), link=dag.symlink(b"a"))
    cars = [b"".join(publisher.export_car(artifact.cid)), dag.car(foreign)]

    def run(store: Store) -> list[str]:
        done = []
        for data in cars:
            done += [found.stored.cid for found in importing.import_car(store, io.BytesIO(data), "imported")]
        return done

    return Operation(lambda _: None, run, (artifact.cid, str(foreign)))


# ---------------------------------------------------------------- a run, and what it leaves


def _forked(work: Callable[[], list[str]]) -> list[str]:
    """Do something in a process of its own, and return what it returns; nothing where it was killed.

    Raises:
        AssertionError: it failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = work()
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a fork must not go on as its parent
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return []
    assert status == 0, f"the process ended with {status}"
    return list(json.loads(said))


def _hit_before(home: Path, receipt: Path, what: Operation, step: int, fault: Callable[[str], None]) -> bool:
    """Whether the run was hit; side by side, its threads may take fewer steps than when they were counted.

    Raises:
        AssertionError: it ended with an error that is none of ours.
    """

    def run() -> list[str]:
        steps = Steps(step, fault)
        steps.watch()
        try:
            done = what.run(Store(home))
        except CitrateError as error:
            assert error.hint, "an error without a next step"
            return []
        with receipt.open("a") as file:
            file.writelines(cid + "\n" for cid in done)
        return ["came to its end"] if len(steps.seen) <= step else []

    return not _forked(run)


def _look(home: Path, receipt: Path, what: Operation) -> list[str]:
    """Nothing partial is visible, what was reported done is there, and the next run finishes."""
    store = Store(home)
    reported = receipt.read_text().split() if receipt.exists() else []
    before = [stored.cid for stored in store.ls()]
    faults = [error.message for error in store.verify()]
    faults += [f"{cid} was reported and is gone" for cid in reported if cid not in before]
    faults += [f"{cid} is visible and not what was asked for" for cid in before if _strange(store, cid)]
    done = what.run(store)
    faults += [f"{cid} is not there after another run" for cid in what.after if cid not in done]
    for cid in what.after:
        if not store.pins(cid):
            store.pin(cid, "test")
    store.gc()
    left = sorted(stored.cid for stored in store.ls())
    faults += [f"left {left}"] if left != sorted(what.after) else []
    faults += [error.message for error in store.verify()]
    for name in ("staging", "partial"):
        if (home / name).exists():
            lying = [path.name for path in (home / name).iterdir() if path.suffix != ".lock"]
            faults += [f"{name} holds {lying}"] if lying else []
    objects = {path.name for path in (home / "objects").iterdir()}
    faults += [f"objects holds {objects}"] if not objects <= set(left) else []
    pinned = {path.name for path in (home / "pins").iterdir() if not path.name.startswith(".")}
    faults += [f"pins tells of {pinned}"] if not pinned <= set(left) else []
    return faults


def _strange(store: Store, cid: str) -> bool:
    stored = store.stored(cid)
    if stored.blocks:
        return not (stored.whole and stored.pinned) and stored.size_bytes > 200
    artifact: Artifact = unixfs.address(store.get(cid))
    return artifact.cid != cid


def _import_what_runs_import(folder: Path, what: Operation) -> None:
    """Import here, once, what every fork would import again; to run it here would leave threads behind."""

    def run() -> list[str]:
        what.run(Store(folder / "imports"))
        return list(sys.modules)

    for name in _forked(run):
        if name != "__main__":
            importlib.import_module(name)


def _count(home: Path, what: Operation) -> list[str]:
    def run() -> list[str]:
        steps = Steps()
        steps.watch()
        what.run(Store(home))
        return list(steps.seen)

    return _forked(run)


def main(name: str, folder: Path, moments: int, fault: Callable[[str], None]) -> dict[str, int]:
    """Let a fault hit ``moments`` runs of an operation; returns how many by stage.

    Raises:
        AssertionError: one left something half done, or lost something.
    """
    what = operation(name, folder)
    template = folder / "template"

    def prepare() -> list[str]:
        what.prepare(Store(template))
        return []

    _forked(prepare)
    template.mkdir(exist_ok=True)
    _import_what_runs_import(folder, what)
    home = folder / "home"
    shutil.copytree(template, home)
    stages = _count(home, what)
    chosen = _spread(stages, moments)
    counts: Counter[str] = Counter()
    receipt = folder / "receipt"
    for step in chosen:
        shutil.rmtree(home)
        shutil.copytree(template, home)
        receipt.unlink(missing_ok=True)
        hit = _hit_before(home, receipt, what, step, fault)
        faults = _forked(lambda: _look(home, receipt, what))
        assert not faults, f"{name}, {fault.__name__} before step {step} ({stages[step]}): {faults}"
        counts[stages[step]] += hit
    return dict(counts)


def _spread(stages: list[str], moments: int) -> list[int]:
    """As many steps of each stage, evenly over the run; all where there are fewer."""
    share, chosen = moments // 3, set[int]()
    for stage in (COPYING, RENAMING, INDEXING):
        of_stage = [i for i, found in enumerate(stages) if found == stage]
        count = min(share, len(of_stage))
        chosen |= {of_stage[round(i * (len(of_stage) - 1) / max(1, count - 1))] for i in range(count)}
    rest = [i for i in range(len(stages)) if i not in chosen]
    missing = max(0, min(moments - len(chosen), len(rest)))
    return sorted(chosen | {rest[i * len(rest) // missing] for i in range(missing)})


if __name__ == "__main__":
    FAULTS = {"kill": kill, "fill_up": fill_up}
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), FAULTS[sys.argv[4]])))  # noqa: T201
