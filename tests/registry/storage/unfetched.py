"""What is left in a store of a fetch that failed."""

from __future__ import annotations

from citrate.registry.store import Store


def assert_untouched(store: Store) -> None:
    """Nothing but locks is left of a fetch."""
    assert store.ls() == []
    left = [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path for path in left if not path.name.startswith("index.sqlite")] == []
