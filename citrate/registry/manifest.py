"""The manifest: the canonical JSON document of a version, whose SHA-256 stands on chain.

It is one raw IPFS block of at most 1 MiB, so that its SHA-256 is also its CID. It lists every file of every variant
and holds no time, host or raw float: the same input gives the same bytes. A manifest is hostile until its hash
matches the chain (``parse``) and its lists match the chain's digests (``check_against``).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from citrate.core import canonical
from citrate.core.digests import check_path, listing_sha256
from citrate.core.errors import FormatError, IntegrityError
from citrate.core.records import (
    MANIFEST_MAX_BYTES,
    PROFILE,
    TENSOR_PROFILE,
    Architecture,
    Artifact,
    Check,
    FileEntry,
    Variant,
    VariantRecord,
    VersionRecord,
)
from citrate.registry import cid

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Cid = Annotated[str, StringConstraints(pattern=r"^b[a-z2-7]{58}$")]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Text = Annotated[str, StringConstraints(max_length=256)]
Size = Annotated[int, Field(ge=0, lt=1 << 48)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Converter(_Document):
    """What wrote a variant, so that a third party can write it again."""

    name: Text
    version: Text
    arguments: dict[str, Text]


class VariantEntry(_Document):
    """A variant with its files. ``bare``: one file, whose CID and SHA-256 are the variant's own."""

    variant: Text
    cid: Cid
    sha256: Sha256
    size_bytes: Size
    bare: bool
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    source_dtype: Text
    converter: Converter
    checks: tuple[Check, ...]
    profile: Literal["citrate-tensor-v1"] | None = None
    """Where the leaves of its files end, if that is not every 1 MiB; files that are cut otherwise have a ``tsize``."""
    source_sha256: Sha256 | None = None
    """The digest of the directory that it was made from, as ``lineage`` has it for the version; records of older
    releases have only that."""

    @model_validator(mode="after")
    def _is_cut_as_it_says(self) -> Self:
        if self.profile is None and any(file.tsize is not None for file in self.files):
            raise ValueError("a file is cut as no profile says")
        return self

    def document(self) -> dict[str, object]:
        """As it stands in the manifest: what only another profile needs is left out where it is not used, and what
        older releases did not record."""
        document = self.model_dump(mode="json")
        for key in ("profile", "source_sha256"):
            if document[key] is None:
                del document[key]
        for file in document["files"]:
            if file["tsize"] is None:
                del file["tsize"]
        return document

    def artifact(self) -> Artifact:
        """The files and addresses that a pull must arrive at."""
        return Artifact(self.cid, self.sha256, self.size_bytes, self.files, self.bare)


class Licence(_Document):
    """SPDX id (or ``LicenseRef-...``) and the full text, where the source had one."""

    spdx: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    text: str


class Parent(_Document):
    """A version or LoRA that this one was made from, and how: ``merge METHOD KIND [WEIGHT]``, where KIND is ``base``,
    ``adapter`` or ``model``; other releases may tell of other ways."""

    version_id: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
    relation: Text


class Lineage(_Document):
    """Where the bytes come from: the digest of the listing of the source directory that the version was published from,
    and parent versions."""

    source_sha256: Sha256
    parents: tuple[Parent, ...] = ()


class Signature(_Document):
    """The owner's EIP-712 signature over the manifest without this field."""

    signer: Address
    kind: Literal["eoa", "erc1271"]
    value: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]*$", max_length=16_384)]


class Manifest(_Document):
    """The whole document."""

    schema_: Literal["citrate.manifest/1"] = Field(alias="schema")
    publisher: Address
    name: Text
    version: Text
    licence: Licence
    architecture: Architecture
    generation: dict[str, Text]
    """Generation defaults as decimal strings."""
    chat_template_sha256: Sha256 | None
    variants: Annotated[tuple[VariantEntry, ...], Field(min_length=1)]
    lineage: Lineage
    previous: Sha256 | None
    """The manifest that this one extends by variants."""
    signature: Signature | None = None

    def encode(self) -> bytes:
        """The canonical bytes.

        Raises:
            FormatError: over 1 MiB, or text that cannot be written as UTF-8.
        """
        data = canonical.dumps(self._document())
        if len(data) > MANIFEST_MAX_BYTES:
            raise FormatError(
                f"the manifest has {len(data):,} bytes and may have {MANIFEST_MAX_BYTES:,}: too many files",
                hint="shard the model into fewer, larger files",
            )
        return data

    def sha256(self) -> str:
        """SHA-256 of the canonical bytes: what stands on chain."""
        return hashlib.sha256(self.encode()).hexdigest()

    def unsigned_sha256(self) -> str:
        """SHA-256 of the canonical form without ``signature``: what the owner signs."""
        document = self._document()
        document.pop("signature", None)
        return hashlib.sha256(canonical.dumps(document)).hexdigest()

    def signed(self, signature: Signature) -> Manifest:
        """The same manifest with ``signature``."""
        return self.model_copy(update={"signature": signature})

    def entry(self, variant: Variant) -> VariantEntry:
        """The entry of ``variant``; the chain's list was compared with ours, so a missing one is an internal error."""
        return next(entry for entry in self.variants if entry.variant == str(variant))

    def _document(self) -> dict[str, object]:
        variants = [entry.document() for entry in self.variants]
        return {**self.model_dump(mode="json", by_alias=True, exclude={"variants"}), "variants": variants}


def cid_of(sha256: str) -> str:
    """The CID of the manifest with that SHA-256: one raw block."""
    return cid.encode(cid.RAW, bytes.fromhex(sha256))


def entry_of(
    record: VariantRecord,
    artifact: Artifact,
    source_dtype: str,
    converter: Converter,
    checks: tuple[Check, ...],
    profile: str = PROFILE,
    source_sha256: str | None = None,
) -> VariantEntry:
    """The manifest's entry for a converted variant; the usual ``profile`` is not named there."""
    return VariantEntry(
        variant=str(record.variant),
        cid=artifact.cid,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        bare=artifact.bare,
        files=artifact.files,
        source_dtype=source_dtype,
        converter=converter,
        checks=checks,
        profile=None if profile == PROFILE else TENSOR_PROFILE,
        source_sha256=source_sha256,
    )


def parse(data: bytes, expected_sha256: str) -> Manifest:
    """Decode a manifest that must have the SHA-256 that stands on chain.

    Raises:
        IntegrityError: other bytes than the chain commits to.
        FormatError: the right bytes, but not a manifest this release can read.
    """
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected_sha256:
        raise IntegrityError(
            f"manifest: expected SHA-256 {expected_sha256}, got {actual}",
            path="manifest",
            expected=expected_sha256,
            actual=actual,
        )
    if len(data) > MANIFEST_MAX_BYTES:
        raise FormatError(f"the manifest has {len(data):,} bytes and may have {MANIFEST_MAX_BYTES:,}")
    canonical.loads(data)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"manifest {expected_sha256[:16]}…: {where}: {first['msg']}") from error
    if manifest.encode() != data:
        raise FormatError(f"manifest {expected_sha256[:16]}… has fields that this release does not know")
    return manifest


def check_against(manifest: Manifest, record: VersionRecord) -> None:
    """Hold the manifest's lists against the chain's record, before the first byte of a pull.

    Every variant on chain stands in the manifest with the same CID, digest and size, and each digest is recomputed
    from the manifest's file list; name, version and history are the record's.

    Raises:
        IntegrityError: the first difference.
        FormatError: an unsafe path, or a file twice.
    """
    _same("manifest.publisher", record.publisher.lower(), manifest.publisher.lower())
    _same("manifest.name", record.name, manifest.name)
    _same("manifest.version", record.version, manifest.version)
    _same("manifest.licence", record.licence, manifest.licence.spdx)
    previous = record.manifest_history[-2] if len(record.manifest_history) > 1 else ""
    _same("manifest.previous", previous, manifest.previous or "")
    on_chain = {str(v.variant): v for v in record.variants}
    listed = [entry.variant for entry in manifest.variants]
    _same("manifest.variants", " ".join(sorted(on_chain)), " ".join(sorted(listed)))
    for entry in manifest.variants:
        _check_entry(entry, on_chain[entry.variant])


def _check_entry(entry: VariantEntry, record: VariantRecord) -> None:
    where = f"manifest.{entry.variant}"
    _same(f"{where}.cid", record.cid, entry.cid)
    _same(f"{where}.sha256", record.sha256, entry.sha256)
    _same(f"{where}.size_bytes", str(record.size_bytes), str(entry.size_bytes))
    paths = [check_path(f.path) for f in entry.files]
    if len(set(paths)) != len(paths):
        raise FormatError(f"{where} lists a file twice")
    artifact = entry.artifact()
    if entry.bare:
        if len(paths) != 1 or "/" in paths[0]:
            raise FormatError(f"{where} is a single file but lists {len(paths)} paths")
        _same(f"{where}.files.cid", record.cid, entry.files[0].cid)
        digest = entry.files[0].sha256
    else:
        digest = listing_sha256(artifact.files)
    _same(f"{where}.files", record.sha256, digest)
    _same(f"{where}.files.size_bytes", str(record.size_bytes), str(sum(f.size_bytes for f in entry.files)))


def _same(path: str, expected: str, actual: str) -> None:
    if expected != actual:
        raise IntegrityError(
            f"{path}: the chain says {expected!r}, the manifest {actual!r}", path=path, expected=expected, actual=actual
        )
