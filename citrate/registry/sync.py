"""A validator's mirror: follow the registry, fetch what the policy wants, verify it, pin it, remember where we are.

One pass reads every record since the cursor (proved complete by the records' back-references, not by logs), fetches
and pins, and remembers the versions that no source had, to try them again. A pass that is killed is finished by the
next; a changed policy begins anew, and finds what is here already.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citrate.core.errors import CitrateError, ConfigError, NotFoundError
from citrate.core.records import Format, VariantRecord, VersionRecord
from citrate.core.sink import Progress
from citrate.registry import atomic
from citrate.registry.manifest import Manifest, cid_of
from citrate.registry.queries import Cursor
from citrate.registry.retrieve import pull
from citrate.registry.session import Session

PIN_REASON = "sync"


class Policy(BaseModel):
    """What to mirror. A policy file is TOML with these keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: frozenset[Format] = frozenset(Format)
    """Variants of these formats."""
    max_total_gb: float = Field(default=float("inf"), gt=0)
    """Stop taking in new variants when the mirror's own objects would be larger (decimal GB)."""
    deprecated: bool = False
    """Also take in versions that are deprecated when they are first seen."""

    @classmethod
    def load(cls, path: Path | None) -> Policy:
        """Read a policy file; without one everything is mirrored.

        Raises:
            NotFoundError: no such file.
            ConfigError: not TOML, an unknown key, or a value of the wrong kind.
        """
        if path is None:
            return cls()
        if not path.is_file():
            raise NotFoundError(
                f"no such policy file: {path}", hint='a policy is TOML: formats = ["gguf"], max_total_gb = 100'
            )
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"{path}: {where}: {first['msg']}", hint="keys: formats, max_total_gb, deprecated"
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="a policy is TOML") from error

    def fingerprint(self) -> str:
        """Two policies with the same one want the same."""
        wanted = f"{sorted(self.formats)} {self.max_total_gb} {self.deprecated}"
        return hashlib.sha256(wanted.encode()).hexdigest()


@dataclass(frozen=True)
class Event:
    """What happened to one variant of one version."""

    ref: str
    variant: str
    status: str
    """``fetched``, ``present``, ``skipped`` or ``failed``."""
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


@dataclass(frozen=True)
class _State:
    """Where a mirror is: the newest record it has seen, and the versions of which something is not here yet."""

    cursor: Cursor | None = None
    missing: tuple[str, ...] = ()


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
        events: list[Event] = []
        missing: list[str] = []
        # a version stands once for its release and once for each addition: its newest state is taken in once
        for version_id in dict.fromkeys([*before.missing, *(entry.version_id for entry in new.entries)]):
            found = self._take_in_version(version_id, progress)
            for event in found:
                on_event(event)
            events += found
            if any(event.status == "failed" for event in found):
                missing.append(version_id)
        self._keep(_State(new.cursor, tuple(missing)))
        taken = [event for event in events if event.status == "fetched"]
        return Pass(
            cursor_block=new.cursor.block_number,
            fetched=len(taken),
            verified=sum(event.status in ("fetched", "present") for event in events),
            failed=sum(event.status == "failed" for event in events),
            bytes=sum(event.size_bytes for event in taken),
        )

    def _state(self) -> _State:
        """Where the last pass stopped; the beginning, if the policy has changed since."""
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            if kept["policy"] != self._policy.fingerprint():
                self._session.notify("the policy has changed: following the chain from its first record")
                return _State()
            at = kept["cursor"]
            cursor = Cursor(str(at["record"]), int(at["count"]), int(at["block_number"]))
            return _State(cursor, tuple(map(str, kept["missing"])))
        except FileNotFoundError:
            return _State()
        except (OSError, ValueError, KeyError, TypeError):
            self._session.notify(f"{self._path} is damaged: following the chain from its first record")
            return _State()

    def _keep(self, state: _State) -> None:
        document = {"policy": self._policy.fingerprint(), **asdict(state)}
        atomic.write_atomic(self._path, json.dumps(document).encode())

    def _take_in_version(self, version_id: str, progress: Progress | None) -> list[Event]:
        try:
            return self._take_in(self._session.chain.version(version_id), progress)
        except NotFoundError:
            return []  # a reorganised chain no longer has a version that was missing

    def _take_in(self, record: VersionRecord, progress: Progress | None) -> list[Event]:
        if record.deprecated and not self._policy.deprecated:
            return [Event(record.ref, "", "skipped", "deprecated")]
        wanted = [variant for variant in record.variants if variant.variant.format in self._policy.formats]
        try:
            manifest = self._session.manifest(record)
        except CitrateError as error:
            return [Event(record.ref, str(variant.variant), "failed", error.message) for variant in wanted]
        self._session.store.pin(cid_of(record.manifest_sha256), PIN_REASON)
        return [self._take_variant(record, manifest, variant, progress) for variant in wanted]

    def _take_variant(
        self, record: VersionRecord, manifest: Manifest, variant: VariantRecord, progress: Progress | None
    ) -> Event:
        store, name = self._session.store, str(variant.variant)
        try:
            if not store.has(variant.cid) and self._held_bytes() + variant.size_bytes > self._policy.max_total_gb * 1e9:
                return Event(record.ref, name, "skipped", f"max_total_gb = {self._policy.max_total_gb:g} is reached")
            pulled = pull(record, manifest, variant.variant, store, self._session.sources(), progress)
            store.pin(variant.cid, PIN_REASON)
        except CitrateError as error:
            return Event(record.ref, name, "failed", error.message)
        status = "present" if pulled.source == "store" else "fetched"
        return Event(record.ref, name, status, size_bytes=variant.size_bytes)

    def _held_bytes(self) -> int:
        store = self._session.store
        return sum(item.size_bytes for item in store.ls() if PIN_REASON in store.pins(item.cid))
