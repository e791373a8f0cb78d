"""An unlocked key. It signs for one chain, and its secret is in no repr, message or pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from citrate.core.errors import NotPermittedError
from citrate.registry.ethereum import Account, encode_typed_data


class Signer:
    """Signs transactions and typed data with one key, for the chain it was unlocked for."""

    def __init__(self, secret: bytes, chain_id: int) -> None:
        self._account = Account.from_key(secret)
        self.chain_id = chain_id
        self.address: str = str(self._account.address)

    def sign_transaction(self, transaction: Mapping[str, object]) -> tuple[bytes, str]:
        """Sign a transaction with all its fields filled in.

        Returns:
            The raw bytes to send, and the transaction's hash.

        Raises:
            NotPermittedError: it is for another chain.
        """
        if transaction.get("chainId") != self.chain_id:
            raise NotPermittedError(
                f"this key was unlocked for chain {self.chain_id}, not {transaction.get('chainId')}",
                hint="citrate config show",
            )
        signed = self._account.sign_transaction(dict(transaction))
        return bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex()

    def sign_typed_data(self, typed_data: Mapping[str, object]) -> bytes:
        """Sign an EIP-712 document (``types``, ``primaryType``, ``domain``, ``message``): r, s, v in 65 bytes."""
        return bytes(self._account.sign_message(encode_typed_data(full_message=dict(typed_data))).signature)

    def __repr__(self) -> str:
        return f"Signer({self.address}, chain {self.chain_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an unlocked key is not copied to other processes")
