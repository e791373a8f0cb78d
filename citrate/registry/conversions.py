"""What was converted before: (source, variant, releases of what converts, check level) -> the manifest's entry.

An entry is only a memory of work; whoever finds one asks the store for the object, which verifies it. So a dry run's
conversions, and those of a run that was killed, are reused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from citrate import __version__
from citrate.core import canonical
from citrate.core.errors import IntegrityError, NotFoundError
from citrate.core.records import Variant
from citrate.registry import atomic
from citrate.registry.manifest import VariantEntry
from citrate.registry.store import Store


@dataclass(frozen=True)
class Made:
    """Of what, as what, by what a variant is made."""

    source_sha256: str
    variant: Variant
    name: str
    licence: str
    level: str
    """Of the checks."""
    profile: str
    toolchain: Mapping[str, str]
    """The versions of other people's programs that its bytes depend on; see ``citrate.formats.toolchain``."""


class Conversions:
    """The memory of one home, one small JSON file an entry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, made: Made) -> str:
        """The name under which a conversion is remembered: everything that its bytes and checks depend on."""
        document: dict[str, object] = {
            "source": made.source_sha256,
            "variant": str(made.variant),
            "name": made.name,
            "licence": made.licence,
            "checks": made.level,
            "profile": made.profile,
            "toolchain": dict(made.toolchain),
            "citrate": __version__,
        }
        return hashlib.sha256(canonical.dumps(document)).hexdigest()

    def find(self, key: str, store: Store) -> VariantEntry | None:
        """The entry, if it is remembered and the store still has its bytes."""
        try:
            entry = VariantEntry.model_validate_json((self._folder / f"{key}.json").read_bytes())
            store.get(entry.cid)
        except (FileNotFoundError, ValidationError, NotFoundError, IntegrityError):
            return None
        return entry

    def forget(self, key: str) -> None:
        """Remember a conversion no longer, since its bytes are gone."""
        (self._folder / f"{key}.json").unlink(missing_ok=True)

    def keep(self, key: str, entry: VariantEntry) -> None:
        """Remember a conversion."""
        atomic.write_atomic(self._folder / f"{key}.json", canonical.dumps(entry.model_dump(mode="json")))
