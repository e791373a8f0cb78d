"""What is made known: models, adapters and datasets are recorded, copied to others, and passed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.records import PROFILE, Reference, Variant
from citrate.core.sink import Progress, unwatched
from citrate.facade.reading import Reading
from citrate.registry.session import ME

if TYPE_CHECKING:
    from citrate.core.adapters import Training
    from citrate.core.records import Artifact
    from citrate.registry.chain import Receipt
    from citrate.registry.lora_publishing import Registered
    from citrate.registry.publishing import Published
    from citrate.registry.pushing import Item, Pushed
    from citrate.training.dataset import Card


class Publishing(Reading):
    """What writes: to the chain with the active key, to the store, to other nodes."""

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
        return publishing.register(self, request, dry_run=dry_run, progress=progress or unwatched)

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
            progress=progress or unwatched,
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
        return lora_publishing.register(self, request, dry_run=dry_run, progress=progress or unwatched)

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


def _variants(variants: str | Sequence[Variant] | None) -> tuple[Variant, ...] | None:
    if variants is None:
        return None
    if isinstance(variants, str):
        return tuple(Variant.parse(part.strip()) for part in variants.split(","))
    return tuple(variants)
