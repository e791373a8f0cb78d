"""`Registry`: what a program uses. It composes the chain, the stores, the formats and the runtimes.

Everything here is a few lines over `citrate.registry`, `citrate.formats` and `citrate.inference`, which know nothing
of each other's sides: training and inference never see the chain or a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError, NotFoundError, UnavailableError
from citrate.core.records import (
    PROFILE,
    Format,
    Reference,
    Selection,
    Task,
    Variant,
    VariantRecord,
    VersionRecord,
    variant_of,
)
from citrate.core.settings import Settings
from citrate.core.sink import Progress
from citrate.registry.session import ME, Session

if TYPE_CHECKING:
    from citrate.core.adapters import LoraRecord, Training
    from citrate.core.records import Artifact
    from citrate.inference.run import Generation
    from citrate.registry.applied import Chosen
    from citrate.registry.by_cid import ByteSpan, FetchedDag
    from citrate.registry.chain import AliasChange, Receipt
    from citrate.registry.changes import ChangeCursor, Proved
    from citrate.registry.lora_publishing import Registered
    from citrate.registry.manifest import VariantEntry
    from citrate.registry.publishing import Published
    from citrate.registry.pushing import Item, Pushed
    from citrate.registry.queries import ModelSummary
    from citrate.registry.reconversion import Reconversion
    from citrate.registry.retrieve import FileVerdict, Pulled
    from citrate.registry.views import AliasTarget, RecordItem
    from citrate.training.dataset import Card


@dataclass(frozen=True)
class Located:
    """A model's files on this machine."""

    path: Path
    format: Format
    variant: str = ""
    """What was pulled; empty of a local path, and so is the digest."""
    sha256: str = ""


class Registry(Session):
    """A home and a chain, with everything citrate does."""

    @classmethod
    def open(cls, **settings: object) -> Registry:
        """A registry with the given settings; what is not given comes from the environment and `citrate.toml`."""
        return cls(Settings.load(settings))

    # ------------------------------------------------------------------ reading

    def models(self) -> tuple[ModelSummary, ...]:
        """Every model of the registry, newest first, proved complete at one block."""
        return self.chain.models()

    def versions(self, record: VersionRecord) -> tuple[RecordItem, ...]:
        """Every version of a record's model, newest first, proved complete at one block."""
        return self.chain.versions(record.model_id)

    def aliases(self, record: VersionRecord) -> tuple[AliasTarget, ...]:
        """The aliases of a record's model and where they point now."""
        return self.chain.aliases(record.publisher, record.name)

    def owner(self, record: VersionRecord) -> str:
        """Who may write to a record's model."""
        return self.chain.owner_of(record.publisher, record.name)

    def alias_log(self, ref: str | Reference) -> tuple[AliasChange, ...]:
        """Every change of the alias that ``ref`` names, oldest first; complete, or an error."""
        named = self.reference(ref)
        return self.chain.alias_log(named.publisher, named.name, named.alias)

    def select(
        self,
        ref: str | Reference,
        *,
        device: str | None = None,
        arch: str = "",
        memory_gb: float | None = None,
        task: Task | str = Task.INFERENCE,
        allow: frozenset[str] = frozenset(),
        gateways: Iterable[str] = (),
    ) -> Selection:
        """The variant of a version for a device (default: this machine) and task, and why.

        Raises:
            NotPermittedError: the version is deprecated or quarantined, and ``allow`` does not say so.
            NoCompatibleVariantError: nothing suits; a reason for each variant.
        """
        from citrate.registry import permission

        named = self.reference(ref)
        record = self.resolve(named)
        permission.require_usable(self, record, allow)
        among = [variant_of(record, named.variant)] if named.variant else record.variants
        return self._select(record, among, device, arch, memory_gb, Task(task), gateways)

    def _select(
        self,
        record: VersionRecord,
        among: Sequence[VariantRecord],
        device: str | None,
        arch: str,
        memory_gb: float | None,
        task: Task,
        gateways: Iterable[str],
    ) -> Selection:
        from citrate.inference.device import parse_device, probe
        from citrate.inference.select import select

        asked = device or arch or memory_gb is not None
        machine = parse_device(device or probe().kind, arch, memory_gb) if asked else probe()
        try:
            architecture = self.manifest(record, gateways).architecture
        except UnavailableError:
            architecture = None  # `select` says in its reason that the KV cache is not counted
        return select(among, machine, task, architecture=architecture)

    # ------------------------------------------------------------------ fetching and running

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
            progress=progress or _unwatched,
            begin=begin,
        )

    def locate(
        self,
        model: str,
        *,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Located:
        """The files of a model that is a path here, or a reference that is pulled."""
        from citrate import formats
        from citrate.inference.run import RUNNABLE

        if not model:
            raise ConfigError("no model is named", hint="a file, a folder or a reference; the working folder is '.'")
        path = Path(model)
        if not path.exists() and (
            model.startswith(("/", "./", "../", "~")) or path.suffix in (".gguf", ".safetensors")
        ):
            raise NotFoundError(f"no such file or folder: {model}")
        if path.exists():
            found = formats.inspect(path)
            formats.require_writes(found, path.name)
            return Located(path, Format(found.format))
        pulled = self.pull(model, gateways=gateways, allow=allow, progress=progress, runnable=RUNNABLE)
        found = formats.inspect(pulled.path)
        formats.require_writes(found, model)
        formats.require_template(found, pulled.chat_template_sha256, model)
        variant = pulled.variant
        return Located(pulled.path, variant.variant.format, str(variant.variant), variant.sha256)

    def adapter(
        self,
        text: str,
        model: Located,
        *,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Chosen:
        """An adapter for a model that was located: ``REF`` or ``DIR``, either with ``=SCALE``.

        Raises:
            IntegrityError: a byte is not what the chain says, or it was trained on another model.
            FormatError: no adapter, one that does not fit the model, or one that its runtime cannot be given.
        """
        from citrate.registry import applied

        host = applied.Host(model.path, model.format, model.variant or model.path.name, model.sha256)
        named = applied.Named.parse(text)
        return applied.choose(self, named, host, gateways=gateways, allow=allow, progress=progress)

    def run(
        self,
        model: str,
        prompt: str,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        chat: bool = True,
        sandbox: bool = True,
        adapter: str = "",
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        on_text: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> Generation:
        """Pull the variant for this machine and generate text with it, in a child process without network.

        Args:
            model: a reference, or the path of a model's file or folder.
            prompt: what the user says.
            max_tokens: stop after so many tokens.
            temperature: 0 is greedy.
            seed: for temperatures above 0.
            chat: wrap the prompt in the model's own chat template; else complete it as it is.
            sandbox: deny the child network and new files; False only where no sandbox works.
            adapter: the reference or folder of an adapter that was trained on this model, or ``...=SCALE``.
            gateways: where to fetch from, besides the settings' own.
            allow: ``deprecated``, ``quarantined``.
            on_text: called with each piece of text as it comes.
            progress: told of the pull.
        """
        from citrate.inference.run import generate

        found = self.locate(model, gateways=gateways, allow=allow, progress=progress)
        more = self.adapter(adapter, found, gateways=gateways, allow=allow, progress=progress) if adapter else None
        return generate(
            found.path,
            found.format,
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            chat=chat,
            sandbox=sandbox,
            adapter=more.applied if more else None,
            on_text=on_text,
        )

    def push(
        self,
        target: str | Reference,
        to: str,
        *,
        wait: bool = True,
        timeout_s: float = 3600.0,
        progress: Progress | None = None,
    ) -> tuple[Pushed, ...]:
        """Copy a version (or one variant of it) with its manifest, an adapter, or any object of the store to a Kubo
        node and pin it there; and have a pinning service fetch it from that node, where ``to`` names one.

        Args:
            target: a reference, or a CID.
            to: ``kubo`` for the one of the settings, a node's address, or the name of a service that ``kubo`` knows.
            wait: whether to wait until the service has everything.
            timeout_s: how long nothing may change there.
            progress: called with the stages ``push`` (bytes) and ``pin`` (objects).

        Returns:
            How each object stands there.

        Raises:
            NotFoundError: a variant is not in the store, or the node does not know the service.
            IntegrityError: the node reports another CID than ours.
            NotPermittedError: the service refuses.
            StoreError: the node or the service does not answer, or did not pin.
        """
        from citrate.registry import pushing

        destination = pushing.Destination.parse(to, self.settings)
        items = self._items(target)
        return pushing.push(self, items, destination, wait=wait, timeout_s=timeout_s, progress=progress)

    def pushed(self, target: str | Reference, to: str, *, remove: bool = False) -> tuple[Pushed, ...]:
        """How what ``push`` copied stands there; with ``remove``, take its pins there away.

        Raises:
            NotFoundError: no such release, or the node does not know the service.
            NotPermittedError: the service refuses.
            StoreError: the node or the service does not answer.
        """
        from citrate.registry import pushing

        destination = pushing.Destination.parse(to, self.settings)
        items = self._items(target)
        return pushing.remove(items, destination) if remove else pushing.standing(items, destination)

    def _items(self, target: str | Reference) -> tuple[Item, ...]:
        from citrate.registry.cid import Cid
        from citrate.registry.pushing import Item, items_of

        if isinstance(target, str) and "/" not in target:
            return (Item("object", str(Cid.parse(target))),)
        return items_of(self, self.reference(target))

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

    # ------------------------------------------------------------------ writing

    def register_model(
        self,
        source: Path | str,
        *,
        name: str,
        version: str = "1.0.0",
        licence: str | None = None,
        variants: str | Sequence[Variant] | None = None,
        alias: str = "",
        price_wei: int = 0,
        checks: str | None = None,
        profile: str = PROFILE,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Published:
        """Convert, check and store a model, and record it with all its variants in one transaction.

        ``name`` is that of a model under the signing key's own address, or ``publisher/name`` of one that was
        taken over. The same bytes again are ``unchanged`` and send nothing. A dry run converts, tells the exact CIDs
        and what publishing would cost, sends nothing and starts nothing. With the profile ``citrate-tensor-v1`` the
        files are cut at their tensors, and who has one version fetches only the tensors of the next that changed.

        Raises:
            AlreadyExistsError: the version stands with other bytes.
            ConfigError, FormatError, UnsupportedConversionError: see `citrate.registry.publish.prepare`.
            ChainError: the transaction was not sent, or failed.
        """
        from citrate.registry import publish, publishing

        wanted = _variants(variants)
        publisher, _, name = name.rpartition("/")
        owner = self.address_of(publisher) if publisher and publisher != ME else ""
        request = publish.Request(
            Path(source), name, version, licence, wanted, alias, price_wei, owner, checks, profile
        )
        return publishing.register(self, request, dry_run=dry_run, progress=progress or _unwatched)

    def add_variants(
        self,
        ref: str | Reference,
        variants: str | Sequence[Variant],
        *,
        source: Path | str | None = None,
        checks: str | None = None,
        profile: str = PROFILE,
        dry_run: bool = False,
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Published:
        """Convert more variants for a version that stands, from ``source`` or its own safetensors variant.

        Raises:
            NotPermittedError: the version is quarantined, and ``allow`` does not say so; or the key does not own it.
        """
        from citrate.registry import publishing

        return publishing.add(
            self,
            self.reference(ref),
            _variants(variants),
            source=Path(source) if source else None,
            checks=checks,
            profile=profile,
            dry_run=dry_run,
            progress=progress or _unwatched,
            allow=allow,
        )

    def register_lora(
        self,
        source: Path | str,
        *,
        base: str,
        name: str,
        version: str = "1.0.0",
        licence: str | None = None,
        steps: int = 0,
        training: Training | None = None,
        gateways: Iterable[str] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Registered:
        """Check an adapter against the model version it was trained on, store it, and record it in one transaction.

        The same bytes again are ``unchanged`` and send nothing. A dry run stores, tells the CID and what recording
        would cost, sends nothing and starts nothing.

        Raises:
            FormatError: no LoRA adapter, or one of another base.
            NotPermittedError: the base takes no adapters, or none of the active key's.
            AlreadyExistsError: an adapter of this name and version stands with other bytes.
        """
        from citrate.registry import lora_publishing

        request = lora_publishing.Request(Path(source), base, name, version, licence, steps, training, tuple(gateways))
        return lora_publishing.register(self, request, dry_run=dry_run, progress=progress or _unwatched)

    def add_dataset(
        self, source: Path | str, *, method: str, licence: str, progress: Progress | None = None
    ) -> tuple[Card, Artifact]:
        """Check a JSONL file row by row for a training method, and keep it as a dataset, pinned.

        Raises:
            FormatError: a row is not what the method wants; the message tells its line.
            ConfigError: no such method.
        """
        from citrate.training import dataset
        from citrate.training.rows import method_of

        wanted = method_of(method)
        with self.store.writer(bare=False) as sink:
            card = dataset.write(Path(source), wanted, licence, sink, progress)
            artifact = sink.commit()
        self.store.pin(artifact.cid, "dataset")
        return card, artifact

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

    def folder(self, cid: str, reason: str, gateways: Iterable[str] = (), progress: Progress | None = None) -> Path:
        """The plain files of what a CID names, verified; fetched and pinned for ``reason`` where they are not here.

        Raises:
            FormatError: no CID, or not what citrate keeps as plain files.
            StoreError: no source has it.
        """
        if not self.store.has(cid):
            self.fetch_dag(cid, reason, gateways=gateways, progress=progress)
        return self.store.get(cid)

    def changes(self, contract: str, *, cursor: ChangeCursor | None = None, tag: str = "") -> Proved:
        """Every change of a contract that its records do not tell, proved whole at one block.

        Args:
            contract: its name, such as ``ModelRegistry``.
            cursor: what was proved before; only what came after it is read.
            tag: ``latest``, ``safe`` or ``finalized``; empty: the latest block of a devnet, else the finalized one.

        Raises:
            ChainError: the node's logs are not whole; the message names the blocks.
        """
        from citrate.registry.audit import prove_one

        return prove_one(self, contract, cursor, tag)

    def set_alias(self, ref: str | Reference, alias: str) -> Receipt | None:
        """Point ``alias`` at the version that ``ref`` names. None: it does already, and nothing was sent."""
        record = self.resolve(self.reference(ref))
        return self.chain.move_alias(self.signer(), record, alias)

    def deprecate(self, ref: str | Reference, replacement: str | Reference | None = None) -> Receipt:
        """Mark a version as superseded; it stays readable."""
        record = self.resolve(self.reference(ref))
        other = self.resolve(self.reference(replacement)).version_id if replacement else record.replacement
        return self.chain.deprecate(self.signer(), record.publisher, record.name, record.version, other)

    def offer(self, ref: str | Reference, to: str) -> Receipt:
        """Offer a model to a new owner, who takes it over with `accept`."""
        record = self.resolve(self.reference(ref))
        return self.chain.transfer(self.signer(), record.publisher, record.name, self.address_of(to))

    def accept(self, ref: str | Reference) -> Receipt:
        """Take over a model that was offered to the active key."""
        record = self.resolve(self.reference(ref))
        return self.chain.accept(self.signer(), record.publisher, record.name)


def _unwatched(stage: str, done: int, total: int, source: str = "", /) -> None:
    """Progress that nobody looks at."""


def _variants(variants: str | Sequence[Variant] | None) -> tuple[Variant, ...] | None:
    if variants is None:
        return None
    if isinstance(variants, str):
        return tuple(Variant.parse(part.strip()) for part in variants.split(","))
    return tuple(variants)
