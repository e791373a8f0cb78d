"""The embedded store: verified objects as plain files, usable in place and servable block by block."""

from citrate.registry.store.examining import Damage
from citrate.registry.store.inventory import StoredObject
from citrate.registry.store.store import Store

__all__ = ["Damage", "Store", "StoredObject"]
