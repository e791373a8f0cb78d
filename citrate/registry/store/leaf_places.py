"""Where many leaves at once should stand in the store, in whatever object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from citrate.registry.cid import SHA2_256
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.store.index import Index
from citrate.registry.store.layout import Layout, disk_errors

_AT_ONCE = 500
_IN_FILES = """
SELECT digest, objects.cid, path, coalesce(offset, position * ?) FROM leaves
JOIN files ON files.id = file_id JOIN objects ON objects.id = object_id WHERE digest IN ({})"""
_IN_PACKS = """
SELECT DISTINCT hash, name, offset FROM blocks
JOIN dags ON dags.id = dag_id JOIN packs ON packs.id = pack_id WHERE hash IN ({})"""


class LeafPlaces:
    """The leaves of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._index = Index(layout.index)

    def find(self, digests: Sequence[bytes]) -> dict[bytes, list[tuple[Path, int]]]:
        """File and offset of each copy of the leaves with these digests, as the index knows them.

        What stands there must be compared: it may be damaged, or gone.
        """
        found: dict[bytes, list[tuple[Path, int]]] = {}
        prefix = bytes((SHA2_256, 32))
        with disk_errors(self._layout.root):
            for at in range(0, len(digests), _AT_ONCE):
                wanted = digests[at : at + _AT_ONCE]
                marks = ",".join("?" * len(wanted))
                for digest, cid, path, offset in self._index.read(_IN_FILES.format(marks), CHUNK_BYTES, *wanted):
                    found.setdefault(digest, []).append((self._layout.object(cid) / path, offset))
                hashes = (prefix + digest for digest in wanted)
                for multihash, pack, offset in self._index.read(_IN_PACKS.format(marks), *hashes):
                    found.setdefault(multihash[len(prefix) :], []).append((self._layout.pack(pack), offset))
        return found
