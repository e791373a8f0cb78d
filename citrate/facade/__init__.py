"""`Registry`: what a program uses. It composes the chain, the stores, the formats and the runtimes.

Everything here is a few lines over `citrate.registry`, `citrate.formats` and `citrate.inference`, which know nothing
of each other's sides: training and inference never see the chain or a store.
"""

from __future__ import annotations

from citrate.core.settings import Settings
from citrate.facade.publishing import Publishing
from citrate.facade.running import Located, Running

__all__ = ["Located", "Registry"]


class Registry(Running, Publishing):
    """A home and a chain, with everything citrate does."""

    @classmethod
    def open(cls, **settings: object) -> Registry:
        """A registry with the given settings; what is not given comes from the environment and `citrate.toml`."""
        return cls(Settings.load(settings))
