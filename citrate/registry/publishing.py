"""Recording a prepared release on chain: once, and never twice.

The order is: convert and store, estimate, sign, store the manifest, pin, send. The bytes are there before the chain
says so, and a run that dies at any point is finished by running it again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import AlreadyExistsError, ConfigError, NotFoundError
from citrate.core.records import Format, Reference, Variant, VersionRecord
from citrate.core.sink import Progress
from citrate.registry import ids, permission, signatures
from citrate.registry import manifest as manifests
from citrate.registry.conversions import Conversions
from citrate.registry.keeping import kept
from citrate.registry.manifest import Manifest, Signature, VariantEntry
from citrate.registry.payload import ReleasePayload
from citrate.registry.publish import Release, Request, extend, prepare, require_same
from citrate.registry.session import Session

if TYPE_CHECKING:
    from citrate.registry.chain import Receipt
    from citrate.registry.signer import Signer


@dataclass(frozen=True)
class Published:
    """What `register_model` and `add_variants` did, or with ``dry_run`` would do."""

    ref: str
    model_id: str
    version_id: str
    status: str
    """``published``, ``unchanged`` (the chain holds exactly these bytes) or ``dry_run``."""
    tx_hash: str
    gas_used: int | None
    """Estimated in a dry run; None where no chain runs to ask."""
    fee_wei: int | None
    manifest_cid: str
    manifest_sha256: str
    manifest_size_bytes: int
    entries: tuple[VariantEntry, ...]
    skipped: tuple[tuple[Variant, str], ...]
    reach: str
    """Who can fetch the bytes now, and the next command."""
    taken_up: bool = False
    """Whether an earlier command, which was cut off, had sent the transaction."""


def register(session: Session, request: Request, *, dry_run: bool, progress: Progress) -> Published:
    """Publish a version, unless the chain holds exactly these bytes.

    Raises:
        AlreadyExistsError: the version stands with other bytes.
        NotFoundError: no key, where none is made by itself.
    """
    if not dry_run:
        session.require_writable()
    release = prepare(request, session.store, _conversions(session), progress)
    if dry_run:
        return _dry_run(session, release, request.publisher)
    signer = session.signer()
    release = release.by(request.publisher or signer.address)
    standing = _standing(session, release)
    if standing is not None:
        return _unchanged(session, standing, release)
    release = _signed(release, signer, session)
    with _keep(session, release):
        try:
            receipt = session.chain.publish(signer, _payload(release), release.alias)
        except AlreadyExistsError:
            standing = _standing(session, release)  # another run of the same came first
            if standing is None:
                raise
            return _unchanged(session, standing, release)
    return _told(session, release, "published", receipt)


def add(
    session: Session,
    ref: str | Reference,
    variants: tuple[Variant, ...] | None,
    *,
    source: Path | None,
    checks: str | None,
    profile: str,
    dry_run: bool,
    progress: Progress,
    allow: frozenset[str] = frozenset(),
) -> Published:
    """Convert and record more variants for a version that stands.

    Raises:
        NotPermittedError: the version is quarantined, and ``allow`` does not say so.
        AlreadyExistsError: the version has one of them.
        ConfigError: no source given, and the version has no safetensors variant to convert from.
    """
    record = session.resolve(ref)
    permission.require_standing(session, record.version_id, record.ref, record.status, allow)
    base = session.manifest(record)
    folder = source or _own_source(session, record, base, progress)
    request = Request(folder, record.name, record.version, None, variants, checks=checks, profile=profile)
    release = extend(
        request,
        base,
        record.manifest_sha256,
        session.store,
        _conversions(session),
        progress,
        own_source=source is None,
    )
    if dry_run:
        gas, fee = session.chain.estimate_add_variants(record, release.manifest.sha256(), release.variants)
        return _told(session, release, "dry_run", Cost(gas, fee))
    signer = session.signer()
    release = _signed(release, signer, session)
    with _keep(session, release):
        receipt = session.chain.add_variants(signer, record, release.manifest.sha256(), release.variants)
    return _told(session, release, "published", receipt)


def _standing(session: Session, release: Release) -> VersionRecord | None:
    manifest = release.manifest
    try:
        record = session.chain.resolve(manifest.publisher, manifest.name, manifest.version)
    except NotFoundError:
        return None
    if record.version != manifest.version:
        raise AlreadyExistsError(
            f"{manifest.version!r} is an alias of {record.ref}", hint="choose a version that is no alias: --version"
        )
    return record


def _unchanged(session: Session, record: VersionRecord, release: Release) -> Published:
    """The chain holds exactly these bytes; nothing is sent.

    Raises:
        AlreadyExistsError: other bytes or another price stand there, or the alias names something else.
    """
    require_same(record, release)
    require_alias(session, record, release.alias)
    standing = replace(release, manifest=session.manifest(record))
    with _keep(session, standing):
        return _told(session, standing, "unchanged", Cost(0, 0))


def require_alias(session: Session, record: VersionRecord, alias: str) -> None:
    """A version that stands gets an alias by `alias set`, not by being published again."""
    if not alias:
        return
    try:
        target = session.chain.alias_of(record.publisher, record.name, alias).version_id
    except NotFoundError:
        target = ""
    if target != record.version_id:
        raise AlreadyExistsError(
            f"{record.ref} stands already, and {alias!r} does not name it",
            hint=f"citrate alias set {record.ref} {alias}",
        )


# ---------------------------------------------------------------------- signing and storing


def _signed(release: Release, signer: Signer, session: Session) -> Release:
    manifest = release.manifest
    value = signatures.sign(signer, manifest.unsigned_sha256(), session.registry_address)
    return replace(release, manifest=manifest.signed(Signature(signer=signer.address, kind="eoa", value=value)))


def _payload(release: Release) -> ReleasePayload:
    manifest = release.manifest
    return ReleasePayload(
        publisher=manifest.publisher,
        name=manifest.name,
        version=manifest.version,
        licence=manifest.licence.spdx,
        manifest_sha256=manifest.sha256(),
        variants=release.variants,
        price_wei=release.price_wei,
    )


def _keep(session: Session, release: Release) -> AbstractContextManager[None]:
    """Store the manifest and keep everything: the bytes are there before the chain says so."""
    session.store.put_block(release.manifest.encode())
    return kept(session.store, _objects(release), _reason(release))


def _objects(release: Release) -> list[str]:
    return [manifests.cid_of(release.manifest.sha256()), *(variant.cid for variant in release.variants)]


def _reason(release: Release) -> str:
    return f"published {release.manifest.name}@{release.manifest.version}"


def _conversions(session: Session) -> Conversions:
    return Conversions(session.settings.home / "conversions")


def _own_source(session: Session, record: VersionRecord, base: Manifest, progress: Progress) -> Path:
    """The version's safetensors variant, pulled: what its other variants can be made from."""
    from citrate.registry.retrieve import pull

    for variant in record.variants:
        if variant.variant == Variant(Format.SAFETENSORS):
            return pull(record, base, variant.variant, session.store, session.sources(), progress).path
    raise ConfigError(f"{record.ref} has no safetensors variant to convert from", hint="--source DIR")


# ---------------------------------------------------------------------- telling


@dataclass(frozen=True)
class Cost:
    """What a transaction that was not sent would take; None where no chain runs to ask."""

    gas_used: int | None
    fee_wei: int | None
    tx_hash: str = ""
    taken_up: bool = False


def _told(session: Session, release: Release, status: str, cost: Cost | Receipt) -> Published:
    manifest = release.manifest
    model_id = ids.model_id(manifest.publisher, manifest.name)
    sha256 = manifest.sha256()
    wanted = {str(variant.variant) for variant in release.variants}
    return Published(
        ref=f"{manifest.publisher}/{manifest.name}@{manifest.version}",
        model_id=model_id,
        version_id=ids.version_id(model_id, manifest.version),
        status=status,
        tx_hash=cost.tx_hash,
        gas_used=cost.gas_used,
        fee_wei=cost.fee_wei,
        manifest_cid=manifests.cid_of(sha256),
        manifest_sha256=sha256,
        manifest_size_bytes=len(manifest.encode()),
        entries=tuple(entry for entry in manifest.variants if entry.variant in wanted),
        skipped=release.skipped,
        reach=_reach(session, manifest),
        taken_up=cost.taken_up,
    )


def _reach(session: Session, manifest: Manifest) -> str:
    ref = f"me/{manifest.name}@{manifest.version}"
    serve = "citrate gateway" if not session.settings.kubo_api else f"citrate push {ref} --to kubo"
    return f"warning: only this machine has the bytes; next: {serve}"


def _dry_run(session: Session, release: Release, publisher: str) -> Published:
    """What publishing would record and cost; signs if there is a key, so that the manifest's CID is the real one."""
    try:
        signer = session.signer_at_rest()
    except NotFoundError:
        session.notify("no key yet, and the manifest's CID depends on it: it is not told (citrate key new)")
        told = _told(session, release, "dry_run", Cost(None, None))
        ref = f"me/{release.manifest.name}@{release.manifest.version}"
        return replace(
            told, ref=ref, model_id="", version_id="", manifest_cid="", manifest_sha256="", manifest_size_bytes=0
        )
    release = _signed(release.by(publisher or signer.address), signer, session)
    if not session.chain_is_up():
        session.notify("no chain runs, so gas and fee are not estimated (citrate devnet up)")
        return _told(session, release, "dry_run", Cost(None, None))
    standing = _standing(session, release)
    if standing is not None:
        require_same(standing, release)
        require_alias(session, standing, release.alias)
        return _told(session, release, "dry_run", Cost(0, 0))
    gas, fee = session.chain.estimate_publish(signer.address, _payload(release), release.alias)
    return _told(session, release, "dry_run", Cost(gas, fee))
