"""What a mirror takes in."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citrate.core.errors import ConfigError, NotFoundError
from citrate.core.records import Format


class Policy(BaseModel):
    """What to mirror. A policy file is TOML with these keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: frozenset[Format] = frozenset(Format)
    """Variants of these formats."""
    max_total_gb: float = Field(default=float("inf"), gt=0)
    """Stop taking in new variants when the mirror's own objects would be larger (decimal GB)."""
    deprecated: bool = False
    """Also take in versions that are deprecated when they are first seen."""
    quarantined: bool = False
    """Also take in, and keep, versions that moderation has quarantined or removed."""
    adapters: bool = True
    """Also take in LoRA adapters, of whatever base."""
    priced: bool = True
    """Also take in versions that cost something when they are first seen: their bytes are public."""

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
                f"{path}: {where}: {first['msg']}", hint=f"keys: {', '.join(cls.model_fields)}"
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="a policy is TOML") from error

    def allowing(self, allow: frozenset[str]) -> Policy:
        """The same, taking in also what ``allow`` names: ``deprecated``, ``quarantined``."""
        return self.model_copy(update=dict.fromkeys(allow, True))

    def fingerprint(self) -> str:
        """Two policies with the same one want the same."""
        also = (self.deprecated, self.quarantined, self.priced, self.adapters)
        wanted = f"{sorted(self.formats)} {self.max_total_gb} {also}"
        return hashlib.sha256(wanted.encode()).hexdigest()
