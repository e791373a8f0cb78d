"""What is named is brought here and verified: variants, adapters, datasets, files and DAGs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError
from citrate.core.records import Format, Reference, Task, VersionRecord, variant_of
from citrate.core.sink import Progress, unwatched
from citrate.facade.reading import Reading

if TYPE_CHECKING:
    from citrate.core.adapters import LoraRecord
    from citrate.registry.by_cid import ByteSpan, FetchedDag
    from citrate.registry.manifest import VariantEntry
    from citrate.registry.reconversion import Reconversion
    from citrate.registry.retrieve import FileVerdict, Pulled
    from citrate.training.dataset import Card


class Fetching(Reading):
    """Every byte is compared with what the chain, or a CID, says before anything is told of it."""

    def pull(
        self,
        ref: str | Reference,
        *,
        out: Path | str | None = None,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
        runnable: frozenset[Format] | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Pulled:
        """Fetch a variant, or an adapter, and verify every byte; without ``#variant`` the one for this machine.

        Args:
            ref: the reference.
            out: copy the files into this folder; those that are there already, and equal, stay.
            gateways: where to fetch from, besides the settings' own.
            allow: ``deprecated``, ``quarantined``.
            progress: told of the bytes.
            runnable: choose among these formats only, where one is chosen.
            include: only the variant's files that fit one of these patterns; they go to ``out``, not into the store.
            exclude: only those that fit none of these.

        Raises:
            ConfigError: only some files are asked for without ``out``, or of an adapter.
            NotFoundError: no such version, variant or files.
            NotPermittedError: as ``select``; or the version has a price and the active key no access.
            IntegrityError: a byte is not what the chain says; nothing of it is kept.
            StoreError: no source has it.
        """
        from citrate.registry import permission, retrieve

        named = self.reference(ref)
        gateways = tuple(gateways)
        patterns = retrieve.Patterns(tuple(include), tuple(exclude))
        some = patterns != retrieve.Patterns()
        if some and out is None:
            raise ConfigError("some files of a variant are no object of the store", hint="say where to: --out DIR")
        record = self.find(named) if runnable is None else self.resolve(named)
        if not isinstance(record, VersionRecord):
            if some:
                raise ConfigError(f"{record.ref} is an adapter, which is pulled whole", hint="leave out --include")
            return self._pull_adapter(record, out, gateways, allow, progress)
        permission.require_usable(self, record, allow)
        permission.require_access(self, record)
        among = [v for v in record.variants if runnable is None or v.variant.format in runnable]
        variant = named.variant or self._select(record, among, None, "", None, Task.INFERENCE, gateways).variant
        variant_of(record, variant)
        manifest = self.manifest(record, gateways)
        sources = self.sources(gateways)
        if some and out is not None:
            return retrieve.pull_files(record, manifest, variant, patterns, Path(out), self.store, sources, progress)
        pulled = retrieve.pull(record, manifest, variant, self.store, sources, progress)
        pulled = replace(pulled, chat_template_sha256=manifest.chat_template_sha256 or "")
        if out is None:
            return pulled
        artifact = manifest.entry(variant).artifact()
        return replace(pulled, path=retrieve.copy_out(pulled.path, Path(out), artifact))

    def _pull_adapter(
        self,
        record: LoraRecord,
        out: Path | str | None,
        gateways: Iterable[str],
        allow: frozenset[str],
        progress: Progress | None,
    ) -> Pulled:
        from citrate.registry import adapters, permission, retrieve

        permission.require_standing(self, record.lora_id, record.ref, record.status, allow)
        pulled = adapters.pull(self, record, self.sources(gateways), progress)
        if out is None:
            return pulled
        artifact = self.store.artifact(record.lora.cid)
        return replace(pulled, path=retrieve.copy_out(pulled.path, Path(out), artifact))

    def verify(self, ref: str | Reference, path: Path | str | None = None) -> tuple[FileVerdict, ...]:
        """Re-hash what is stored for ``ref``, or the files at ``path``, against the chain.

        Raises:
            NotFoundError: nothing of the version is stored here, or no such path.
        """
        from citrate.registry import retrieve

        named = self.reference(ref)
        record = self.find(named)
        if not isinstance(record, VersionRecord):
            from citrate.registry import adapters

            return adapters.verify(self, record, Path(path) if path else None)
        manifest = self.manifest(record)
        if path is not None:
            variant = named.variant or retrieve.matching_variant(Path(path), record)
            if variant is None:
                variant = retrieve.likely_variant(Path(path), manifest)
            return retrieve.verify_path(Path(path), manifest.entry(variant).artifact())
        return retrieve.verify_stored(record, manifest, named.variant, self.store)

    def verify_conversion(
        self,
        ref: str | Reference,
        *,
        source: Path | str | None = None,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
        begin: Callable[[VariantEntry, str], None] = lambda *_: None,
    ) -> Reconversion:
        """Convert a published variant again, from ``source`` or the version's safetensors variant, and compare.

        Raises:
            ConfigError: ``ref`` names no variant, or ``source`` is not what the version was made from.
            NotFoundError: no such variant, or none to convert from.
            IntegrityError: a byte of the source is not what the chain says.
        """
        from citrate.registry import reconversion

        return reconversion.verify_conversion(
            self,
            self.reference(ref),
            source=Path(source) if source else None,
            gateways=gateways,
            allow=allow,
            progress=progress or unwatched,
            begin=begin,
        )

    def cat(
        self, cid: str, path: str = "", span: ByteSpan | None = None, *, gateways: Iterable[str] = ()
    ) -> Iterator[bytes]:
        """The bytes of a file by its CID, or by that of a folder above it and a path; every block is compared with the
        CID that led to it. What is not here comes from Kubo and gateways, and is not kept.

        Raises:
            NotFoundError: the path does not exist, or it is not here and there is no source.
            FormatError: no CID, a folder, a place inside a document, or a range behind the end.
            StoreError: no source has it.
            IntegrityError: a source gave wrong bytes, and no other has them.
        """
        from citrate.registry import by_cid

        return by_cid.cat(self.store, self.sources(gateways), cid, path, span)

    def fetch_dag(
        self, cid: str, reason: str, *, gateways: Iterable[str] = (), progress: Progress | None = None
    ) -> FetchedDag:
        """Fetch all that a CID leads to into the store and pin it for ``reason``; interrupted, the next call goes on.

        Raises:
            FormatError: no CID, a malformed block, or a codec or hash that is not known here.
            StoreError: no source has all of it, or the store cannot take it.
            IntegrityError: a source gave wrong bytes, and no other has them.
        """
        from citrate.registry import by_cid

        return by_cid.fetch_dag(self.store, self.sources(gateways), cid, reason, progress)

    def folder(self, cid: str, reason: str, gateways: Iterable[str] = (), progress: Progress | None = None) -> Path:
        """The plain files of what a CID names, verified; fetched and pinned for ``reason`` where they are not here.

        Raises:
            FormatError: no CID, or not what citrate keeps as plain files.
            StoreError: no source has it.
        """
        if not self.store.has(cid):
            self.fetch_dag(cid, reason, gateways=gateways, progress=progress)
        return self.store.get(cid)

    def dataset(
        self, where: Path | str, *, gateways: Iterable[str] = (), progress: Progress | None = None
    ) -> tuple[Card, Path]:
        """A dataset by its CID or its folder, fetched where it is not here, its rows held against its card.

        Raises:
            NotFoundError: no such dataset.
            StoreError: no source has it.
            IntegrityError: the rows are not those of the card.
        """
        from citrate.training import dataset

        folder = (
            Path(where)
            if str(where) and Path(where).is_dir()
            else self.folder(str(where), "dataset", gateways, progress)
        )
        return dataset.read(folder), folder
