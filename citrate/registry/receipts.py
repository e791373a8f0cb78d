"""What a transaction of ours made happen, as the logs of its receipt tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.errors import ChainError
from citrate.registry.abi_codec import Frame
from citrate.registry.ids import keccak
from citrate.registry.rpc import unhex

if TYPE_CHECKING:
    from citrate.registry.chain import Chain, Receipt


@dataclass(frozen=True)
class Log:
    """One event: its indexed arguments as words of hex, and the others."""

    topics: tuple[str, ...]
    data: Frame


def event(chain: Chain, receipt: Receipt, contract_name: str, signature: str) -> Log:
    """The event of that signature that a contract of ours logged in the transaction.

    Raises:
        ChainError: the node does not answer, or tells none.
    """
    answer = chain.rpc.call("eth_getTransactionReceipt", receipt.tx_hash)
    logs = answer.get("logs") if isinstance(answer, dict) else None
    wanted, address = "0x" + keccak(signature.encode()).hex(), chain.require(contract_name).lower()
    for log in logs if isinstance(logs, list) else ():
        topics = log.get("topics") if isinstance(log, dict) else None
        if not isinstance(log, dict) or not isinstance(topics, list) or topics[:1] != [wanted]:
            continue
        if str(log.get("address")).lower() == address:
            return Log(tuple(map(str, topics[1:])), Frame(unhex(log.get("data"))))
    name = signature.partition("(")[0]
    raise ChainError(
        f"the node's receipt of {receipt.tx_hash} has no {name}",
        hint="it is in a block all the same; set another rpc_url to read it",
        tx_hash=receipt.tx_hash,
    )
