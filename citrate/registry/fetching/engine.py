"""Fetch the missing leaves of some files into a folder: from the store, then from all sources at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

from citrate.core.records import FileEntry
from citrate.core.sink import Progress
from citrate.registry.asking import SILENT
from citrate.registry.attempts import Attempts
from citrate.registry.fetching.assembly import Assembly
from citrate.registry.fetching.blocks import read_leaves
from citrate.registry.fetching.lanes import Lane, Shared, lanes_of
from citrate.registry.fetching.partial import recheck
from citrate.registry.fetching.present import copy_present
from citrate.registry.fetching.spans import Board
from citrate.registry.sources import Source, StoreSource
from citrate.registry.store import Store
from citrate.registry.store.index import StagedFile
from citrate.registry.store.leaf_places import LeafPlaces

_REPORT_EVERY_S = 0.1
_FINISHERS = 4
_LANE_END_S = 5.0
STORE = "store"


class Engine:
    """One fetch of some files of one artifact.

    Args:
        files: what is to stand in ``folder`` in the end.
        cid: the artifact's, for errors.
        store: looked through for leaves first.
        sources: asked all at once.
        folder: where the files are put together; on the store's file system.
        progress: called with the stage ``fetch``, bytes, and who gives them; on the caller's thread.
    """

    def __init__(
        self,
        files: Sequence[FileEntry],
        cid: str,
        store: Store,
        sources: Sequence[Source],
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self._files = files
        self._cid = cid
        self._store = store
        self._sources = sources
        self._folder = folder
        self._progress = progress
        self._total_bytes = sum(file.size_bytes for file in files)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._failure: BaseException | None = None
        self._done_bytes = 0
        self._reported = (-1, "")
        self._finishing: dict[Assembly, Future[StagedFile | None]] = {}
        self._pool = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="finish")
        self._assemblies: list[Assembly] = []
        self.attempts = Attempts.of([StoreSource(store), *sources])
        self.fetched_bytes = 0

    def run(self) -> list[StagedFile]:
        """Bring everything; returns the files, sealed, in the order they were given.

        Raises:
            IntegrityError: a source gave wrong bytes that no other had right, or the files are not what is expected.
            StoreError: no source has all of it, or the disk failed.
        """
        try:
            self._plan()
            if not all(assembly.is_whole for assembly in self._assemblies):
                self._fetch()
            return self._finish()
        finally:
            self._stopped.set()
            self.attempts.close()
            self._pool.shutdown(wait=True, cancel_futures=True)
            for assembly in self._assemblies:
                assembly.leave()

    # ------------------------------------------------------------------ the steps

    def _plan(self) -> None:
        """Learn every leaf, and see what of them is here."""
        leaves = read_leaves(self._files, self.attempts, self._fetched)
        self._assemblies = [
            Assembly(file, of_file, self._store.root, self._folder / file.path)
            for file, of_file in zip(self._files, leaves, strict=True)
        ]
        for assembly in self._assemblies:
            recheck(assembly, self._placed)
            self._tell()
        places = LeafPlaces(self._store.layout)
        for assembly in self._assemblies:
            if copy_present(assembly, places, self._placed):
                self.attempts.gave(STORE)
            self._tell()

    def _fetch(self) -> None:
        """Let all sources bring what is missing; those that kept silent only what the others did not."""
        useful = [s for s in self._sources if s.name not in self.attempts.lies and s.name not in self.attempts.down]
        silent = [source for source in useful if SILENT.of(source.name)]
        for group in ([source for source in useful if source not in silent], silent):
            if group and not self._is_whole():
                self._fetch_from(group)
                self._check()
        if not self._is_whole():
            raise self.attempts.failure(self._cid)

    def _fetch_from(self, sources: Sequence[Source]) -> None:
        board = Board(self._assemblies)
        shared = Shared(board, self.attempts, self._stopped, self._arrived, self._fail)
        large, small = board.spans_wanted
        rows = zip_longest(*(lanes_of(source, shared, large, small) for source in sources))
        lanes = [lane for row in rows for lane in row if lane is not None]  # each source's first ones first
        try:
            for lane in lanes:
                lane.start()
            while any(lane.is_alive() for lane in lanes) and not self._is_whole() and self._failure is None:
                self._woken.wait(_REPORT_EVERY_S)
                self._woken.clear()
                self._tell(lanes)
        finally:
            board.stop()
            if any(lane.is_alive() for lane in lanes):
                self._stopped.set()
            for lane in lanes:
                lane.stop()
            deadline = time.monotonic() + _LANE_END_S
            for lane in lanes:  # who still waits for a source then has nothing more to put anywhere
                lane.join(max(0.0, deadline - time.monotonic()))

    def _finish(self) -> list[StagedFile]:
        for assembly in self._assemblies:
            while assembly not in self._finishing or self._finishing[assembly].result() is None:
                self._check()
        self._tell()
        staged = [self._finishing[assembly].result() for assembly in self._assemblies]
        return [file for file in staged if file is not None]

    # ------------------------------------------------------------------ called from the lanes

    def _arrived(self, assembly: Assembly, new_bytes: int, due: bool) -> None:
        self._fetched(new_bytes)
        self._placed(assembly, new_bytes, due)

    def _fetched(self, count: int) -> None:
        with self._lock:
            self.fetched_bytes += count

    def _placed(self, assembly: Assembly, new_bytes: int, due: bool) -> None:
        with self._lock:
            self._done_bytes += new_bytes
            if due:
                self._finishing[assembly] = self._pool.submit(self._follow, assembly)
        if self._done_bytes == self._total_bytes:
            self._woken.set()

    def _follow(self, assembly: Assembly) -> StagedFile | None:
        try:
            return assembly.follow()
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._woken.set()

    # ------------------------------------------------------------------ on the caller's thread

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _is_whole(self) -> bool:
        return self._done_bytes == self._total_bytes and all(assembly.is_whole for assembly in self._assemblies)

    def _tell(self, lanes: Sequence[Lane] = ()) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        names = {lane.taker.source for lane in lanes if now - lane.taker.last_s < 1.0}
        source = f"{len(names)} sources" if len(names) > 1 else "".join(names)
        told = (self._done_bytes, source)
        if told != self._reported:
            self._reported = told
            self._progress("fetch", self._done_bytes, self._total_bytes, source)
