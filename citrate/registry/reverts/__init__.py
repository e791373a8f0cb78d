"""What the contracts' custom errors mean to a user: one table, complete (a test walks the ABIs), without a default."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from citrate.core.errors import CitrateError
from citrate.registry.abi_codec import selector
from citrate.registry.reverts import access, governance, ledger, loras, models, moderation
from citrate.registry.reverts.refusal import Refusal, Table, arguments

__all__ = ["TABLE", "Refusal", "decode"]

TABLE: Table = {
    signature: refusal
    for part in (models, loras, access, moderation, ledger, governance)
    for signature, refusal in part.TABLE.items()
}


@functools.cache
def _by_selector() -> Mapping[bytes, tuple[str, Refusal]]:
    return {selector(signature): (signature, refusal) for signature, refusal in TABLE.items()}


def decode(data: bytes) -> CitrateError | None:
    """The exception for a revert's data; None if it is no error of our contracts'.

    Raises:
        ChainError: one of our errors with arguments that cannot be read.
    """
    found = _by_selector().get(data[:4])
    if found is None:
        return None
    signature, refusal = found
    values = arguments(signature, data[4:])
    return refusal.error(refusal.message.format(*values), hint=refusal.hint.format(*values))
