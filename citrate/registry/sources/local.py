"""Another store on this machine."""

from __future__ import annotations

from citrate.core.errors import CitrateError
from citrate.registry.sources.protocol import ByteStream, MissingError, NoStreamError
from citrate.registry.store import Store


class StoreSource:
    """A store on this machine."""

    connections = 1

    def __init__(self, store: Store, name: str = "store") -> None:
        self._store = store
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def another(self) -> StoreSource:
        return StoreSource(self._store, self._name)

    def stop(self) -> None:
        """Nothing waits here."""

    def block(self, cid: str) -> bytes:
        try:
            return self._store.block(cid)
        except CitrateError as error:
            raise MissingError(error.message) from error

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:  # noqa: ARG002
        if self._store.has_file(cid):
            raise NoStreamError("gives blocks, which are verified as they are read")
        raise MissingError("not in the store")
