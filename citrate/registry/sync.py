"""A validator's mirror: follow the registries, fetch what the policy wants, verify it, pin it, remember where we are.

One pass reads every record since the cursors, models' and adapters' (proved complete by the records' back-references,
not by logs), fetches and pins, and remembers what no source had, to try it again. What moderation comes to refuse is
let go, and taken in again when it is cleared. Every other change of the contracts is read once and proved against
their change roots. A pass that is killed is finished by the next; a changed policy begins anew, and finds what is here
already.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from pydantic import TypeAdapter

from citrate.core.adapters import LoraRecord
from citrate.core.amounts import ether
from citrate.core.errors import CitrateError, FormatError, NotFoundError
from citrate.core.records import Status, VariantRecord, VersionRecord
from citrate.core.sink import Progress
from citrate.registry import adapters, atomic
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.change_watch import ChangeState, advance, awaited
from citrate.registry.lora_views import LORA
from citrate.registry.manifest import Manifest, cid_of
from citrate.registry.permission import warn_ungoverned
from citrate.registry.record_chain import Cursor
from citrate.registry.retrieve import pull
from citrate.registry.session import Session
from citrate.registry.store.pins import PULLED
from citrate.registry.sync_cases import Watch, refused_since
from citrate.registry.sync_policy import Policy

PIN_REASON = "sync"


@dataclass(frozen=True)
class Event:
    """What happened to one variant of one version, or to an adapter."""

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
    changes_verified: int | None = 0
    """Changes of the contracts that are no records, read and proved by this pass; None while a contract is too new to
    be in the block at which they are proved."""


@dataclass(frozen=True)
class _State:
    """Where a mirror is: what it has seen, and the versions and adapters that it has to look at again."""

    cursor: Cursor | None = None
    """The newest record of a model."""
    adapters: Cursor | None = None
    """The newest record of an adapter."""
    missing: tuple[str, ...] = ()
    """Those of which something is not here yet."""
    quarantined: tuple[str, ...] = ()
    """Those that are quarantined, and may be cleared."""
    watch: Watch = field(default_factory=Watch)
    changes: ChangeState = field(default_factory=ChangeState)


class Mirror:
    """The mirror of one chain's registries in one home."""

    def __init__(self, session: Session, policy: Policy) -> None:
        self._session = session
        self._policy = policy
        chain = session.chain
        self._path = session.settings.home / "sync" / f"{chain.chain_id}-{chain.registry_address.lower()}.json"

    def run_once(self, on_event: Callable[[Event], None], progress: Progress | None = None) -> Pass:
        """Follow the registries to their heads, try again what was missing before, and prove what else has changed.

        Raises:
            ConfigError: nothing stands on the chain of the authority that the settings name.
            ChainError: the chain does not answer, or its answer is not complete. What was taken in before that is kept.
        """
        self._session.chain.require_governed()
        warn_ungoverned(self._session)
        before = self._state()
        ids, after = self._news(before)
        events: list[Event] = []
        missing: list[str] = []
        quarantined: list[str] = []
        for id_ in ids:
            try:
                record = self._record(id_)
            except CitrateError as error:
                self._session.chain.pin()  # where the chain does not answer at all, the pass ends here
                record, found = None, [Event(id_, "", "failed", error.message)]
                quarantined += [id_] if id_ in before.quarantined else []
            else:
                found = self._look_after(record, progress, known=id_ in before.quarantined) if record else []
            if record and self._refuses(record) and record.status is not Status.REMOVED:
                quarantined.append(id_)
            for event in found:
                on_event(event)
            events += found
            if any(event.status == "failed" for event in found):
                missing.append(id_)
        after = replace(after, missing=tuple(missing), quarantined=tuple(quarantined))
        self._keep(after)
        changes, proved = advance(self._session.chain, before.changes)
        self._keep(replace(after, changes=changes))
        assert after.cursor is not None
        told = _summary(after.cursor.block_number, events)
        if awaited(self._session.chain, proved):
            return replace(told, changes_verified=None)
        return replace(told, changes_verified=sum(len(each.changes) for each in proved))

    def _news(self, before: _State) -> tuple[list[str], _State]:
        """The versions and adapters to look at, each once, and how far the chain is followed with them.

        A version stands once for its release and once for each addition; its newest state is taken in once.
        """
        chain, loras = self._session.chain, self._session.loras
        models = chain.records_since(before.cursor)
        found = [entry.version_id for entry in models.entries]
        lora_cursor, reorganised = None, models.reorganised
        if self._policy.adapters and chain.find(LORA_REGISTRY):
            trained = loras.records_since(before.adapters)
            found += [entry.id for entry in trained.entries if entry.kind == LORA]
            lora_cursor, reorganised = trained.cursor, reorganised or trained.reorganised
        if reorganised:
            self._session.notify("the chain was reorganised: following it from its first record")
        refused, watch = self._refused(before)
        first = set(refused).difference(before.quarantined)
        if first and chain.find(LORA_REGISTRY):  # what is built on them, adapters and merged versions, is refused too
            refused += tuple(entry.id for entry in loras.records_since().entries if entry.base in first)
        ids = list(dict.fromkeys([*before.missing, *before.quarantined, *refused, *found]))
        return ids, replace(before, cursor=models.cursor, adapters=lora_cursor, watch=watch)

    def _state(self) -> _State:
        """Where the last pass stopped; the beginning, if the policy has changed since."""
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            state = TypeAdapter(_State).validate_python(kept["state"])
            if kept["policy"] != self._policy.fingerprint():
                self._session.notify("the policy has changed: following the chain from its first record")
                return _State(changes=state.changes)
            return state
        except FileNotFoundError:
            return _State()
        except (OSError, ValueError, KeyError, TypeError):
            self._session.notify(f"{self._path} is damaged: following the chain from its first record")
            return _State()

    def _keep(self, state: _State) -> None:
        document = {"policy": self._policy.fingerprint(), "state": asdict(state)}
        atomic.write_atomic(self._path, json.dumps(document).encode())

    def _refused(self, before: _State) -> tuple[tuple[str, ...], Watch]:
        return ((), Watch()) if self._policy.quarantined else refused_since(self._session, before.watch)

    def _refuses(self, record: VersionRecord | LoraRecord) -> bool:
        return bool(record.quarantined) and not self._policy.quarantined

    def _record(self, id_: str) -> VersionRecord | LoraRecord | None:
        session = self._session
        with contextlib.suppress(NotFoundError):
            return session.chain.version(id_)
        with contextlib.suppress(NotFoundError):
            return session.loras.get(id_) if session.chain.find(LORA_REGISTRY) else None
        return None  # a reorganised chain no longer has what was missing

    def _look_after(self, record: VersionRecord | LoraRecord, progress: Progress | None, *, known: bool) -> list[Event]:
        """Take in or let go one record; whatever is wrong with it stops nothing else. ``known``: see ``_drop``."""
        try:
            return self._drop(record, known=known) if self._refuses(record) else self._take_in(record, progress)
        except CitrateError as error:
            return [Event(record.ref, "", "failed", error.message)]

    def _drop(self, record: VersionRecord | LoraRecord, *, known: bool) -> list[Event]:
        """Keep nothing of a version or adapter; the store's ``gc`` deletes it. ``known``: it was told before."""
        store, dropped = self._session.store, []
        if isinstance(record, LoraRecord):
            kept = [(record.lora.cid, str(record.variant.variant))]
        else:
            kept = [(v.cid, str(v.variant)) for v in record.variants] + [(cid_of(record.manifest_sha256), "")]
        for cid, name in kept:
            for reason in {_reason(record), PULLED + record.ref} & set(store.pins(cid)):
                store.unpin(cid, reason)
                dropped.append(name)
        if not dropped and not known:
            return [Event(record.ref, "", "skipped", str(record.status))]
        return [Event(record.ref, name, "dropped", str(record.status)) for name in dict.fromkeys(dropped) if name]

    def _take_in(self, record: VersionRecord | LoraRecord, progress: Progress | None) -> list[Event]:
        if isinstance(record, LoraRecord):
            return [self._take_adapter(record, progress)] if self._policy.adapters else []
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

    def _take_adapter(self, record: LoraRecord, progress: Progress | None) -> Event:
        store, lora, name = self._session.store, record.lora, str(record.variant.variant)
        try:
            if not store.has(lora.cid) and self._held_bytes() + lora.size_bytes > self._policy.max_total_gb * 1e9:
                return Event(record.ref, name, "skipped", f"max_total_gb = {self._policy.max_total_gb:g} is reached")
            pulled = adapters.pull(self._session, record, self._session.sources(), progress)
            store.pin(lora.cid, _reason(record))
        except FormatError as error:
            return Event(record.ref, name, "skipped", error.message)  # it never becomes an adapter
        except CitrateError as error:
            return Event(record.ref, name, "failed", error.message)
        status = "present" if pulled.source == "store" else "fetched"
        return Event(record.ref, name, status, size_bytes=lora.size_bytes)

    def _held_bytes(self) -> int:
        store = self._session.store
        return sum(
            item.size_bytes
            for item in store.ls()
            if any(reason.startswith(f"{PIN_REASON} ") for reason in store.pins(item.cid))
        )


def _reason(record: VersionRecord | LoraRecord) -> str:
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
