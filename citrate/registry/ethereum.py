"""eth-account, imported without what one of its dependencies does to the whole process.

py_ecc raises Python's recursion limit to 100,000 when it is imported. On Python 3.11 a deeply nested JSON document,
from a node or in a model's directory, then overflows the C stack and kills the process instead of raising
RecursionError.
Everything that needs eth-account or web3 imports this module first.
"""

from __future__ import annotations

import sys

_limit = sys.getrecursionlimit()
try:
    from eth_account import Account
    from eth_account.messages import encode_typed_data
finally:
    sys.setrecursionlimit(_limit)

__all__ = ["Account", "encode_typed_data"]
