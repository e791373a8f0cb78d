"""Get one action into a block: offered, watched, offered again for more, whichever transaction of it is taken.

All transactions of an action have one nonce, of which a chain takes at most one: that is why an action is never carried
out twice. It gets another nonce only when a block has used the first one for a transaction that is not ours.
The only module that imports web3, and only when something is sent: importing it takes longer than most reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.canonical import Json
from citrate.core.errors import ChainError
from citrate.registry import fees, rpc
from citrate.registry.fees import Fees
from citrate.registry.outbox import Action, Entry, Offer, Sent
from citrate.registry.rpc import Call, JsonRpc, RpcError

if TYPE_CHECKING:
    from web3 import Web3

    from citrate.core.settings import Settings
    from citrate.registry.signer import Signer

_CERTAIN = 3
"""How often a nonce must be found used, and none of our receipts, before another program is said to have used it."""
_KNOWN = ("already known", "already imported", "known transaction")
_OUTBID = ("replacement", "too low to replace", "could not replace", "another transaction with same nonce")
_NONCE_USED = ("nonce too low", "nonce is too low", "old nonce", "oldnonce")


class NonceTakenError(Exception):
    """None of an action's transactions can get into a block any more: one that is not ours has their nonce."""


@dataclass(frozen=True)
class Sending:
    """How transactions are sent."""

    confirmations: int | None = None
    """Blocks that must follow a transaction's own. None: 0 for a node on this machine, 1 elsewhere."""
    finality: str = "latest"
    """What the chain must say of its block: ``latest``, ``safe`` or ``finalized``."""
    max_fee_gwei: float = 0.0
    """The most that is offered for a gas; 0: no limit."""
    patience_s: float = 30.0
    """How long a transaction waits for a block before more is offered for it."""
    timeout_s: float = 180.0
    """How long all of this may take until a block has it."""
    finality_timeout_s: float = 1800.0
    """How long a block may take to become as sure as is asked."""

    @classmethod
    def of(cls, settings: Settings) -> Sending:
        """As the settings ask."""
        return cls(settings.confirmations, settings.finality, settings.max_fee_gwei)

    @property
    def cap_wei(self) -> int:
        """``max_fee_gwei`` in wei."""
        return round(self.max_fee_gwei * fees.GWEI)


@dataclass(frozen=True)
class Mined:
    """A transaction that is in a block."""

    tx_hash: str
    ok: bool
    """False: it failed, and changed nothing but the nonce."""
    block_number: int
    block_hash: str
    gas_used: int
    fee_wei: int


def signed(signer: Signer, chain_id: int, action: Action, nonce: int, gas: int, offered: Fees) -> Offer:
    """A transaction for an action."""
    raw, tx_hash = signer.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": action.to,
            "value": action.value_wei,
            "data": action.data,
            "gas": gas,
            "maxFeePerGas": offered.max_fee_wei,
            "maxPriorityFeePerGas": offered.tip_wei,
        }
    )
    return Offer(tx_hash, "0x" + raw.hex(), offered.max_fee_wei, offered.tip_wei)


def mined(receipt: Json | RpcError) -> Mined | None:
    """Read a node's receipt; None if it has none.

    Raises:
        ChainError: it is no receipt.
    """
    if not isinstance(receipt, dict) or not receipt.get("blockHash"):
        return None
    gas_used = rpc.quantity(receipt.get("gasUsed"))
    return Mined(
        tx_hash=str(receipt.get("transactionHash")),
        ok=rpc.quantity(receipt.get("status")) == 1,
        block_number=rpc.quantity(receipt.get("blockNumber")),
        block_hash=str(receipt["blockHash"]),
        gas_used=gas_used,
        fee_wei=gas_used * rpc.quantity(receipt.get("effectiveGasPrice")),
    )


class Delivery:
    """One action of one key on its way into a block. The caller holds the key's turn.

    Args:
        node: the chain.
        sending: fees and times.
        signer: signs what is offered again.
        entry: the action, with at least one transaction.
        notify: told when more is offered.
    """

    def __init__(
        self, node: JsonRpc, sending: Sending, signer: Signer, entry: Entry, notify: Callable[[str], None]
    ) -> None:
        self._rpc = node
        self._sending = sending
        self._signer = signer
        self._entry = entry
        self._notify = notify
        self._pause_s = 0.05 if rpc.is_loopback(node.url) else 0.5
        self._used = 0
        self._rival = False
        """Whether a transaction that is not ours holds our nonce in the node's pool: it is waited for, not outbid."""
        self._refusal = ""
        self._provider: Web3 | None = None

    @property
    def _sent(self) -> Sent:
        return self._entry.sent

    def run(self, *, fresh: bool) -> Mined:
        """Wait until a transaction of the action is in a block.

        Args:
            fresh: its first transaction was not sent before.

        Raises:
            NonceTakenError: another program's transaction has the nonce.
            ChainError: no answer, no block in time (the entry stays), or the node does not take it (it goes, if fresh).
        """
        deadline = time.monotonic() + self._sending.timeout_s
        found = None if fresh else self.look()
        if found is None:
            self._broadcast(self._sent.offers[-1], final=fresh)
        offered_at = time.monotonic()
        while (found := found or self.look()) is None:
            now = time.monotonic()
            if now > deadline:
                raise self._gave_up()
            if now - offered_at > self._sending.patience_s:
                self._offer_again()
                offered_at = now
            time.sleep(self._pause_s)
        return found

    def look(self) -> Mined | None:
        """Look once for a transaction of the action in a block.

        Raises:
            NonceTakenError: see ``run``; not before it was seen three times.
        """
        address = self._signer.address
        calls: list[Call] = [("eth_getTransactionCount", [address, "latest"])]
        calls += [("eth_getTransactionReceipt", [offer.tx_hash]) for offer in self._sent.offers]
        count, *receipts = self._rpc.batch(calls)
        for receipt in receipts:
            if found := mined(receipt):
                return found
        sure = not any(isinstance(receipt, RpcError) for receipt in receipts)
        self._used = self._used + 1 if sure and rpc.quantity(count) > self._sent.nonce else 0
        if self._used >= _CERTAIN:
            raise NonceTakenError
        return None

    def settled(self) -> Mined | None:
        """Look until it is certain whether a transaction of the action is in a block; see ``look``."""
        while (found := self.look()) is None and self._used:
            time.sleep(self._pause_s)
        return found

    def is_waiting(self) -> bool:
        """Whether the node holds a transaction of the action, or has put one into a block."""
        held = self._rpc.batch([("eth_getTransactionByHash", [offer.tx_hash]) for offer in self._sent.offers])
        return any(isinstance(transaction, dict) for transaction in held)

    def is_of_another_chain(self) -> bool:
        """Whether the action belongs to a development chain of this id that was thrown away since.

        Its nonce is ahead of the key's, and the block that it was signed after does not exist: this chain does not lead
        to it.
        """
        sent = self._sent
        count, block = self._rpc.batch(
            [
                ("eth_getTransactionCount", [self._signer.address, "latest"]),
                ("eth_getBlockByNumber", [hex(sent.block_number), False]),
            ]
        )
        known = isinstance(block, dict) and block.get("hash") == sent.block_hash
        return rpc.quantity(count) < sent.nonce and not known and not self.is_waiting()

    def _offer_again(self) -> None:
        newest = self._sent.offers[-1]
        better = None
        if not self._rival:
            offered = Fees(newest.max_fee_wei, newest.tip_wei)
            better = fees.raised(offered, fees.ask(self._rpc), self._sending.cap_wei)
            if better is None:
                self._refusal = f"max_fee_gwei = {self._sending.max_fee_gwei:g} allows no higher offer"
        if better is None:
            self._broadcast(newest)  # the node may have dropped it
            return
        self._notify(
            f"no block has taken {newest.tx_hash} for {self._sending.patience_s:g} s; "
            f"offering {better.max_fee_wei / fees.GWEI:.3g} gwei a gas instead of {newest.max_fee_wei / fees.GWEI:.3g}"
        )
        sent = self._sent
        offer = signed(self._signer, self._signer.chain_id, sent.action, sent.nonce, sent.gas, better)
        self._entry.add(offer)
        self._broadcast(offer)

    def _broadcast(self, offer: Offer, *, final: bool = False) -> None:
        """Hand a transaction to the node.

        A lost answer is no failure: whether it arrived is seen by looking. ``final``: if the node refuses it, nothing
        of the action is on its way.

        Raises:
            ChainError: the node refuses it, and that is final.
        """
        from requests.exceptions import RequestException
        from web3.exceptions import Web3Exception, Web3RPCError

        try:
            self._web3().eth.send_raw_transaction(bytes.fromhex(offer.raw[2:]))
            self._rival = False
        except Web3RPCError as error:
            text = str(error.args[0] if error.args else error)[:300]
            if _says(text, _OUTBID):
                self._rival = len(self._sent.offers) == 1
            elif not _says(text, _KNOWN) and not _says(text, _NONCE_USED):
                if final:
                    self._entry.remove()
                    raise ChainError(
                        f"the node refused the transaction: {text}", hint="check the chain: citrate doctor"
                    ) from error
                self._refusal = f"the node says: {text}"
        except (Web3Exception, RequestException, OSError) as error:
            self._refusal = f"the node did not answer: {type(error).__name__}"

    def _gave_up(self) -> ChainError:
        newest, *older = [offer.tx_hash for offer in reversed(self._sent.offers)]
        message = f"the transaction {newest} is in no block after {self._sending.timeout_s:g} s"
        if older:
            message += f", nor is {', '.join(older)}, whose place it took"
        if self._rival:
            message += "; another program's transaction has its nonce and is in no block either"
        if self._refusal:
            message += f"; {self._refusal}"
        return ChainError(
            message, hint="run the same command again: it waits for these and sends nothing twice", tx_hash=newest
        )

    def _web3(self) -> Web3:
        import citrate.registry.ethereum  # noqa: F401, I001  # first: it says why
        from requests import Session
        from web3 import HTTPProvider, Web3

        if self._provider is None:
            session = Session()
            # a proxy of the environment cannot reach this machine
            session.trust_env = not rpc.is_loopback(self._rpc.url)
            # No retries: after one, a refusal would not be final, since the lost first try may have arrived.
            provider = HTTPProvider(
                self._rpc.url, request_kwargs={"timeout": 20}, session=session, exception_retry_configuration=None
            )
            self._provider = Web3(provider)
        return self._provider


def _says(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text.lower() for phrase in phrases)
