"""Make the variants of a release in the store: those of one format together, each checked before it is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from citrate import formats
from citrate.core.errors import CitrateError, NotFoundError
from citrate.core.records import PROFILE, Artifact, Variant, VariantRecord
from citrate.core.sink import Progress
from citrate.registry import manifest as manifests
from citrate.registry.conversions import Conversions, Made
from citrate.registry.manifest import Converter, VariantEntry
from citrate.registry.store import Store


@dataclass(frozen=True)
class Making:
    """What is to be made, of what, and where it goes."""

    model: formats.SourceModel
    name: str
    """The model's name, written into GGUF metadata and file names."""
    source_sha256: str
    """Of the listing of the model's directory."""
    level: str | None
    """Of the checks: ``full``, ``tensors``, or None for the default of each variant on this machine."""
    store: Store
    progress: Progress
    profile: str = PROFILE
    """Where the leaves of its files end; see ``cutting``."""
    new: list[str] = field(default_factory=list)
    """The CIDs of what was not in the store before."""
    levels: dict[Variant, str] = field(default_factory=dict)
    """Of the checks, by variant, as they were chosen."""

    def level_of(self, variant: Variant) -> str:
        """How far ``variant`` is checked: decided once, whatever memory is free later."""
        if variant not in self.levels:
            self.levels[variant] = self.level or formats.default_check_level(self.model, variant)
        return self.levels[variant]

    def key(self, variant: Variant, conversions: Conversions) -> str:
        """The name under which the conversion to ``variant`` is remembered."""
        model, level, tools = self.model, self.level_of(variant), formats.toolchain(variant)
        made = Made(self.source_sha256, variant, self.name, model.licence, level, self.profile, tools)
        return conversions.key(made)

    def discard(self, cids: Iterable[str]) -> None:
        """Take objects out of the store again that no check has passed, or that nobody will publish."""
        for cid in cids:
            with suppress(NotFoundError):
                self.store.remove(cid)


def make_variants(making: Making, wanted: Sequence[Variant], conversions: Conversions) -> tuple[VariantEntry, ...]:
    """Make every variant, reusing what an earlier run made from the same source; on a failure keep nothing new.

    All GGUF files come from one read of the weights. What is finished when a run is killed is reused by the next.

    Raises:
        FormatError: a damaged weight, or a check fails.
        StoreError: the store cannot be written.
    """
    keys = {variant: making.key(variant, conversions) for variant in wanted}
    entries = {variant: entry for variant in wanted if (entry := conversions.find(keys[variant], making.store))}
    try:
        for format_ in dict.fromkeys(variant.format for variant in wanted):
            missing = [variant for variant in wanted if variant.format is format_ and variant not in entries]
            for variant, entry in _made(making, missing):
                conversions.keep(keys[variant], entry)
                entries[variant] = entry
    except (CitrateError, OSError):
        for variant, entry in entries.items():
            if entry.cid in making.new:
                conversions.forget(keys[variant])
        making.discard(making.new)
        raise
    return tuple(entries[variant] for variant in wanted)


def _made(making: Making, variants: Sequence[Variant]) -> Iterator[tuple[Variant, VariantEntry]]:
    """Convert variants of one format side by side, and yield each when it has passed its checks."""
    written = _written(making, variants)
    unchecked = [artifact.cid for _, artifact in written if artifact.cid in making.new]
    try:
        for conversion, artifact in written:
            yield conversion.variant, _checked(making, conversion, artifact)
            unchecked = [cid for cid in unchecked if cid != artifact.cid]
    finally:
        making.discard(unchecked)  # after a stop, too


def _written(making: Making, variants: Sequence[Variant]) -> list[tuple[formats.Conversion, Artifact]]:
    written: list[tuple[formats.Conversion, Artifact]] = []
    with ExitStack() as stack:
        writers = {
            variant: stack.enter_context(making.store.writer(bare=formats.is_bare(variant), profile=making.profile))
            for variant in variants
        }
        conversions = formats.convert_all(making.model, writers, name=making.name, progress=making.progress)
        known = frozenset(item.cid for item in making.store.ls())
        for variant, writer in writers.items():
            artifact = writer.commit()
            if artifact.cid not in known:
                making.new.append(artifact.cid)
            written.append((conversions[variant], artifact))
    return written


def _checked(making: Making, conversion: formats.Conversion, artifact: Artifact) -> VariantEntry:
    """The manifest's entry of what was written, after its checks."""
    variant, path = conversion.variant, making.store.get(artifact.cid)
    level = making.level_of(variant)
    found = formats.check(making.model, variant, path, level=level, progress=making.progress)
    record = VariantRecord(variant, artifact.cid, artifact.sha256, artifact.size_bytes)
    converter = Converter(name=conversion.converter, version=conversion.version, arguments=dict(conversion.arguments))
    checks = (*conversion.checks, *found)
    dtype, source = conversion.source_dtype, making.source_sha256
    return manifests.entry_of(record, artifact, dtype, converter, checks, making.profile, source)
