"""How the training of a registered adapter went, read without its weights and without its proof's checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citrate.core.errors import FormatError, NotFoundError
from citrate.fine_tuning.told import TOLD, TOLD_MAX_BYTES, Told
from citrate.training.health import HEALTH, HEALTH_MAX_BYTES, Health

if TYPE_CHECKING:
    from citrate.core.adapters import LoraRecord
    from citrate.facade import Registry


def health_of(registry: Registry, record: LoraRecord) -> Health | None:
    """What the adapter's proof says of how it went; told by its creator until ``verify-training`` has replayed it.

    Two files are read, each block against the CID that led to it; None: the adapter says of no training run.

    Raises:
        StoreError: no source has them.
        FormatError, IntegrityError: they are malformed, or not what the chain's CID says.
    """
    try:
        told = Told.parse(_small(registry, str(record.variant.cid), TOLD, TOLD_MAX_BYTES))
    except NotFoundError:
        return None
    return Health.parse(_small(registry, told.proof_cid, HEALTH, HEALTH_MAX_BYTES)) if told.proof_cid else None


def _small(registry: Registry, cid: str, path: str, limit: int) -> bytes:
    found = bytearray()
    for piece in registry.cat(cid, path):
        found += piece
        if len(found) > limit:
            raise FormatError(f"{path} is larger than {limit >> 10} KiB")
    return bytes(found)
