"""What a conversion is asked for, and what it reports."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from citrate.core.records import Check, Variant
from citrate.core.sink import Progress, Sink
from citrate.formats.source import SourceModel


@dataclass(frozen=True)
class Request:
    """One conversion: what, into which variant, where to, on how many threads (None: all cores)."""

    model: SourceModel
    variant: Variant
    sink: Sink
    name: str
    """The model's name, for GGUF metadata and file names; never taken from the folder."""
    threads: int | None = None
    progress: Progress | None = None

    def report(self, done: int) -> None:
        """Tell the caller that ``done`` bytes of the source have been converted."""
        if self.progress:
            self.progress(str(self.variant), done, self.model.size_bytes)


@dataclass(frozen=True)
class Conversion:
    """What was written, and how: for the manifest's lineage."""

    variant: Variant
    checks: tuple[Check, ...]
    """Measured while writing, on every tensor."""
    converter: str
    version: str
    arguments: Mapping[str, str]
    """What the bytes depend on besides the source and the converter's version."""
    source_dtype: str
    bare: bool
    """One file that is the artifact itself (GGUF), rather than a directory."""


@cache
def converter_version() -> str:
    """The release of citrate that converts."""
    return importlib.metadata.version("citrate")
