"""The embedded store's face: add, find, verify, pin and export objects.

An object is one artifact, named by its CID: a bare file or a directory. It is either complete or not there, its files
are plain and read-only, and what leaves the store was compared with its hash on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from citrate.core.bytesizes import counted, human_size
from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError
from citrate.core.records import Artifact
from citrate.core.sink import Progress
from citrate.registry import car, reader, unixfs
from citrate.registry import cid as cids
from citrate.registry import dag as dags
from citrate.registry.atomic import make_folder, sync_directory, sync_tree
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.paths import Entity, find, require_printable
from citrate.registry.store.blocks import Blocks
from citrate.registry.store.cuts import require_cut
from citrate.registry.store.dag_writer import DagWriter
from citrate.registry.store.dags import DagShelf
from citrate.registry.store.examining import Damage, Examiner
from citrate.registry.store.index import Index, StagedFile
from citrate.registry.store.inventory import Inventory, StoredObject
from citrate.registry.store.layout import Layout, disk_errors, remove_tree
from citrate.registry.store.pins import Pins
from citrate.registry.store.removing import Remover
from citrate.registry.store.writer import ObjectWriter


class Store:
    """A store under ``root``. Making one touches nothing; the first write creates the folders.

    Safe to use from several threads and several processes at once.

    Args:
        root: the store's folder.
        max_bytes: what its objects may have together, by ``make_room``; 0: no limit.
        notify: told what was deleted to make room.
    """

    def __init__(self, root: Path, *, max_bytes: int = 0, notify: Callable[[str], None] | None = None) -> None:
        self._max_bytes = max_bytes
        self._notify = notify
        self._layout = Layout(root.absolute())
        self._index = Index(self._layout.index)
        self._pins = Pins(self._layout, self._index)
        self._shelf = DagShelf(self._layout, self._index, self._pins)
        self._inventory = Inventory(self._layout, self._index, self._shelf, self._pins)
        self._blocks = Blocks(self._layout, self._index, self._shelf, self._inventory.note_damage)
        self._examiner = Examiner(self._layout, self._index, self._shelf, self._inventory, self._pins)
        self._remover = Remover(self._layout, self._index, self._shelf, self._inventory, self._pins)

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    @property
    def max_bytes(self) -> int:
        """What its objects may have together; 0: no limit."""
        return self._max_bytes

    def close(self) -> None:
        """Let go of the index, as far as this thread holds it; the next call opens it again."""
        self._index.close()

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

    def dag_writer(self, elsewhere: Callable[[str], bytes] | None = None, resumes: str = "") -> DagWriter:
        """Write DAGs block by block; see ``importing`` and ``by_cid`` for what is done with them.

        Args:
            elsewhere: a verified block that is not put there; by default the store's own.
            resumes: a name under which an unfinished one is kept; see ``DagWriter``.
        """
        with disk_errors(self.root):
            self._index.create()
        return DagWriter(self._layout, self._shelf, elsewhere or self.block, resumes=resumes)

    def add(self, path: Path, progress: Progress | None = None, profile: str = dags.PROFILE) -> Artifact:
        """Copy a file or directory into the store, hashing it on the way; ``profile``: see ``cutting``.

        Raises:
            NotFoundError: nothing is there.
            FormatError: a symbolic link, an empty directory, a device, or an unsafe name.
            StoreError: it cannot be read, changed meanwhile, or the store cannot be written.
        """
        files, bare = unixfs.scan(path)
        counter = unixfs.Counter("add", sum(file.size_bytes for file in files), progress)
        self.make_room(sum(file.size_bytes for file in files))
        with self.writer(bare=bare, profile=profile) as sink:
            sink.copy(files, counter.add)
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
            IntegrityError: the files are not those of ``expected``, or cut as no profile says.
        """
        found = unixfs.artifact((file.entry for file in files), bare=expected.bare)
        if found != replace(expected, files=found.files) or set(found.files) != set(expected.files):
            raise IntegrityError(
                f"the files fetched are not those of {expected.cid}",
                path=str(folder), expected=expected.cid, actual=found.cid,
            )  # fmt: skip
        require_cut(folder, files)
        self._commit(folder, found, files)
        remove_tree(folder)  # still there, if another process was faster

    def _commit(self, folder: Path, artifact: Artifact, files: list[StagedFile]) -> Artifact:
        """Move a complete, synced folder into place. The index row is what makes the object exist: a kill before
        it leaves a folder that the next commit of this object replaces."""
        cid = artifact.cid
        with disk_errors(self.root, cid), self._layout.lock(cid):
            if (standing := self._index.artifact(cid)) is not None:
                try:
                    self._examiner.check(standing)
                except IntegrityError:
                    self._remover.move_aside(cid)  # what has come is sound, and takes its place
                else:
                    return standing
            self._index.create()
            target = self._layout.object(cid)
            remove_tree(target)
            make_folder(target.parent)
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

    def get(self, cid: str, progress: Progress | None = None) -> Path:
        """The plain file or directory of an object, whose bytes are what its CID says.

        Files that were not touched since they were last hashed (their receipts still fit) are not read; others are
        hashed again.

        Args:
            cid: the object's.
            progress: called with the stage ``verify`` and bytes, if anything is hashed.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a file differs, is missing, or stands there in addition.
        """
        artifact = self.artifact(cid)
        with disk_errors(self.root, cid):
            self._examiner.check(artifact, progress)
            self._inventory.note_use(cid)
        folder = self._layout.object(cid)
        return folder / artifact.files[0].path if artifact.bare else folder

    def verify(self, progress: Progress | None = None) -> list[CitrateError]:
        """As ``damages``: one error a file or object; empty when all is well."""
        return [damage.error for damage in self.damages(progress)]

    def damages(self, progress: Progress | None = None) -> list[Damage]:
        """Read and hash every byte of every object; an object that is damaged is not handed out until it is mended."""
        return self._examiner.damages(progress)

    def ls(self) -> list[StoredObject]:
        """All objects, oldest first; those that are kept as blocks after those that are plain files."""
        with disk_errors(self.root):
            return self._inventory.all()

    def stored(self, cid: str) -> StoredObject:
        """One object, of either kind, as ``ls`` shows it.

        Raises:
            NotFoundError: it is not in the store.
        """
        with disk_errors(self.root, cid):
            return self._inventory.one(cid)

    def has_whole_dag(self, cid: str) -> bool:
        """Whether a DAG of this root is kept as blocks, whole and sound; every block is read."""
        with disk_errors(self.root, cid):
            dag = self._shelf.get(cid)
            return dag is not None and dag.whole and not any(self._shelf.damages(cid))

    def mend_blocks(self, cid: str, fetch: Callable[[str], bytes]) -> None:
        """Put right the damaged blocks of a DAG that is kept as blocks.

        Args:
            cid: its root.
            fetch: gives a block by its CID.

        Raises:
            IntegrityError: another block came, or one is damaged again already.
        """
        with disk_errors(self.root, cid):
            self._shelf.mend(cid, fetch)
            for damage in self._shelf.damages(cid):
                raise damage
            self._inventory.note_soundness(cid)

    def pin(self, cid: str, reason: str) -> None:
        """Keep the object, for ``reason`` (who needs it).

        Raises:
            NotFoundError: it is not in the store.
        """
        self.stored(cid)  # before its lock: not everything that is asked for is a name
        with disk_errors(self.root, cid), self._layout.lock(cid):
            self.stored(cid)
            self._pins.add(cid, reason)

    def unpin(self, cid: str, reason: str) -> None:
        """Take one reason to keep the object away; others stay."""
        with disk_errors(self.root, cid):
            self._pins.remove(cid, reason)

    def pins(self, cid: str) -> list[str]:
        """The reasons to keep the object."""
        with disk_errors(self.root, cid):
            return [pin.reason for pin in self._pins.of(cid)]

    def pinned_for(self, reason: str) -> str:
        """The CID of the object that is here and kept for ``reason``; empty where there is none."""
        with disk_errors(self.root):
            cid = self._pins.find(reason)
        return cid if cid and self.has(cid) else ""

    def remove(self, cid: str, *, pulled: bool = False) -> None:
        """Delete an object.

        Args:
            cid: its name.
            pulled: delete it although pulls pinned it.

        Raises:
            NotFoundError: it is not in the store.
            NotPermittedError: it is pinned.
        """
        with disk_errors(self.root, cid):
            self._remover.remove(cid, pulled=pulled)

    def set_aside(self, cid: str) -> None:
        """Move a damaged object out of the store, to ``damaged/`` beside it, so that a sound one can take its place.
        Its pins stay."""
        with disk_errors(self.root, cid):
            self._remover.set_aside(cid)

    def gc(
        self, *, older_than_s: float | None = None, max_bytes: int | None = None, dry_run: bool = False
    ) -> list[StoredObject]:
        """Delete every object without a pin, and what interrupted fetches and killed writers left; returns the objects,
        least recently used first.

        Args:
            older_than_s: also what was merely pulled and not used for so long.
            max_bytes: also what was merely pulled, until all objects together have no more than this.
            dry_run: delete nothing, only say what would go.

        Raises:
            NotPermittedError: what is pinned for other reasons has more than ``max_bytes``.
        """
        with disk_errors(self.root):
            return self._remover.collect(older_than_s=older_than_s, max_bytes=max_bytes, dry_run=dry_run)

    def leftover_bytes(self) -> int:
        """What lies beside the objects: of interrupted fetches, killed writers, damaged objects that were replaced."""
        with disk_errors(self.root):
            return self._remover.leftover_bytes()

    def make_room(self, size_bytes: int, spared: Collection[str] = ()) -> None:
        """Delete what was used least recently, so that ``size_bytes`` more fit under the store's limit, if it has one.

        Args:
            size_bytes: what is about to come.
            spared: the CIDs of what is needed together with it, and stays whoever pinned it.

        Raises:
            NotPermittedError: they do not, whatever may be deleted is deleted.
        """
        if not self._max_bytes:
            return
        with disk_errors(self.root):
            gone = self._remover.make_room(self._max_bytes, size_bytes, spared)
        if gone and self._notify is not None:
            freed = human_size(sum(stored.size_bytes for stored in gone))
            self._notify(f"made room: deleted {counted(len(gone), 'object')}, {freed}, the least recently used first")

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
        with disk_errors(self.root, cid):
            self._inventory.note_use(cid)
        found = find(self.block, cid, path)
        require_printable(found, f"{cid}/{path}".rstrip("/"))
        if found.entity is Entity.FILE:
            return reader.content(self.block, found.cid)
        return iter([self.block(found.cid)])

    def export_car(self, cid: str, progress: Progress | None = None) -> Iterator[bytes]:
        """The object (or any DAG in the store) as a CAR, root first, every block compared with its CID.

        Args:
            cid: the object's, or that of any block.
            progress: called with the stage ``export`` and bytes; nobody knows the total of a part of an object.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a block is damaged.
        """
        with disk_errors(self.root, cid):
            self._inventory.note_use(cid)
            total = self._inventory.size_of(cid)
        return car.told(car.export(cid, self.block), total, progress)
