"""The embedded store: verified objects as plain files, usable in place and servable block by block."""

from citrate.registry.store.store import Store, StoredObject

__all__ = ["Store", "StoredObject"]
