"""The embedded store's face: add, find, verify, pin and export objects.

An object is one artifact, named by its CID: a bare file or a directory. It is either complete or not there, its files
are plain and read-only, and what leaves the store was compared with its hash on the way out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError, NotPermittedError
from citrate.core.records import Artifact
from citrate.core.sink import Progress
from citrate.registry import car, reader, unixfs
from citrate.registry import cid as cids
from citrate.registry import dag as dags
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.paths import Entity, find
from citrate.registry.store.blocks import Blocks
from citrate.registry.store.checking import Checker
from citrate.registry.store.dag_writer import DagWriter
from citrate.registry.store.dags import DagShelf, StoredDag
from citrate.registry.store.index import Index, StagedFile
from citrate.registry.store.layout import Layout, disk_errors, remove_tree, sync_directory, sync_tree
from citrate.registry.store.writer import DiskFile, ObjectWriter
from citrate.registry.stream import HashedFile


@dataclass(frozen=True)
class StoredObject:
    """An object of the store, as ``store ls`` shows it.

    Attributes:
        sha256: of the plain file or folder; empty for a DAG that is kept as blocks.
        size_bytes: of the files; of the blocks, where there are none.
        path: the plain file or the directory; the pack that holds the blocks.
        blocks: how many blocks a DAG has that is kept as blocks; 0 for plain files.
        whole: whether every block is here; only an import that asked for it leaves some out.
    """

    cid: str
    sha256: str
    size_bytes: int
    pinned: bool
    path: Path
    blocks: int = 0
    whole: bool = True


class Store:
    """A store under ``root``. Making one touches nothing; the first write creates the folders.

    Safe to use from several threads and several processes at once.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root.absolute())
        self._index = Index(self._layout.index)
        self._checker = Checker(self._layout, self._index)
        self._shelf = DagShelf(self._layout, self._index)
        self._blocks = Blocks(self._layout, self._index, self._shelf)

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    @property
    def layout(self) -> Layout:
        """Where things lie, for the parts of the registry that write into the store themselves."""
        return self._layout

    def writer(self, *, bare: bool, profile: str = dags.PROFILE) -> ObjectWriter:
        """Write a new object file by file; ``bare``: it is one file, not a directory. ``profile``: see ``cutting``.

        Example::

            with store.writer(bare=True) as sink:
                file = sink.open("model.gguf")
                file.write(b"GGUF...")
                file.close()
                artifact = sink.commit()
        """
        return ObjectWriter(self._layout, self._commit, bare=bare, profile=profile)

    def dag_writer(self) -> DagWriter:
        """Write DAGs block by block; see ``importing`` for what is done with them."""
        return DagWriter(self._layout, self._shelf, self.block)

    def add(self, path: Path, progress: Progress | None = None, profile: str = dags.PROFILE) -> Artifact:
        """Copy a file or directory into the store, hashing it on the way; ``profile``: see ``cutting``.

        Raises:
            NotFoundError: nothing is there.
            FormatError: a symbolic link, an empty directory, a device, or an unsafe name.
            StoreError: it cannot be read, changed meanwhile, or the store cannot be written.
        """
        files, bare = unixfs.scan(path)
        counter = unixfs.Counter("add", sum(file.size_bytes for file in files), progress)
        with self.writer(bare=bare) as sink:

            def copy(file: unixfs.SourceFile) -> HashedFile:
                disk = DiskFile.create(self.root, sink.folder / file.path, file.size_bytes)
                try:
                    hashed = unixfs.hash_file(file.source, write=disk.write, progress=counter.add, profile=profile)
                except BaseException:
                    disk.abandon()
                    raise
                sink.place(disk.seal(file.path, hashed))
                return hashed

            unixfs.each(files, copy)
            return sink.commit()

    def put_block(self, data: bytes) -> str:
        """Store one raw block of at most 1 MiB as an object of its own; returns its CID.

        Raises:
            FormatError: it is larger than a block may be.
            StoreError: the store cannot be written.
        """
        if len(data) > CHUNK_BYTES:
            raise FormatError(f"{len(data)} bytes do not fit into one block of {CHUNK_BYTES}")
        cid = cids.of(cids.RAW, data)
        if self.has(cid):
            return cid
        with self.writer(bare=True) as sink:
            file = sink.open(cid)
            file.write(data)
            file.close()
            return sink.commit().cid

    def adopt(self, folder: Path, expected: Artifact, files: list[StagedFile]) -> None:
        """Take a folder of this store's file system, whose files are complete and sealed, as an object.

        Raises:
            IntegrityError: the files are not those of ``expected``.
        """
        found = unixfs.artifact((file.entry for file in files), bare=expected.bare)
        if found != replace(expected, files=found.files) or set(found.files) != set(expected.files):
            raise IntegrityError(
                f"the files fetched are not those of {expected.cid}",
                path=str(folder), expected=expected.cid, actual=found.cid,
            )  # fmt: skip
        self._commit(folder, found, files)

    def _commit(self, folder: Path, artifact: Artifact, files: list[StagedFile]) -> Artifact:
        """Move a complete, synced folder into place. The index row is what makes the object exist: a kill before
        it leaves a folder that the next commit of this object replaces."""
        cid = artifact.cid
        with disk_errors(self.root, cid), self._layout.lock(cid):
            if (standing := self._index.artifact(cid)) is not None:
                return standing
            target = self._layout.object(cid)
            remove_tree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_tree(folder)
            folder.rename(target)
            sync_directory(target.parent)
            folders = () if artifact.bare else dags.directory(artifact.files).root.nodes
            self._index.insert(artifact, files, folders)
        return artifact

    def has(self, cid: str) -> bool:
        """Whether the object is here. Says nothing about its bytes: ``get`` does."""
        with disk_errors(self.root, cid):
            return self._index.has(cid)

    def has_file(self, cid: str) -> bool:
        """Whether a file with this CID of its own is here, in whatever object."""
        with disk_errors(self.root, cid):
            return bool(self._index.files_with_cid(cid))

    def artifact(self, cid: str) -> Artifact:
        """The object's files as they were hashed when it was stored.

        Raises:
            NotFoundError: it is not in the store.
        """
        with disk_errors(self.root, cid):
            artifact = self._index.artifact(cid)
            as_blocks = artifact is None and self._shelf.get(cid) is not None
        if as_blocks:
            raise NotFoundError(
                f"{cid} is kept as blocks and has no plain files", hint=f"citrate cat {cid}/PATH prints a file of it"
            )
        if artifact is None:
            raise NotFoundError(f"{cid} is not in the store at {self.root}", hint="see what is: citrate store ls")
        return artifact

    def get(self, cid: str) -> Path:
        """The plain file or directory of an object, whose bytes are what its CID says.

        Files that were not touched since they were last hashed (their receipts still fit) are not read; others are
        hashed again.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a file differs, is missing, or stands there in addition.
        """
        artifact = self.artifact(cid)
        with disk_errors(self.root, cid):
            self._checker.check(artifact)
        return self._path(artifact)

    def _path(self, artifact: Artifact) -> Path:
        folder = self._layout.object(artifact.cid)
        return folder / self._index.files(artifact.cid)[0].entry.path if artifact.bare else folder

    def verify(self, progress: Progress | None = None) -> list[CitrateError]:
        """Read and hash every byte of every object.

        Returns:
            What is damaged, one error a file or object; empty when all is well.
        """
        objects = self.ls()
        total, done = sum(stored.size_bytes for stored in objects), 0
        damages: list[CitrateError] = []
        for stored in objects:
            with disk_errors(self.root, stored.cid):
                found = self._shelf.damages(stored.cid) if stored.blocks else None
                damages.extend(found or self._checker.damages(self.artifact(stored.cid)))
            done += stored.size_bytes
            if progress is not None:
                progress("verify", done, total)
        return damages

    def ls(self) -> list[StoredObject]:
        """All objects, oldest first; those that are kept as blocks after those that are plain files."""
        with disk_errors(self.root):
            pinned = self._index.pinned()
            files = [
                StoredObject(found.cid, found.sha256, found.size_bytes, found.cid in pinned, self._path(found))
                for found in self._index.objects()
            ]
            return files + [self._stored_dag(found, found.cid in pinned) for found in self._shelf.ls()]

    @staticmethod
    def _stored_dag(found: StoredDag, pinned: bool) -> StoredObject:
        return StoredObject(found.cid, "", found.size_bytes, pinned, found.path, found.blocks, found.whole)

    def stored(self, cid: str) -> StoredObject:
        """One object, of either kind, as ``ls`` shows it.

        Raises:
            NotFoundError: it is not in the store.
        """
        with disk_errors(self.root, cid):
            pinned = bool(self._index.pins(cid))
            if (dag := self._shelf.get(cid)) is not None:
                return self._stored_dag(dag, pinned)
            found = self.artifact(cid)
            return StoredObject(found.cid, found.sha256, found.size_bytes, pinned, self._path(found))

    def has_whole_dag(self, cid: str) -> bool:
        """Whether a DAG of this root is kept as blocks, whole and sound; every block is read."""
        with disk_errors(self.root, cid):
            dag = self._shelf.get(cid)
            return dag is not None and dag.whole and not any(self._shelf.damages(cid))

    def pin(self, cid: str, reason: str) -> None:
        """Keep the object, for ``reason`` (who needs it).

        Raises:
            NotFoundError: it is not in the store.
        """
        with disk_errors(self.root, cid), self._layout.lock(cid):
            self.stored(cid)
            self._index.pin(cid, reason)

    def unpin(self, cid: str, reason: str) -> None:
        """Take one reason to keep the object away; others stay."""
        with disk_errors(self.root, cid):
            self._index.unpin(cid, reason)

    def pins(self, cid: str) -> list[str]:
        """The reasons to keep the object."""
        with disk_errors(self.root, cid):
            return self._index.pins(cid)

    def remove(self, cid: str) -> None:
        """Delete an object.

        Raises:
            NotFoundError: it is not in the store.
            NotPermittedError: it is pinned.
        """
        kept_as_blocks = bool(self.stored(cid).blocks)
        with disk_errors(self.root, cid), self._layout.lock(cid):
            if reasons := self._index.pins(cid):
                raise NotPermittedError(f"{cid} is pinned: {', '.join(reasons)}", hint="unpin it first")
            if kept_as_blocks:
                self._shelf.delete(cid)
            else:
                self._index.delete(cid)
                remove_tree(self._layout.object(cid))

    def set_aside(self, cid: str) -> None:
        """Move a damaged object out of the store, to ``damaged/`` beside it, so that a sound one can take its place.
        Its pins stay."""
        with disk_errors(self.root, cid), self._layout.lock(cid):
            self._index.delete(cid)
            target = self._layout.damaged(cid)
            target.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._layout.object(cid).rename(target)

    def gc(self, *, dry_run: bool = False) -> list[StoredObject]:
        """Delete every object without a pin, and what interrupted fetches and killed writers left; returns the objects.

        Args:
            dry_run: delete nothing, only say what would go.
        """
        going = [stored for stored in self.ls() if not stored.pinned]
        if dry_run:
            return going
        for stored in going:
            with contextlib.suppress(NotPermittedError, NotFoundError):  # pinned or deleted meanwhile
                self.remove(stored.cid)
        with disk_errors(self.root):
            self._layout.sweep_partial()
            self._layout.sweep_staging()
            self._shelf.sweep()
            for folder in self._layout.objects():
                with self._layout.lock(folder.name):
                    if not self._index.has(folder.name):  # of a process that was killed before its row was written
                        remove_tree(folder)
        return going

    def block(self, cid: str) -> bytes:
        """One block of any object, compared with its CID; see ``blocks``.

        Raises:
            FormatError: no CID.
            NotFoundError: no object has it.
            IntegrityError: every copy on disk differs.
        """
        return self._blocks.get(cid)

    def owners(self, cid: str) -> list[str]:
        """The CIDs of the objects that a block belongs to, itself included if it is one.

        Raises:
            FormatError: no CID.
        """
        return self._blocks.owners(cid)

    def cat(self, cid: str, path: str = "") -> Iterator[bytes]:
        """The bytes of a file, named by its own CID or by a directory's and a path; every block is verified.

        Raises:
            FormatError: no CID, or it leads to a directory.
            NotFoundError: it is not in the store.
            IntegrityError: a block is damaged.
        """
        found = find(self.block, cid, path)
        shown = f"{cid}/{path}".rstrip("/")
        if found.is_directory:
            raise FormatError(f"{shown} is a directory", hint="append the path of a file")
        if found.rest:
            raise FormatError(f"{shown} leads into a document", hint=f"citrate cat {found.roots[-1]} prints it whole")
        if found.entity is Entity.SYMLINK:
            raise FormatError(f"{shown} is a symbolic link", hint="name the file that it points to")
        if found.entity is Entity.FILE:
            return reader.content(self.block, found.cid)
        return iter([self.block(found.cid)])

    def export_car(self, cid: str) -> Iterator[bytes]:
        """The object (or any DAG in the store) as a CAR, root first, every block compared with its CID.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a block is damaged.
        """
        return car.export(cid, self.block)
