"""What licences say of what is made of a model."""

from __future__ import annotations

import re

from citrate.core.errors import NotPermittedError

_NO_DERIVATIVES = re.compile(r"\bCC-BY(-NC)?-ND\b|\bno-?deriv", re.IGNORECASE)


def require_derivable(named: str, licence: str, hint: str) -> None:
    """Refuse a licence that forbids derivatives.

    Args:
        named: the model or adapter, as it is told of.
        licence: an SPDX expression; empty: none is stated.
        hint: what to do instead.

    Raises:
        NotPermittedError: it does.
    """
    if _NO_DERIVATIVES.search(licence):
        raise NotPermittedError(f"the licence of {named}, {licence}, forbids derivatives", hint=hint)
