"""Writing an object: files hashed as they are written, nothing visible until all of it is durable."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from citrate.core.digests import check_path
from citrate.core.errors import FormatError, IntegrityError
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Buffer
from citrate.registry import unixfs
from citrate.registry.cutting import Cutter, cutter
from citrate.registry.dag import CHUNK_BYTES, PROFILE
from citrate.registry.doublehash import double_hash
from citrate.registry.pieces import WRITE_BYTES
from citrate.registry.store.durability import whole_sync
from citrate.registry.store.index import Receipt, StagedFile
from citrate.registry.store.layout import Layout, disk_errors, start_write_back
from citrate.registry.stream import Feeder, HashedFile, Stream
from citrate.registry.unixfs import SourceFile

FILE_MODE = 0o444
_PREALLOCATE_FROM_BYTES = 1 << 20
_WRITE_BACK_BYTES = 32 << 20
_TOGETHER_FROM_FILES = 32
_ZEROS = bytes(WRITE_BYTES)


class DiskFile:
    """A new file of an object on disk, not yet sealed."""

    def __init__(self, root: Path, path: Path, descriptor: int) -> None:
        self.path = path
        self._root = root
        self._descriptor = descriptor
        self._unsent = 0
        self._holes = False

    @classmethod
    def create(cls, root: Path, path: Path, size_bytes: int | None = None, *, holes: bool = False) -> DiskFile:
        """A new file; ``size_bytes`` is preallocated, except where ``holes`` are wanted for what is zero.

        Raises:
            StoreError: no room, or no permission.
        """
        with disk_errors(root):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                descriptor = os.open(path, flags, FILE_MODE)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, flags, FILE_MODE)
            disk = cls(root, path, descriptor)
        disk._holes = holes
        try:
            disk.preallocate(0 if holes else size_bytes or 0)
        except BaseException:
            disk.abandon()
            raise
        return disk

    def preallocate(self, size_bytes: int) -> None:
        """Reserve room, so that a full disk is noticed before the work and not after it."""
        if size_bytes >= _PREALLOCATE_FROM_BYTES and hasattr(os, "posix_fallocate"):
            with disk_errors(self._root):
                os.posix_fallocate(self._descriptor, 0, size_bytes)

    def cut(self, length: int) -> None:
        """Drop what follows the first ``length`` bytes."""
        with disk_errors(self._root):
            os.ftruncate(self._descriptor, length)

    def write(self, data: memoryview) -> None:
        """Append ``data``."""
        with disk_errors(self._root):
            while len(data):
                piece = data[:WRITE_BYTES]
                if self._holes and bytes(piece) == _ZEROS:
                    os.lseek(self._descriptor, WRITE_BYTES, os.SEEK_CUR)
                    count = WRITE_BYTES
                else:
                    count = os.write(self._descriptor, piece)
                    self._unsent += count
                data = data[count:]
        if self._unsent >= _WRITE_BACK_BYTES:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            start_write_back(self._descriptor, end - self._unsent, self._unsent)
            self._unsent = 0

    def seal(self, path: str, hashed: HashedFile, *, durable: bool = True) -> StagedFile:
        """Make the bytes read-only and durable (else the caller does, before anybody sees them); describe the file."""
        with disk_errors(self._root):
            try:
                status = os.fstat(self._descriptor)
                if status.st_size != hashed.size_bytes:  # preallocated in vain, or a hole at its end
                    os.ftruncate(self._descriptor, hashed.size_bytes)
                if stat.S_IMODE(status.st_mode) != FILE_MODE:
                    os.fchmod(self._descriptor, FILE_MODE)
                if durable:
                    os.fsync(self._descriptor)
                receipt = Receipt.of(os.fstat(self._descriptor))
            finally:
                os.close(self._descriptor)
        dag = hashed.dag()
        return StagedFile(hashed.entry(path, dag), hashed.cut, dag.nodes, receipt)

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class SinkFile:
    """One file of an object, written in order (``core.sink.SinkFile``)."""

    def __init__(
        self,
        disk: DiskFile,
        path: str,
        size_bytes: int | None,
        cuts: Cutter | None,
        done: Callable[[StagedFile], None],
    ) -> None:
        self._disk = disk
        self._path = path
        self._done = done
        self._stream = Stream(write=disk.write, hashes=double_hash(size_bytes, cuts=cuts))
        self._feeder = Feeder(self._stream)
        self._open = True

    def write(self, data: Buffer) -> None:
        """Append ``data``.

        Raises:
            StoreError: no room, or the disk failed.
        """
        assert self._open, "written after close"
        self._feeder.write(data)

    def close(self) -> FileEntry:
        """Finish the file; returns its size, SHA-256 and CID.

        Raises:
            StoreError: no room, or the disk failed.
        """
        assert self._open, "closed twice"
        staged = self._disk.seal(self._path, self._feeder.finish())
        self._open = False
        self._done(staged)
        return staged.entry

    def abandon(self) -> None:
        """Stop writing; does nothing after ``close``."""
        if self._open:
            self._open = False
            self._stream.abort()
            self._disk.abandon()


class ObjectWriter:
    """Takes the files of one object (``core.sink.Sink``). Use it in a ``with`` block and ``commit`` at its end;
    leaving the block without that discards everything.

    Args:
        layout: the store's.
        commit: puts the complete folder in place.
        bare: the object is one file.
        profile: where its files' leaves end; see ``cutting``.
    """

    def __init__(
        self,
        layout: Layout,
        commit: Callable[[Path, Artifact, list[StagedFile]], Artifact],
        *,
        bare: bool,
        profile: str = PROFILE,
    ) -> None:
        self._layout = layout
        self._commit = commit
        self._bare = bare
        self._profile = profile
        self._staging = contextlib.ExitStack()
        self._folder = Path()
        self._open: dict[str, SinkFile] = {}
        self._staged: list[StagedFile] = []

    def __enter__(self) -> ObjectWriter:
        with disk_errors(self._layout.root):
            self._folder = self._staging.enter_context(self._layout.staging()) / "object"
            self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open.values():
            file.abandon()
        with disk_errors(self._layout.root):
            self._staging.close()

    def open(self, path: str, size_bytes: int | None = None, cuts: Cutter | None = None) -> SinkFile:
        """Start the file ``path``; files may be open side by side, each is written in order.

        Args:
            path: relative, with ``/``.
            size_bytes: preallocated, where it is known.
            cuts: where its leaves end, where it is not the profile that says so.

        Raises:
            FormatError: the path is unsafe, was opened before, or is a second file of a bare object.
            StoreError: no room, or no permission.
        """
        check_path(path)
        if path in self._open:
            raise FormatError(f"file {path!r} was already written")
        if self._bare and (self._open or "/" in path):
            raise FormatError(f"a bare object is one file without a folder, {path!r} cannot be added")
        for other in self._open:
            if path.startswith(other + "/") or other.startswith(path + "/"):
                raise FormatError(f"{min(path, other, key=len)!r} is both a file and a folder")
        disk = DiskFile.create(self._layout.root, self._folder / path, size_bytes)
        self._open[path] = SinkFile(disk, path, size_bytes, cuts or cutter(self._profile), self._staged.append)
        return self._open[path]

    def copy(self, files: list[SourceFile], progress: Callable[[int], None]) -> None:
        """Take files from elsewhere, each read once; ``progress`` gets the count of each piece.

        Many small ones are made durable together, where the file system can.

        Raises:
            StoreError: one cannot be read, changed meanwhile, or the store cannot be written.
        """
        small = sum(file.size_bytes <= CHUNK_BYTES for file in files)
        with disk_errors(self._layout.root), contextlib.ExitStack() as stack:
            together = stack.enter_context(whole_sync(self._folder)) if small >= _TOGETHER_FROM_FILES else None

            def one(file: SourceFile) -> HashedFile:
                return self._copy(file, progress, durable=together is None or file.size_bytes > CHUNK_BYTES)

            unixfs.each(files, one, busy=unixfs.busy_threads(self._profile))
            if together is not None:
                together()

    def _copy(self, file: SourceFile, progress: Callable[[int], None], *, durable: bool) -> HashedFile:
        disk = DiskFile.create(self._layout.root, self._folder / file.path, file.size_bytes, holes=file.has_holes)
        try:
            hashed = unixfs.hash_file(file.source, write=disk.write, progress=progress, profile=self._profile)
        except BaseException:
            disk.abandon()
            raise
        self._staged.append(disk.seal(file.path, hashed, durable=durable))
        return hashed

    def commit(self, expected: str = "") -> Artifact:
        """Make the object visible, or return the equal one that stands already.

        Args:
            expected: the CID that it must have, if that is known.

        Raises:
            FormatError: no file was written, or one was not closed.
            IntegrityError: it has another CID than ``expected``.
            StoreError: no room, no permission, or the disk failed.
        """
        if len(self._staged) < len(self._open):
            raise FormatError("an object was committed before all its files were closed")
        artifact = unixfs.artifact((file.entry for file in self._staged), bare=self._bare)
        if expected and artifact.cid != expected:
            raise IntegrityError(
                f"the files written are not those of {expected}",
                path=str(self._folder), expected=expected, actual=artifact.cid,
            )  # fmt: skip
        return self._commit(self._folder, artifact, self._staged)
