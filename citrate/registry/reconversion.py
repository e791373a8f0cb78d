"""`citrate verify-conversion`: make a variant again from its source, and compare it file by file.

Nothing is stored: what the converter writes is hashed and forgotten. A difference means that the variant was not made
from this source by this converter; another version of the converter may differ with no fault of anybody's, so both
versions are told. Where other people's programs compute (ModelOpt, torch), the manifest has their versions: with others
nothing is compared, since a difference would prove nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from citrate import formats
from citrate.core.errors import ConfigError, FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import FileEntry, Format, Reference, Variant, VersionRecord, variant_of
from citrate.core.sink import Buffer, Progress
from citrate.formats.conversion import converter_version
from citrate.registry import permission
from citrate.registry.manifest import Manifest, VariantEntry
from citrate.registry.publish import source_digest
from citrate.registry.retrieve import FileVerdict, pull

if TYPE_CHECKING:
    from citrate.registry.session import Session

_SAFETENSORS = Variant(Format.SAFETENSORS)


@dataclass(frozen=True)
class Reconversion:
    """What came of making a variant again."""

    ref: str
    variant: Variant
    converter: str
    recorded_version: str
    """Of the converter, as the manifest says."""
    installed_version: str
    source: str
    """The directory, or the reference of the version's own safetensors variant."""
    recorded_source_sha256: str
    """The digest of the directory that it was made from, as the manifest says."""
    files: tuple[FileVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether every file came out as it is published, and no other."""
        return all(file.ok for file in self.files)


def verify_conversion(
    session: Session,
    ref: Reference,
    *,
    source: Path | None,
    gateways: Iterable[str],
    allow: frozenset[str],
    progress: Progress,
    begin: Callable[[VariantEntry, str], None],
) -> Reconversion:
    """Convert a published variant again and compare SHA-256 file by file.

    Args:
        session: the home and the chain.
        ref: names the variant.
        source: the model directory it was made from; None: the version's own safetensors variant, which is pulled.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of the pull and the conversion.
        begin: called with the manifest's entry and the installed version of the converter, before it runs.

    Raises:
        ConfigError: ``ref`` names no variant, or ``source`` is not what the version was made from.
        NotFoundError: no such variant; or no safetensors variant, and no ``source``.
        UnsupportedConversionError: this release does not write such a variant, or it was made by other versions of
            other people's programs than are installed.
        IntegrityError: a byte of the source is not what the chain says.
    """
    record = session.resolve_model(ref, "are not made again")
    if ref.variant is None:
        named = ", ".join(str(each.variant) for each in record.variants)
        raise ConfigError(f"{record.ref} has several variants: name one", hint=f"{record.ref}#VARIANT; it has {named}")
    variant = variant_of(record, ref.variant).variant
    permission.require_usable(session, record, allow)
    gateways = tuple(gateways)
    manifest = session.manifest(record, gateways)
    entry = manifest.entry(variant)
    _require_toolchain(entry, variant, record)
    folder, told = _source(session, record, manifest, source, gateways, progress)
    begin(entry, converter_version())
    arguments = entry.converter.arguments
    model = formats.open_model(folder).licensed(arguments.get("licence", ""))
    recorded = entry.source_sha256 or manifest.lineage.source_sha256
    if source is not None:
        _require_source(model, recorded, f"{record.ref}#{variant}", progress)
    sink = _Hashing()
    name = arguments.get("name", record.name)
    formats.convert(model, variant, sink, name=name, progress=progress)
    return Reconversion(
        ref=record.ref,
        variant=variant,
        converter=entry.converter.name,
        recorded_version=entry.converter.version,
        installed_version=converter_version(),
        source=told,
        recorded_source_sha256=recorded,
        files=_compared(entry, sink.hashes),
    )


def _source(
    session: Session,
    record: VersionRecord,
    manifest: Manifest,
    source: Path | None,
    gateways: Iterable[str],
    progress: Progress,
) -> tuple[Path, str]:
    """The directory to convert, and what it is called."""
    if source is not None:
        return source, str(source)
    if all(each.variant != _SAFETENSORS for each in record.variants):
        raise NotFoundError(f"{record.ref} has no safetensors variant to convert from", hint="--source DIR")
    permission.require_access(session, record)
    pulled = pull(record, manifest, _SAFETENSORS, session.store, session.sources(gateways), progress)
    return pulled.path, f"{record.ref}#{_SAFETENSORS}"


def _require_toolchain(entry: VariantEntry, variant: Variant, record: VersionRecord) -> None:
    """Refuse to compare what other versions of other people's programs would make."""
    recorded = entry.converter.arguments
    here = formats.toolchain(variant)
    other = [name for name, value in here.items() if recorded.get(name) != value]
    if other:
        made = ", ".join(f"{name} {recorded.get(name, 'unknown'):.20}" for name in other)
        installed = ", ".join(f"{name} {here[name][:20] or 'none'}" for name in other)
        raise UnsupportedConversionError(
            f"{record.ref}#{variant} was made with {made}, here is {installed}: other bytes would prove nothing",
            hint=f"install what citrate {entry.converter.version} locks, with those versions",
        )


def _require_source(model: formats.SourceModel, recorded: str, what: str, progress: Progress) -> None:
    found = source_digest(model, progress)
    if found != recorded:
        raise ConfigError(
            f"{model.root} (SHA-256 {found[:16]}…) is not what {what} was made from ({recorded[:16]}…)",
            hint="give that directory, or no --source to convert the version's own safetensors variant",
        )


def _compared(entry: VariantEntry, found: dict[str, str]) -> tuple[FileVerdict, ...]:
    expected = {file.path: file.sha256 for file in entry.files}
    return tuple(
        FileVerdict(path, expected.get(path) == found.get(path), expected.get(path, ""), found.get(path, ""))
        for path in sorted(expected.keys() | found.keys(), key=os.fsencode)
    )


@dataclass
class _Hashing:
    """A sink that keeps the hash of each file and no byte of it."""

    hashes: dict[str, str] = field(default_factory=dict)

    def open(self, path: str, size_bytes: int | None = None) -> _HashedFile:  # noqa: ARG002 - nothing to reserve
        if path in self.hashes:
            raise FormatError(f"file {path!r} was already written")
        self.hashes[path] = ""
        return _HashedFile(path, self.hashes)


class _HashedFile:
    def __init__(self, path: str, hashes: dict[str, str]) -> None:
        self._path, self._hashes, self._size = path, hashes, 0
        self._hash = hashlib.sha256()

    def write(self, data: Buffer) -> None:
        self._hash.update(data)
        self._size += memoryview(data).nbytes

    def close(self) -> FileEntry:
        sha256 = self._hashes[self._path] = self._hash.hexdigest()
        return FileEntry(self._path, self._size, sha256, "")
