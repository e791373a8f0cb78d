"""From a version's record on chain to verified bytes on this machine.

Order of trust: the chain's record, then the manifest (its hash is on chain, its signature is the owner's), then the
files (their hashes are in the manifest). Nothing is used before its hash matched.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.digests import listing_sha256
from citrate.core.errors import IntegrityError, NotFoundError
from citrate.core.records import Artifact, FileEntry, Variant, VariantRecord, VersionRecord, variant_of
from citrate.core.sink import Progress
from citrate.registry import manifest as manifests
from citrate.registry import signatures
from citrate.registry.chain import Chain
from citrate.registry.fetching import fetch_artifact, fetch_files, find_block
from citrate.registry.fetching.outside import hand_out, lacking
from citrate.registry.manifest import Manifest, VariantEntry
from citrate.registry.sources import Source
from citrate.registry.store import Store
from citrate.registry.store.pins import PULLED
from citrate.registry.unixfs import address


@dataclass(frozen=True)
class Pulled:
    """A variant on this machine, verified."""

    path: Path
    variant: VariantRecord
    source: str
    """Who gave the bytes: ``store``, the sources' names, or ``out``, which had the files."""
    fetched_bytes: int
    dropped: tuple[str, ...] = ()
    """Sources that gave wrong bytes on the way."""
    files: tuple[FileEntry, ...] = ()
    """Where only some files were asked for: which ones came."""
    chat_template_sha256: str = ""
    """Of the chat template that the manifest names; empty for none."""


@dataclass(frozen=True)
class Patterns:
    """Which files are wanted, as a shell writes it: ``*`` stands for slashes, too; what ends in ``/`` is a folder."""

    include: tuple[str, ...] = ()
    """Empty: all."""
    exclude: tuple[str, ...] = ()

    def of(self, files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
        """Those of ``files`` that are wanted."""
        return tuple(
            file
            for file in files
            if (not self.include or _fits(file.path, self.include)) and not _fits(file.path, self.exclude)
        )


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern + "*" * pattern.endswith("/")) for pattern in patterns)


@dataclass(frozen=True)
class FileVerdict:
    """A file against what the chain commits to. ``actual`` is empty where the file is missing."""

    path: str
    ok: bool
    expected: str
    actual: str


def read_manifest(
    record: VersionRecord, chain: Chain, store: Store, sources: Sequence[Source], warn: Callable[[str], None]
) -> Manifest:
    """The newest manifest of a version: fetched where it is not stored, or damaged, and held against the chain.

    ``warn`` is told of a contract wallet that no longer confirms its signature: then the chain's record decides.

    Raises:
        IntegrityError: other bytes than the chain commits to, lists that differ from it, or a wrong signature.
        StoreError: no source has it.
    """
    block_cid = manifests.cid_of(record.manifest_sha256)
    data = find_block(block_cid, store, sources)
    manifest = manifests.parse(data, record.manifest_sha256)
    manifests.check_against(manifest, record)
    warning = require_signature(manifest, record, chain)
    if warning:
        warn(warning)
    if not store.has(block_cid):
        store.put_block(data)
    return manifest


def require_signature(manifest: Manifest, record: VersionRecord, chain: Chain) -> str:
    """Check that who owned the model when the manifest was recorded signed it; returns a warning, or nothing.

    Raises:
        IntegrityError: no signature, another signer, or a signature that does not fit.
    """
    signature, owner = manifest.signature, record.signers[-1]
    if signature is None:
        raise IntegrityError(
            f"{record.ref}: the manifest is not signed", path="manifest.signature", expected=owner, actual="none"
        )
    if signature.signer.lower() != owner.lower():
        raise IntegrityError(
            f"{record.ref}: the manifest is signed by {signature.signer}, the chain says {owner}",
            path="manifest.signature",
            expected=owner,
            actual=signature.signer,
        )
    return signatures.require_valid(chain, owner, manifest.unsigned_sha256(), signature.kind, signature.value)


def pull(
    record: VersionRecord,
    manifest: Manifest,
    variant: Variant,
    store: Store,
    sources: Sequence[Source],
    progress: Progress | None = None,
) -> Pulled:
    """Fetch one variant into the store, verified block by block and file by file; what is there already is kept,
    and mended where it was damaged.

    Raises:
        NotFoundError: the version has no such variant.
        NotPermittedError: it does not fit under the store's limit.
        IntegrityError: a byte is not what the chain says; nothing of it is kept.
        StoreError: no source has it.
    """
    on_chain = variant_of(record, variant)
    expected = manifest.entry(variant).artifact()
    manifest_cid = manifests.cid_of(record.manifest_sha256)
    if not store.has(expected.cid):
        store.make_room(expected.size_bytes, spared={manifest_cid})
    fetched = fetch_artifact(expected, store, sources, progress)
    for cid in (expected.cid, manifest_cid):
        store.pin(cid, PULLED + record.ref)
    return Pulled(fetched.path, on_chain, fetched.source, fetched.fetched_bytes, fetched.dropped)


def pull_files(
    record: VersionRecord,
    manifest: Manifest,
    variant: Variant,
    patterns: Patterns,
    out: Path,
    store: Store,
    sources: Sequence[Source],
    progress: Progress | None = None,
) -> Pulled:
    """Fetch some files of one variant into the folder ``out``, verified as ``pull`` does: all of them, or nothing.

    Raises:
        NotFoundError: the version has no such variant, or that no such files.
        AlreadyExistsError: ``out`` holds something else, or such a file with other bytes.
        IntegrityError: a byte is not what the chain says.
        StoreError: no source has it.
    """
    on_chain = variant_of(record, variant)
    expected = manifest.entry(variant).artifact()
    files = patterns.of(expected.files)
    if not files:
        listed = ", ".join(file.path for file in expected.files[:20])
        raise NotFoundError(f"no file of {record.ref}#{variant} is asked for", hint=f"its files: {listed}")
    fetched = fetch_files(expected, {file.path for file in files}, out, store, sources, progress)
    return Pulled(fetched.path, on_chain, fetched.source, fetched.fetched_bytes, fetched.dropped, files)


def copy_out(source: Path, out: Path, expected: Artifact) -> Path:
    """Copy a verified artifact into the folder ``out``: all of it, or nothing; files that are there and equal stay.

    A bare file goes to ``out/name``, a directory's files go to ``out`` itself.

    Raises:
        AlreadyExistsError: ``out`` holds something else, or such a file with other bytes.
        CitrateError: it cannot be written.
    """
    missing = lacking(out, expected.files, expected)
    if missing:
        hand_out(source, missing, out, bare=expected.bare)
    return out / expected.files[0].path if expected.bare else out


def verify_path(path: Path, expected: Artifact) -> tuple[FileVerdict, ...]:
    """Re-hash a file or folder against an artifact, file by file; extra files count as wrong.

    Raises:
        NotFoundError: no such path.
    """
    if not path.exists():
        raise NotFoundError(f"no such file or folder: {path}")
    listed = {f.path: f.sha256 for f in expected.files}
    if path.is_file():
        name = expected.files[0].path if expected.bare else path.name
        actual = {name: address(path).sha256}
    else:
        actual = {f.path: f.sha256 for f in address(path).files}
    verdicts = [
        FileVerdict(name, actual.get(name) == sha256, sha256, actual.get(name, "")) for name, sha256 in listed.items()
    ]
    verdicts += [FileVerdict(name, False, "", sha256) for name, sha256 in actual.items() if name not in listed]
    return tuple(sorted(verdicts, key=lambda verdict: os.fsencode(verdict.path)))


def matching_variant(path: Path, record: VersionRecord) -> Variant | None:
    """The variant whose digest the files at ``path`` have, if any."""
    found = address(path)
    digests = {found.sha256} | ({found.files[0].sha256} if len(found.files) == 1 else {listing_sha256(found.files)})
    return next((v.variant for v in record.variants if v.sha256 in digests), None)


def likely_variant(path: Path, manifest: Manifest) -> Variant:
    """The variant that damaged files at ``path`` were most likely meant to be: that with most names in common."""
    names = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path.name}

    def common(entry: VariantEntry) -> int:
        listed = {f.path for f in entry.files}
        return len(listed & names) - len(listed ^ names)

    return Variant.parse(max(manifest.variants, key=common).variant)


def verify_stored(
    record: VersionRecord, manifest: Manifest, variant: Variant | None, store: Store
) -> tuple[FileVerdict, ...]:
    """Re-hash what the store holds of a version (or of one variant); paths are ``variant/file``.

    Raises:
        NotFoundError: it holds nothing of it.
    """
    wanted = [variant_of(record, variant)] if variant else record.variants
    held = [v for v in wanted if store.has(v.cid)]
    if not held:
        raise NotFoundError(f"nothing of {record.ref} is stored here", hint=f"citrate pull {record.ref}")
    paths = {item.cid: item.path for item in store.ls()}
    return tuple(
        replace(verdict, path=f"{item.variant}/{verdict.path}")
        for item in held
        for verdict in verify_path(paths[item.cid], manifest.entry(item.variant).artifact())
    )
