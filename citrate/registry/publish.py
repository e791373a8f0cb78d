"""From a model directory to a release that is stored and ready to be recorded on chain.

``prepare`` does everything that needs no key and no chain: inspect, convert into the store, check, and write the
manifest. Its result is the same for the same input, so that a dry run tells the exact CIDs and a second run reuses
what the first converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from citrate import formats
from citrate.core.digests import listing_sha256
from citrate.core.errors import AlreadyExistsError, ConfigError, FormatError
from citrate.core.records import (
    ALIAS_PATTERN,
    LATEST,
    MANIFEST_MAX_BYTES,
    NAME_PATTERN,
    PROFILE,
    VERSION_PATTERN,
    FileEntry,
    Variant,
    VariantRecord,
    VersionRecord,
)
from citrate.core.sink import Progress
from citrate.formats import merging_record
from citrate.formats.generation import generation_defaults
from citrate.formats.licence import stated_spdx
from citrate.formats.mlx_source import decoded
from citrate.formats.tokenizer_files import chat_template, chat_template_sha256
from citrate.registry.conversions import Conversions
from citrate.registry.cutting import PLAIN_PROFILES
from citrate.registry.manifest import Licence, Lineage, Manifest, Parent, VariantEntry
from citrate.registry.payload import encode_price
from citrate.registry.store import Store
from citrate.registry.unixfs import Counter, hash_file
from citrate.registry.variants import Making, make_variants

NOBODY = "0x" + "0" * 40
"""The publisher of a manifest until a key is chosen."""

_BYTES_A_FILE = 280
"""What a file's entry takes in a manifest, beside its path; for the early size check only."""


@dataclass(frozen=True)
class Request:
    """What the publisher asks for. ``variants`` is None for the defaults, of which those that cannot be made are
    skipped; a variant that is named must be made."""

    source: Path
    name: str
    version: str = "1.0.0"
    licence: str | None = None
    variants: tuple[Variant, ...] | None = None
    alias: str = ""
    price_wei: int = 0
    publisher: str = ""
    """The address under which the model is named; empty for the signer's own. Another one is for who took a model
    over."""
    checks: str | None = None
    """``full``, ``tensors``, or None for the default: ``full`` where all that it takes is here."""
    profile: str = PROFILE
    """Where the leaves of its files end; see ``cutting``."""

    def __post_init__(self) -> None:
        for what, text, pattern in (
            ("name", self.name, NAME_PATTERN),
            ("version", self.version, VERSION_PATTERN),
            ("alias", self.alias or "a", ALIAS_PATTERN),
        ):
            if not pattern.fullmatch(text):
                raise ConfigError(
                    f"{what} {text!r} is not allowed",
                    hint=f"a {what} is {pattern.pattern}: lower case, starting with a letter or digit",
                )
        if LATEST in (self.version, self.alias):
            raise ConfigError(f"{LATEST!r} is reserved: it is the newest version", hint="choose another name")
        encode_price(self.price_wei)
        if self.licence is not None:
            stated_spdx(self.licence)  # which refuses what is none
        if self.profile not in PLAIN_PROFILES:
            raise ConfigError(
                f"no model is published in the profile {self.profile!r}", hint=f"profiles: {', '.join(PLAIN_PROFILES)}"
            )
        if self.alias == self.version:
            raise ConfigError("an alias may not equal the version's name", hint="choose another alias")


@dataclass(frozen=True)
class Release:
    """A version that is stored and only lacks its signature and its record on chain."""

    manifest: Manifest
    variants: tuple[VariantRecord, ...]
    """As they go on chain, in the order of the request."""
    skipped: tuple[tuple[Variant, str], ...]
    alias: str
    price_wei: int

    def by(self, publisher: str) -> Release:
        """The same release in the name of ``publisher``."""
        return replace(self, manifest=self.manifest.model_copy(update={"publisher": publisher}))


def prepare(request: Request, store: Store, conversions: Conversions, progress: Progress) -> Release:
    """Convert, check and store the variants of a new version, and write its manifest, unsigned and in nobody's name.

    Nothing new is kept in the store when a variant that was named cannot be made or a check fails.

    Raises:
        ConfigError: no licence, or the card and the flag differ.
        FormatError: not a model, damaged, or a conversion that fails its checks.
        UnsupportedConversionError: a named variant that this architecture does not have.
        BackendMissingError: what converts or checks a variant is not installed.
        UnavailableError: full checks, or ModelOpt, take more memory than there is.
    """
    source = formats.open_model(request.source)
    licence = choose_licence(request)
    model = source.licensed(licence.spdx)
    wanted, skipped = choose_variants(model, request.variants)
    require_checkable(model, wanted, request.checks)
    require_room(model, licence, len(wanted))
    source_sha256 = source_digest(model, progress)
    entries = make_variants(_making(model, request, store, progress, source_sha256), wanted, conversions)
    manifest = Manifest(
        schema="citrate.manifest/1",
        publisher=NOBODY,
        name=request.name,
        version=request.version,
        licence=licence,
        architecture=decoded(model).architecture,
        generation=dict(generation_defaults(model)),
        chat_template_sha256=chat_template_sha256(chat_template(model.root)) or None,
        variants=entries,
        lineage=Lineage(source_sha256=source_sha256, parents=_parents(request.source)),
        previous=None,
    )
    manifest.encode()
    return Release(manifest, tuple(map(record_of, entries)), skipped, request.alias, request.price_wei)


def extend(
    request: Request,
    base: Manifest,
    base_sha256: str,
    store: Store,
    conversions: Conversions,
    progress: Progress,
    *,
    own_source: bool,
) -> Release:
    """Convert more variants for a version that stands; the new manifest holds the old entries unchanged.

    ``own_source``: the request's source is the version's own safetensors variant.

    Raises:
        AlreadyExistsError: a variant that the version has.
        ConfigError: the source is not the one that the version was made from.
    """
    model = formats.open_model(request.source).licensed(base.licence.spdx)
    wanted, _ = choose_variants(model, request.variants)
    require_checkable(model, wanted, request.checks)
    taken = {entry.variant for entry in base.variants}
    for variant in wanted:
        if str(variant) in taken:
            raise AlreadyExistsError(f"{base.name}@{base.version} has {variant}", hint="variants are never changed")
    source_sha256 = source_digest(model, progress)
    if not own_source and source_sha256 != base.lineage.source_sha256:
        raise ConfigError(
            f"this source (SHA-256 {source_sha256[:16]}…) is not what {base.name}@{base.version} was made from",
            hint="give the same model directory, or none to convert the version's safetensors variant",
        )
    entries = make_variants(_making(model, request, store, progress, source_sha256), wanted, conversions)
    manifest = base.model_copy(
        update={"variants": (*base.variants, *entries), "previous": base_sha256, "signature": None}
    )
    manifest.encode()
    return Release(manifest, tuple(map(record_of, entries)), (), "", 0)


def _parents(source: Path) -> tuple[Parent, ...]:
    """The registered parents that a merged model names in its folder; the owner's signature stands for them."""
    record = merging_record.read(source)
    told = merging_record.lineage(record) if record else ()
    return tuple(Parent(version_id=version_id, relation=relation) for version_id, relation in told)


def source_digest(model: formats.SourceModel, progress: Progress) -> str:
    """SHA-256 of the listing of the source's files that count: configuration, weights, and what is published beside.

    Files that are never published (a download's cache, custom code) do not change it.
    """
    paths = {model.config_name: model.root / model.config_name}
    paths |= {name: model.root / name for name in model.shards}
    paths |= {companion.name: companion.path for companion in model.companions}
    counter = Counter("source", sum(path.stat().st_size for path in paths.values()), progress)
    # a Hugging Face cache holds links into its own blobs; `open_model` has looked at where they lead
    hashed = {name: hash_file(path.resolve(), progress=counter.add) for name, path in paths.items()}
    return listing_sha256(FileEntry(name, found.size_bytes, found.sha256, "") for name, found in hashed.items())


def record_of(entry: VariantEntry) -> VariantRecord:
    """What of a manifest's entry stands on chain."""
    return VariantRecord(Variant.parse(entry.variant), entry.cid, entry.sha256, entry.size_bytes)


def choose_licence(request: Request) -> Licence:
    """Flag > card > LICENSE file; a flag that contradicts the card is refused.

    Raises:
        ConfigError: none found, or flag and card differ.
    """
    found = formats.find_licence(request.source)
    if request.licence is None:
        if found is None:
            raise ConfigError(
                f"{request.source} names no licence: no front matter in README.md, no LICENSE file",
                hint="--license SPDX, for example --license apache-2.0",
            )
        return Licence(spdx=found.spdx, text=found.text)
    spdx = stated_spdx(request.licence)
    if found is not None and found.origin == "card" and found.spdx != spdx:
        raise ConfigError(
            f"--license says {spdx}, the model's card says {found.spdx}",
            hint="make them agree: the licence goes on chain",
        )
    return Licence(spdx=spdx, text=found.text if found is not None and found.spdx == spdx else "")


def choose_variants(
    model: formats.SourceModel, named: tuple[Variant, ...] | None
) -> tuple[tuple[Variant, ...], tuple[tuple[Variant, str], ...]]:
    """The variants to make, and the defaults that are skipped, each with its reason.

    Raises:
        UnsupportedConversionError: a named variant cannot be made.
        ConfigError: a variant is named twice.
    """
    possible = formats.possible_variants(model)
    listed = ", ".join(map(str, possible))
    what = model.architecture.class_name
    if named is not None:
        if len(set(named)) != len(named) or not named:
            raise ConfigError("--variants is empty or names a variant twice", hint=f"possible for {what}: {listed}")
        for variant in named:
            formats.require_possible(model, variant)
        return named, ()
    wanted = tuple(v for v in formats.DEFAULT_VARIANTS if v in possible)
    left_out = [v for v in formats.DEFAULT_VARIANTS if v not in possible]
    return wanted, tuple((v, formats.why_impossible(model, v)) for v in left_out)


def require_room(model: formats.SourceModel, licence: Licence, variants: int) -> None:
    """Refuse a model whose manifest cannot fit a block, before anything is converted."""
    names = [*model.shards, *(companion.name for companion in model.companions)]
    paths = sum(len(name.encode()) + _BYTES_A_FILE for name in names)
    if paths * min(variants, 2) + len(licence.text.encode()) > MANIFEST_MAX_BYTES:
        raise FormatError(
            f"{len(names):,} files do not fit a manifest of {MANIFEST_MAX_BYTES:,} bytes: too many files",
            hint="shard the model into fewer, larger files",
        )


def require_checkable(model: formats.SourceModel, wanted: Sequence[Variant], level: str | None) -> None:
    """Refuse what could not be checked on this machine, before anything is converted.

    Raises:
        BackendMissingError: an extra is not installed.
        UnavailableError: the checks that were asked for take more memory than there is.
    """
    for variant in wanted:
        formats.require_checkable(model, variant, level)


def _making(
    model: formats.SourceModel, request: Request, store: Store, progress: Progress, source_sha256: str
) -> Making:
    return Making(model, request.name, source_sha256, request.checks, store, progress, request.profile)


def require_same(record: VersionRecord, release: Release) -> None:
    """Check that a version that stands on chain holds exactly what ``release`` would publish.

    Raises:
        AlreadyExistsError: other bytes, another licence, or variants that it does not have.
    """
    standing = {v.variant: v for v in record.variants}
    spdx = release.manifest.licence.spdx
    if record.price_wei != release.price_wei:
        raise AlreadyExistsError(
            f"{record.ref} stands with the price {record.price_wei} wei, not {release.price_wei}",
            hint=next_version_hint(record.version),
        )
    if record.licence != spdx:
        raise AlreadyExistsError(
            f"{record.ref} stands with licence {record.licence}, not {spdx}", hint=next_version_hint(record.version)
        )
    for variant in release.variants:
        if variant.variant not in standing:
            raise AlreadyExistsError(
                f"{record.ref} stands without {variant.variant}",
                hint=f"citrate add-variant me/{record.name}@{record.version} --variants {variant.variant}",
            )
        if standing[variant.variant] != variant and standing[variant.variant].sha256 == variant.sha256:
            raise AlreadyExistsError(
                f"{record.ref} stands with the same bytes in {variant.variant}, cut by another profile",
                hint=f"citrate show {record.ref} tells which: --profile",
            )
        if standing[variant.variant] != variant:
            raise AlreadyExistsError(
                f"{record.ref} stands with other bytes in {variant.variant}", hint=next_version_hint(record.version)
            )


def next_version_hint(version: str) -> str:
    """What to do where a version stands with other content."""
    head, _, last = version.rpartition(".")
    following = f"{head}.{int(last) + 1}" if head and last.isdecimal() else f"{version}.1"
    return f"versions never change: publish the next one, --version {following}"
