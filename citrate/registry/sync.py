"""A validator's mirror: follow the registry, fetch what the policy wants, verify it, pin it, remember where we are.

One pass reads every record since the cursor (proved complete by the records' back-references, not by logs), fetches
and pins, and remembers the versions that no source had, to try them again. What moderation comes to refuse is let go,
and taken in again when it is cleared. A pass that is killed is finished by the next; a changed policy begins anew, and
finds what is here already.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from citrate.core.amounts import ether
from citrate.core.errors import CitrateError, NotFoundError
from citrate.core.records import Status, VariantRecord, VersionRecord
from citrate.core.sink import Progress
from citrate.registry import atomic
from citrate.registry.manifest import Manifest, cid_of
from citrate.registry.record_chain import Cursor
from citrate.registry.retrieve import pull
from citrate.registry.session import Session
from citrate.registry.sync_cases import Watch, refused_since
from citrate.registry.sync_policy import Policy

PIN_REASON = "sync"


@dataclass(frozen=True)
class Event:
    """What happened to one variant of one version."""

    ref: str
    variant: str
    status: str
    """``fetched``, ``present``, ``skipped``, ``failed``; ``dropped``: moderation refuses what was kept until now."""
    reason: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class Pass:
    """What one pass did. ``failed`` variants are tried again by the next one."""

    cursor_block: int
    fetched: int
    verified: int
    """Variants that are here and verified: fetched now, or present before."""
    failed: int
    bytes: int
    """Bytes fetched."""
    dropped: int
    """Variants that are no longer kept, because moderation refuses them."""


@dataclass(frozen=True)
class _State:
    """Where a mirror is: what it has seen, and the versions that it has to look at again."""

    cursor: Cursor | None = None
    """The newest record."""
    missing: tuple[str, ...] = ()
    """Versions of which something is not here yet."""
    quarantined: tuple[str, ...] = ()
    """Versions that are quarantined, and may be cleared."""
    watch: Watch = field(default_factory=Watch)


class Mirror:
    """The mirror of one registry in one home."""

    def __init__(self, session: Session, policy: Policy) -> None:
        self._session = session
        self._policy = policy
        chain = session.chain
        self._path = session.settings.home / "sync" / f"{chain.chain_id}-{chain.registry_address.lower()}.json"

    def run_once(self, on_event: Callable[[Event], None], progress: Progress | None = None) -> Pass:
        """Follow the registry to its head, and try again what was missing before.

        Raises:
            ChainError: the chain does not answer, or its answer is not complete.
        """
        before = self._state()
        new = self._session.chain.records_since(before.cursor)
        if new.reorganised:
            self._session.notify("the chain was reorganised: following it from its first record")
        refused, watch = self._refused(before)
        events: list[Event] = []
        missing: list[str] = []
        quarantined: list[str] = []
        # a version stands once for its release and once for each addition: its newest state is taken in once
        again = (*before.missing, *before.quarantined, *refused)
        for version_id in dict.fromkeys([*again, *(entry.version_id for entry in new.entries)]):
            record = self._record(version_id)
            if record is None:
                continue
            if self._refuses(record):
                found = self._drop(record, known=version_id in before.quarantined)
                if record.status is not Status.REMOVED:
                    quarantined.append(version_id)
            else:
                found = self._take_in(record, progress)
            for event in found:
                on_event(event)
            events += found
            if any(event.status == "failed" for event in found):
                missing.append(version_id)
        self._keep(_State(new.cursor, tuple(missing), tuple(quarantined), watch))
        return _summary(new.cursor.block_number, events)

    def _state(self) -> _State:
        """Where the last pass stopped; the beginning, if the policy has changed since."""
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            if kept["policy"] != self._policy.fingerprint():
                self._session.notify("the policy has changed: following the chain from its first record")
                return _State()
            at = kept["cursor"]
            cursor = Cursor(str(at["record"]), int(at["count"]), int(at["block_number"]))
            watch = Watch(str(kept["watch"]["moderation"]), int(kept["watch"]["settled"]))
            return _State(cursor, tuple(map(str, kept["missing"])), tuple(map(str, kept["quarantined"])), watch)
        except FileNotFoundError:
            return _State()
        except (OSError, ValueError, KeyError, TypeError):
            self._session.notify(f"{self._path} is damaged: following the chain from its first record")
            return _State()

    def _keep(self, state: _State) -> None:
        document = {"policy": self._policy.fingerprint(), **asdict(state)}
        atomic.write_atomic(self._path, json.dumps(document).encode())

    def _refused(self, before: _State) -> tuple[tuple[str, ...], Watch]:
        return ((), Watch()) if self._policy.quarantined else refused_since(self._session, before.watch)

    def _refuses(self, record: VersionRecord) -> bool:
        return bool(record.quarantined) and not self._policy.quarantined

    def _record(self, version_id: str) -> VersionRecord | None:
        try:
            return self._session.chain.version(version_id)
        except NotFoundError:
            return None  # an adapter; or a reorganised chain no longer has a version that was missing

    def _drop(self, record: VersionRecord, *, known: bool) -> list[Event]:
        """Keep nothing of a version; the store's ``gc`` deletes it. ``known``: it was told before."""
        store, dropped = self._session.store, []
        for cid, name in [(v.cid, str(v.variant)) for v in record.variants] + [(cid_of(record.manifest_sha256), "")]:
            for reason in {_reason(record), f"pulled {record.ref}"} & set(store.pins(cid)):
                store.unpin(cid, reason)
                dropped.append(name)
        if not dropped and not known:
            return [Event(record.ref, "", "skipped", str(record.status))]
        return [Event(record.ref, name, "dropped", str(record.status)) for name in dict.fromkeys(dropped) if name]

    def _take_in(self, record: VersionRecord, progress: Progress | None) -> list[Event]:
        if record.deprecated and not self._policy.deprecated:
            return [Event(record.ref, "", "skipped", "deprecated")]
        if record.price_now_wei and not self._policy.priced:
            return [Event(record.ref, "", "skipped", f"costs {ether(record.price_now_wei)}")]
        wanted = [variant for variant in record.variants if variant.variant.format in self._policy.formats]
        try:
            manifest = self._session.manifest(record)
        except CitrateError as error:
            return [Event(record.ref, str(variant.variant), "failed", error.message) for variant in wanted]
        self._session.store.pin(cid_of(record.manifest_sha256), _reason(record))
        return [self._take_variant(record, manifest, variant, progress) for variant in wanted]

    def _take_variant(
        self, record: VersionRecord, manifest: Manifest, variant: VariantRecord, progress: Progress | None
    ) -> Event:
        store, name = self._session.store, str(variant.variant)
        try:
            if not store.has(variant.cid) and self._held_bytes() + variant.size_bytes > self._policy.max_total_gb * 1e9:
                return Event(record.ref, name, "skipped", f"max_total_gb = {self._policy.max_total_gb:g} is reached")
            pulled = pull(record, manifest, variant.variant, store, self._session.sources(), progress)
            store.pin(variant.cid, _reason(record))
        except CitrateError as error:
            return Event(record.ref, name, "failed", error.message)
        status = "present" if pulled.source == "store" else "fetched"
        return Event(record.ref, name, status, size_bytes=variant.size_bytes)

    def _held_bytes(self) -> int:
        store = self._session.store
        return sum(
            item.size_bytes
            for item in store.ls()
            if any(reason.startswith(f"{PIN_REASON} ") for reason in store.pins(item.cid))
        )


def _reason(record: VersionRecord) -> str:
    """Why something is pinned; by version, because two versions may share bytes."""
    return f"{PIN_REASON} {record.ref}"


def _summary(block_number: int, events: list[Event]) -> Pass:
    def count(*statuses: str) -> int:
        return sum(event.status in statuses for event in events)

    return Pass(
        cursor_block=block_number,
        fetched=count("fetched"),
        verified=count("fetched", "present"),
        failed=count("failed"),
        bytes=sum(event.size_bytes for event in events if event.status == "fetched"),
        dropped=count("dropped"),
    )
