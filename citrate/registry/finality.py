"""How sure a chain is of a transaction's block, and whether the block is still there."""

from __future__ import annotations

import time
from collections.abc import Callable

from citrate.core.canonical import Json
from citrate.core.errors import ChainError
from citrate.registry import rpc
from citrate.registry.delivery import Mined, Sending, mined
from citrate.registry.rpc import Call, JsonRpc, RpcError


class Finality:
    """Waits until a transaction's block is as sure as the settings ask.

    Args:
        node: the chain.
        sending: how many blocks must follow, and what the chain must say of the block.
        notify: told when there is something to wait for.
    """

    def __init__(self, node: JsonRpc, sending: Sending, notify: Callable[[str], None]) -> None:
        local = rpc.is_loopback(node.url)
        self._rpc = node
        self._tag = sending.finality
        self._confirmations = sending.confirmations if sending.confirmations is not None else int(not local)
        self._notify = notify
        self._timeout_s = sending.finality_timeout_s
        self._pause_s = 0.05 if local else 1.0

    def wait(self, found: Mined) -> tuple[Mined, int] | None:
        """Wait until the block of ``found`` is sure.

        Returns:
            The transaction, which a reorganisation may have put into another block, and how many blocks follow; None if
            a reorganisation has taken it out of the chain.

        Raises:
            ChainError: no answer, or not sure in time: the transaction is in a block all the same.
        """
        if not self._confirmations and self._tag == "latest":
            return found, 0
        deadline = time.monotonic() + self._timeout_s
        told = False
        while True:
            now = self._now(found)
            if now is None:
                return None
            found, following, sure = now
            if sure:
                return found, following
            if time.monotonic() > deadline:
                raise self._too_long(found, following)
            if not told:
                self._notify(f"{found.tx_hash} is in block {found.block_number}; {self._wanted()}")
                told = True
            time.sleep(self._pause_s)

    def _now(self, found: Mined) -> tuple[Mined, int, bool] | None:
        calls: list[Call] = [
            ("eth_getTransactionReceipt", [found.tx_hash]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_getBlockByNumber", [self._tag, False]),
            ("eth_getBlockByNumber", [hex(found.block_number), False]),
        ]
        receipt, latest, tagged, at = self._rpc.batch(calls)
        if isinstance(receipt, RpcError):
            raise receipt
        current = mined(receipt)
        if current is None:
            return None
        if current.block_hash != found.block_hash:
            return current, 0, False  # it moved; asked again, for the chain at that height
        if _field(at, "hash") != found.block_hash:
            return None
        following = max(0, rpc.quantity(_field(latest, "number")) - found.block_number)
        reached = self._tag_number(tagged) >= found.block_number
        return found, following, reached and following >= self._confirmations

    def _tag_number(self, tagged: Json | RpcError) -> int:
        if isinstance(tagged, RpcError):
            raise ChainError(
                f"this chain does not tell its {self._tag} block: {tagged.text}",
                hint='set finality = "latest" and a number of confirmations: citrate config show',
            )
        # a young chain has no finalized block yet
        return rpc.quantity(_field(tagged, "number")) if isinstance(tagged, dict) else -1

    def _wanted(self) -> str:
        wanted = f"{self._confirmations} more must follow it" if self._confirmations else ""
        tagged = f"the chain must call it {self._tag}" if self._tag != "latest" else ""
        return " and ".join(filter(None, (wanted, tagged)))

    def _too_long(self, found: Mined, following: int) -> ChainError:
        return ChainError(
            f"the transaction {found.tx_hash} is in block {found.block_number}, which {following} blocks follow after "
            f"{self._timeout_s:g} s; {self._wanted()}",
            hint="it stands; run the same command again to wait on: it sends nothing twice",
            tx_hash=found.tx_hash,
        )


def _field(block: Json | RpcError, name: str) -> str:
    value = block.get(name) if isinstance(block, dict) else None
    if not isinstance(value, str):
        raise ChainError("the node does not know a block of its own chain", hint="check rpc_url: citrate config show")
    return value
