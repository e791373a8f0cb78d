"""Copying what is published, or any object of the store, to a Kubo node, and from there to a pinning service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from citrate.core.adapters import LoraRecord
from citrate.core.errors import ConfigError, StoreError
from citrate.core.records import Reference, variant_of
from citrate.core.settings import Settings
from citrate.core.sink import Progress
from citrate.registry.kubo import Kubo
from citrate.registry.manifest import cid_of
from citrate.registry.remote_pins import WAIT_S, PinStatus, RemotePins
from citrate.registry.session import Session

KUBO = "kubo"
_REMOVED = "removed"


@dataclass(frozen=True)
class Item:
    """What is to be copied: what it is of the release, and its CID."""

    what: str
    cid: str


@dataclass(frozen=True)
class Pushed:
    """How one object stands at the destination.

    Attributes:
        status: ``pinned``, ``queued``, ``pinning``, ``failed``, ``absent``, or ``removed``.
        sent_bytes: what was sent to the Kubo node for it; 0 where that had it.
    """

    what: str
    cid: str
    status: str
    sent_bytes: int = 0


@dataclass(frozen=True)
class Destination:
    """A Kubo node and, where ``service`` is not empty, a pinning service that it knows."""

    kubo: Kubo
    service: str = ""

    @classmethod
    def parse(cls, text: str, settings: Settings) -> Destination:
        """Parse ``kubo`` (the setting ``kubo_api``), a node's address, or the name of a service that ``kubo`` knows.

        A service whose own name is ``kubo`` is written ``kubo:kubo``.

        Raises:
            ConfigError: a malformed address, or no Kubo is configured.
        """
        if "/" in text:
            return cls(Kubo(text))
        if not settings.kubo_api:
            raise ConfigError("no Kubo is configured", hint="CITRATE_KUBO_API=/ip4/127.0.0.1/tcp/5001, or --to ADDRESS")
        head, _, service = text.partition(":")
        if not text or (service and head != KUBO) or text.endswith(":"):
            raise ConfigError(
                f"{text!r} is no destination", hint="--to kubo, --to ADDRESS, or --to SERVICE that your Kubo node knows"
            )
        return cls(Kubo(settings.kubo_api), service or ("" if text == KUBO else text))

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.service or self.kubo.name

    @property
    def pins(self) -> RemotePins:
        """The pins at the service."""
        return RemotePins(self.kubo, self.service)


def items_of(session: Session, ref: Reference) -> tuple[Item, ...]:
    """What a reference is made of: an adapter; one variant and the manifest; all variants and the manifest.

    Raises:
        NotFoundError: no such model, version, variant or adapter.
        StoreError: its manifest is neither here nor with a source of the settings.
    """
    record = session.find(ref)
    if isinstance(record, LoraRecord):
        return (Item("adapter", record.lora.cid),)
    try:
        session.manifest(record)
    except StoreError as error:
        hint = f"what is pushed must be here: citrate pull {ref} first"
        raise StoreError(error.message, hint=hint, cid=error.cid) from error
    wanted = [variant_of(record, ref.variant)] if ref.variant else record.variants
    return (
        *(Item(str(variant.variant), variant.cid) for variant in wanted),
        Item("manifest", cid_of(record.manifest_sha256)),
    )


def push(
    session: Session,
    items: tuple[Item, ...],
    to: Destination,
    *,
    wait: bool = True,
    timeout_s: float = WAIT_S,
    progress: Progress | None = None,
) -> tuple[Pushed, ...]:
    """Copy objects to a Kubo node, pin them there and, where a service is named, have that pin them too.

    Args:
        session: its store has the objects.
        items: the objects.
        to: the node and the service.
        wait: whether to wait until the service has everything.
        timeout_s: how long nothing may change there.
        progress: called with the stages ``push`` (bytes) and ``pin`` (objects).

    Raises:
        NotFoundError: an object is not in the store, or the node does not know the service.
        IntegrityError: the node reports another CID than ours.
        NotPermittedError: the service refuses.
        StoreError: the node or the service does not answer, or did not pin.
    """
    if to.service:
        to.pins.status(items[0].cid)  # whether there is such a service, before anything is sent
    for item in items:
        session.store.stored(item.cid)  # whether everything is here, likewise
    sent = {item.cid: to.kubo.push(session.store, item.cid, progress) for item in items}
    if not to.service:
        return tuple(Pushed(item.what, item.cid, PinStatus.PINNED, sent[item.cid]) for item in items)
    found = {item.cid: to.pins.request(item.cid, f"citrate {item.what}") for item in items}
    if wait:
        found = dict(to.pins.wait(found, timeout_s, progress))
    return tuple(Pushed(item.what, item.cid, found[item.cid], sent[item.cid]) for item in items)


def standing(items: tuple[Item, ...], to: Destination) -> tuple[Pushed, ...]:
    """How objects stand at the destination; nothing is sent.

    Raises:
        NotFoundError: the node does not know the service.
        NotPermittedError: the service refuses.
        StoreError: the node or the service does not answer.
    """
    return tuple(Pushed(item.what, item.cid, _status(to)(item.cid)) for item in items)


def _status(to: Destination) -> Callable[[str], PinStatus]:
    if to.service:
        return to.pins.status
    return lambda cid: PinStatus.PINNED if to.kubo.is_pinned(cid) else PinStatus.ABSENT


def remove(items: tuple[Item, ...], to: Destination) -> tuple[Pushed, ...]:
    """Take the pins at the destination away; what the store has stays. A pin that is not there is ``absent``.

    Raises:
        NotFoundError: the node does not know the service.
        NotPermittedError: the service refuses.
        StoreError: the node or the service does not answer.
    """
    take = to.pins.remove if to.service else to.kubo.unpin
    return tuple(Pushed(item.what, item.cid, _REMOVED if take(item.cid) else PinStatus.ABSENT) for item in items)
