"""Hash files and directories where they lie: SHA-256 and CID in one pass, on all cores, nothing stored."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from citrate.core.digests import check_path, listing_sha256
from citrate.core.errors import FormatError, NotFoundError, StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Progress
from citrate.registry import dag
from citrate.registry.cutting import cutter
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.doublehash import double_hash
from citrate.registry.stream import SLOT_BYTES, HashedFile, Stream

Result = TypeVar("Result")

_SIDE_BY_SIDE_BYTES = 32 * SLOT_BYTES
"""Files up to this size are hashed one a core; larger ones have a core for each thread that hashes them."""

_BATCH_FILES = 128
"""So many files of one leaf are one thread's next task."""


class _Running(threading.local):
    """What a thread of ``each`` looks at now and then: whether the others have failed, or the user wants no more."""

    stopped: threading.Event | None = None


_RUNNING = _Running()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to be hashed, and its relative path in the artifact. ``has_holes``: it takes less room than its size."""

    path: str
    source: Path
    size_bytes: int
    has_holes: bool = False

    @classmethod
    def of(cls, path: str, source: Path, status: os.stat_result) -> SourceFile:
        """The file with that ``lstat``."""
        return cls(check_path(path), source, status.st_size, status.st_blocks * 512 < status.st_size)


def scan(path: Path) -> tuple[list[SourceFile], bool]:
    """List the files of ``path``, in byte order of their paths, and whether it is one bare file.

    Hidden files are included. What cannot be said in a listing of files is refused.

    Raises:
        NotFoundError: nothing is there.
        FormatError: a symbolic link, an empty directory, a device, or a name with control characters or backslash.
        StoreError: it cannot be read.
    """
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            return [SourceFile.of(path.name, path, status)], True
        if not stat.S_ISDIR(status.st_mode):
            raise _no_file(
                path, status.st_mode, f"name what it points to, {os.path.realpath(path)}, or copy that: cp -rL"
            )
        found = list(_scan_directory(path, ""))
    except FileNotFoundError as error:
        raise NotFoundError(f"no such file or directory: {error.filename}") from error
    except OSError as error:
        raise StoreError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from error
    return sorted(found, key=lambda file: file.path.encode()), False


def _scan_directory(directory: Path, prefix: str) -> Iterable[SourceFile]:
    with os.scandir(directory) as entries:
        children = list(entries)
    if not children:
        raise FormatError(f"{directory} is empty: an artifact holds files only", hint="remove it, or put a file in it")
    if prefix.count("/") > dag.DEPTH_MAX:
        raise FormatError(f"{directory} is nested more than {dag.DEPTH_MAX} folders deep")
    for child in children:
        name = f"{prefix}{child.name}"
        if child.is_dir(follow_symlinks=False):
            yield from _scan_directory(Path(child.path), name + "/")
        elif child.is_file(follow_symlinks=False):
            yield SourceFile.of(name, Path(child.path), child.stat(follow_symlinks=False))
        else:
            check_path(name)
            mode = child.stat(follow_symlinks=False).st_mode
            raise _no_file(Path(child.path), mode, "copy the folder with its links resolved: cp -rL")


def _no_file(path: Path, mode: int, of_a_link: str) -> FormatError:
    """The error for what is no regular file and no directory; ``of_a_link``: what to do if it is a symbolic link."""
    if stat.S_ISLNK(mode):
        return FormatError(f"{path} is a symbolic link, and not a regular file", hint=of_a_link)
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = kinds.get(stat.S_IFMT(mode), "something else")
    return FormatError(f"{path} is {kind}, and not a regular file", hint="remove it: an artifact holds files only")


def hash_file(
    path: Path,
    *,
    write: Callable[[memoryview], None] | None = None,
    progress: Callable[[int], None] | None = None,
    profile: str = dag.PROFILE,
) -> HashedFile:
    """Hash one file; ``write`` gets the same bytes in order, ``progress`` the count of each piece read.

    Args:
        path: the file.
        write: takes the bytes.
        progress: takes the counts.
        profile: where its leaves end; see ``cutting``.

    Raises:
        StoreError: it cannot be read, is no regular file, or changed meanwhile.
        OSError: what ``write`` raised.
    """
    descriptor = open_regular(path)
    try:
        before = os.fstat(descriptor)
        cuts = cutter(profile)
        if cuts is None and before.st_size <= CHUNK_BYTES:
            hashed = _hash_leaf(path, descriptor, before.st_size, write, progress)
        else:
            stream = Stream(write=write, hashes=double_hash(before.st_size, cuts=cuts))
            try:
                _read_all(path, descriptor, stream, progress)
                hashed = stream.finish()
            finally:
                stream.abort()
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_mtime_ns, hashed.size_bytes) != (after.st_mtime_ns, after.st_size):
        raise changed(path)
    return hashed


def _hash_leaf(
    path: Path,
    descriptor: int,
    size_bytes: int,
    write: Callable[[memoryview], None] | None,
    progress: Callable[[int], None] | None,
) -> HashedFile:
    """A file that is one leaf, at a third of a stream's cost. Whether it has grown is what the byte more tells."""
    try:
        data = os.read(descriptor, size_bytes + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) != size_bytes:
        raise changed(path)
    if write is not None and data:
        write(memoryview(data))
    if progress is not None and data:
        progress(size_bytes)
    digest = hashlib.sha256(data)
    return HashedFile(size_bytes, digest.hexdigest(), digest.digest())


def open_regular(path: Path) -> int:
    """A descriptor of a regular file; a link, or a device that would wait, is not opened.

    Raises:
        StoreError: it cannot be read, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreError(f"{path} is not a regular file")
    return descriptor


def changed(path: Path) -> StoreError:
    """The error for a file that was written to while it was read."""
    return StoreError(f"{path} changed while it was read", hint="try again when nothing writes to it")


def unreadable(path: Path, error: OSError) -> StoreError:
    """The error for a file that the operating system does not let us read."""
    return StoreError(f"cannot read {path}: {error.strerror}", hint="check that it exists, and its permissions")


def _read_all(path: Path, descriptor: int, stream: Stream, progress: Callable[[int], None] | None) -> None:
    while True:
        go_on()
        buffer, length = memoryview(stream.slot()), 0
        while length < len(buffer):
            try:
                count = os.readv(descriptor, [buffer[length:]])
            except OSError as error:
                raise unreadable(path, error) from error
            if count == 0:
                break
            length += count
        if length:
            stream.push(length)
            if progress is not None:
                progress(length)
        if length < len(buffer):
            return


def address(
    path: Path, *, threads: int | None = None, progress: Progress | None = None, profile: str = dag.PROFILE
) -> Artifact:
    """Hash a file or directory without storing it.

    Args:
        path: a regular file, or a directory whose every file (hidden ones too) belongs to the artifact.
        threads: how many cores to use; all of this process by default.
        progress: called with the stage ``hash`` and bytes.
        profile: where leaves end; see ``cutting``.

    Raises:
        NotFoundError: nothing is there.
        FormatError: a symbolic link, an empty directory, a device, or an unsafe name.
        StoreError: it cannot be read, or changed meanwhile.
    """
    files, bare = scan(path)
    counter = Counter("hash", sum(file.size_bytes for file in files), progress)

    def hashed(file: SourceFile) -> HashedFile:
        return hash_file(file.source, progress=counter.add, profile=profile)

    found = each(files, hashed, threads, busy=busy_threads(profile))
    entries = [result.entry(file.path, result.dag()) for file, result in zip(files, found, strict=True)]
    return artifact(entries, bare=bare)


def busy_threads(profile: str) -> Callable[[SourceFile], int]:
    """How many threads ``hash_file`` keeps busy with a file, once that is worth threads of its own."""
    return lambda file: len(double_hash(file.size_bytes, cuts=cutter(profile)).tasks)


_USUALLY = busy_threads(dag.PROFILE)


def each(
    files: list[SourceFile],
    task: Callable[[SourceFile], Result],
    threads: int | None = None,
    *,
    busy: Callable[[SourceFile], int] = _USUALLY,
) -> list[Result]:
    """Run ``task`` on every file, several side by side, and return the results in the files' order.

    A file of one leaf or less is done with many others by one thread: to hand it to another costs more than to hash
    it. A larger one takes a core, one that is hashed by two threads takes two, and the largest start first. Where one
    fails, or the user stops it all, the others end soon.

    Args:
        files: what to do.
        task: does it; what it calls looks at ``go_on`` now and then.
        threads: how many cores to use; all of this process by default.
        busy: how many threads the task keeps busy with a large file.
    """
    cores = threads or available_cores()
    results = dict[str, Result]()

    def one(file: SourceFile) -> tuple[str, Result]:
        go_on()
        return file.path, task(file)

    def one_batch(batch: list[SourceFile], stopped: threading.Event) -> list[tuple[str, Result]]:
        _RUNNING.stopped = stopped
        return [one(file) for file in batch]

    def run(batches: list[list[SourceFile]], workers: int) -> None:
        if not batches:
            return
        with ThreadPoolExecutor(max_workers=workers) as pool:
            stopped = threading.Event()
            try:
                for done in as_completed([pool.submit(one_batch, batch, stopped) for batch in batches]):
                    results.update(done.result())
            finally:
                stopped.set()

    ordered = sorted(files, key=lambda file: -file.size_bytes)
    large = [file for file in ordered if file.size_bytes > _SIDE_BY_SIDE_BYTES]
    pairs = {file.path for file in large if busy(file) > 1}
    middle = [[file] for file in ordered if file.size_bytes > CHUNK_BYTES and file.path not in pairs]
    small = [file for file in files if file.size_bytes <= CHUNK_BYTES]
    run([[file] for file in large if file.path in pairs], max(1, cores // 2))
    batches = [small[at : at + _BATCH_FILES] for at in range(0, len(small), _BATCH_FILES)]
    apart = max(1, -(-len(batches) // cores))  # so that no two cores make files in one folder, which has one lock
    run(middle + [batch for first in range(apart) for batch in batches[first::apart]], cores)
    return [results[file.path] for file in files]


def go_on() -> None:
    """Do nothing, as long as the work of ``each`` that this thread is a part of goes on.

    Raises:
        StoreError: it does not; nobody will see this.
    """
    if _RUNNING.stopped is not None and _RUNNING.stopped.is_set():
        raise StoreError("stopped")


def available_cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def artifact(entries: Iterable[FileEntry], *, bare: bool) -> Artifact:
    """Put hashed files together to an artifact, in byte order of their paths.

    Raises:
        FormatError: no files, more than one for a bare artifact, or paths that cannot stand together.
    """
    files = tuple(sorted(entries, key=lambda entry: entry.path.encode()))
    if bare:
        if len(files) != 1:
            raise FormatError(f"a bare artifact is one file, not {len(files)}")
        return Artifact(files[0].cid, files[0].sha256, files[0].size_bytes, files, bare=True)
    if not files:
        raise FormatError("an artifact needs at least one file")
    cid = dag.directory(files).root.cid
    return Artifact(cid, listing_sha256(files), sum(file.size_bytes for file in files), files, bare=False)


class Counter:
    """Adds up what several threads have done and reports it."""

    def __init__(self, stage: str, total: int, progress: Progress | None) -> None:
        self._stage = stage
        self._total = total
        self._done = 0
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count ``count`` more, and report."""
        if self._progress is None:
            return
        with self._lock:
            self._done += count
            self._progress(self._stage, self._done, self._total)
