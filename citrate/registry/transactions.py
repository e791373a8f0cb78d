"""Transactions that are estimated, priced, sent once and waited for until they are sure.

Each action is written into the home's outbox before it leaves (`citrate.registry.outbox`), gets into a block
(`delivery`) and stays there (`finality`). What a killed command left behind is found by the next one with that key.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError, InterruptedSendingError
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import atomic, contract, fees, rpc
from citrate.registry.delivery import Delivery, Mined, NonceTakenError, Sending, signed
from citrate.registry.devnet import Devnet
from citrate.registry.finality import Finality
from citrate.registry.ids import checksum
from citrate.registry.outbox import Action, Entry, Outbox, Sent
from citrate.registry.rpc import Call, JsonRpc, RpcError

if TYPE_CHECKING:
    from citrate.registry.signer import Signer

_NONCES = 32
"""How often other programs may take the nonce of an action before it is given up."""
_REORGANISATIONS = 32
"""How often a reorganisation may take an action out of the chain before it is given up."""
_SPARE_GAS = 1 << 14
"""A random part of it is added to each gas limit, so that no two programs sign the same bytes; unused gas is not paid.

Else the same action of one key in two homes is one transaction to the node, and both tell of its one receipt.
"""
_SPREAD_MS = 1000
"""After that a pause of up to so long, so that programs that lost together do not ask together again."""
_CLAIMED_FOR_S = 3600.0
"""So long after a command was cut off, the same command tells what became of it; later it means to do it again."""


@dataclass(frozen=True)
class Receipt:
    """A transaction that is in a block."""

    tx_hash: str
    gas_used: int
    block_number: int
    fee_wei: int
    block_hash: str = ""
    confirmations: int = 0
    """How many blocks followed its own when this was told."""
    taken_up: bool = False
    """Whether it was an earlier command that sent it, and was cut off before it told of it."""


class Estimate(NamedTuple):
    """What a transaction would use, and cost at the present price of gas."""

    gas: int
    fee_wei: int


class TransactionSender:
    """Sends transactions of one chain: one at a time for each key, whichever process of this home sends them.

    Args:
        node: the chain.
        chain_id: what it was found to be.
        home: where outbox and locks are; if the node is its devnet, that is checkpointed after each transaction.
        sending: fees, times, and how sure a block must be.
        notify: told what happens by itself, such as a higher fee.
    """

    def __init__(
        self,
        node: JsonRpc,
        chain_id: int,
        home: Path,
        sending: Sending | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._rpc = node
        self._chain_id = chain_id
        self._home = home
        self._sending = sending or Sending()
        self._notify = notify or (lambda _: None)
        self._finality = Finality(node, self._sending, self._notify)

    def estimate(self, sender: str, to: str, data: bytes, value: int = 0) -> Estimate:
        """What the transaction would cost now; the sender needs no funds for the question, but for ``value`` wei.

        Raises:
            CitrateError: the contract would refuse it.
            ChainError: the chain does not answer.
        """
        calls = [_estimation(sender, Action(checksum(to), "0x" + data.hex(), value)), *fees.QUESTIONS]
        gas, block, tip = self._rpc.batch(calls)
        market = fees.read(block, tip)
        used = self._gas(gas, sender)
        return Estimate(used, used * (market.base_fee_wei + market.tip_wei))

    def require_funds(self, address: str, gas: int) -> None:
        """Refuse to begin what an account cannot pay to the end, at what would be offered for a gas now.

        Raises:
            CitrateError: it has too little.
            ChainError: the chain does not answer.
        """
        *market, balance = self._rpc.batch([*fees.QUESTIONS, ("eth_getBalance", [address, "latest"])])
        offered = fees.first(fees.read(*market), self._sending.cap_wei)
        needed = gas * 11 // 10 * offered.max_fee_wei
        if rpc.quantity(balance) < needed:
            raise self._poor(address, rpc.quantity(balance), needed)

    def send(self, signer: Signer, to: str, data: bytes, value: int = 0) -> Receipt:
        """Send a transaction and wait until it is in a block that is as sure as the settings ask.

        Args:
            signer: the key that sends and pays.
            to: an address.
            data: a call.
            value: wei that go along.

        Raises:
            CitrateError: the contract refuses it (nothing was sent), or the sender cannot pay for it.
            ChainError: the chain does not answer, or the transaction is in no block, or its block not sure, in time
                (``tx_hash`` says which).
        """
        action = Action(checksum(to), "0x" + data.hex(), value)
        entry, done, confirmations = self._made_sure(signer, action)
        entry.remove()
        if not done.ok:
            raise self._failed(signer.address, action, done.tx_hash)
        self._checkpoint()
        where = (done.block_number, done.fee_wei, done.block_hash, confirmations)
        return Receipt(done.tx_hash, done.gas_used, *where, taken_up=entry.taken_up)

    def is_untold(self, sender: str, to: str, data: bytes) -> bool:
        """Whether a command that was cut off sent just this, so that what came of it is still to be told."""
        action = Action(checksum(to), "0x" + data.hex(), 0)
        left = Outbox(self._home, self._chain_id, sender).abandoned()
        for entry in left:
            entry.release()
        return any(entry.sent.action == action for entry in left)

    # ------------------------------------------------------------------ into a block

    def _made_sure(self, signer: Signer, action: Action) -> tuple[Entry, Mined, int]:
        """Get an action into a block and see it stay there; also tells how many blocks follow."""
        entry: Entry | None = None
        try:
            for _ in range(_REORGANISATIONS):
                with self._turn(signer.address):
                    entry, found = self._included(signer, action, entry)
                if sure := self._finality.wait(found):
                    return entry, *sure
                self._notify(f"a reorganisation took {found.tx_hash} out of the chain; sending it again")
            raise ChainError(
                f"the chain was reorganised {_REORGANISATIONS} times under one transaction",
                hint="set another rpc_url, or run the same command again: it sends nothing twice",
                tx_hash=found.tx_hash,
            )
        except BaseException as error:
            if entry:
                entry.release()
                _name_what_left(error, entry)
            raise

    def _included(self, signer: Signer, action: Action, entry: Entry | None) -> tuple[Entry, Mined]:
        """Get an action into a block; ``entry``: it was in one, and a reorganisation took it out."""
        fresh = False
        entry = entry or self._left_behind(signer, action)
        for _ in range(_NONCES):
            if entry is None:
                entry, fresh = self._start(signer, action), True
            try:
                return entry, self._delivery(signer, entry).run(fresh=fresh)
            except NonceTakenError:
                entry.remove()
                entry = None
                time.sleep(secrets.randbelow(_SPREAD_MS) / 1000)
            except BaseException as error:
                entry.release()
                _name_what_left(error, entry)
                raise
        raise ChainError(
            f"other programs that send with {signer.address} were faster {_NONCES} times",
            hint="let one program at a time send with a key",
        )

    def _start(self, signer: Signer, action: Action) -> Entry:
        """Estimate, price, sign and record an action; nothing is sent yet."""
        calls: list[Call] = [
            _estimation(signer.address, action),
            *fees.QUESTIONS,
            ("eth_getBalance", [signer.address, "latest"]),
            ("eth_getTransactionCount", [signer.address, "pending"]),
        ]
        estimated, block, tip, balance, count = self._rpc.batch(calls)
        gas = self._gas(estimated, signer.address, rpc.quantity(balance), action.value_wei) * 11 // 10
        gas += secrets.randbelow(_SPARE_GAS)
        market = fees.read(block, tip)
        offered = fees.first(market, self._sending.cap_wei)
        needed = gas * offered.max_fee_wei + action.value_wei
        if rpc.quantity(balance) < needed:
            raise self._poor(signer.address, rpc.quantity(balance), needed)
        nonce = rpc.quantity(count)
        offer = signed(signer, self._chain_id, action, nonce, gas, offered)
        sent = Sent(action, nonce, gas, (offer,), time.time(), market.block_number, market.block_hash)
        return Outbox(self._home, self._chain_id, signer.address).start(sent)

    def _left_behind(self, signer: Signer, action: Action) -> Entry | None:
        """Look at what commands that were cut off left in the outbox; the entry of the same action is taken over.

        Another action that the node still holds goes first, because its nonce does. One that it does not hold is left
        alone: ours takes its nonce, so at most one of the two gets into a block.
        """
        own: Entry | None = None
        for entry in Outbox(self._home, self._chain_id, signer.address).abandoned():
            delivery = self._delivery(signer, entry)
            try:
                if delivery.is_of_another_chain():
                    raise NonceTakenError
                found = delivery.settled()
                same = own is None and entry.sent.action == action
                if found is None and not same and delivery.is_waiting():
                    self._notify(f"an earlier command was cut off; its {entry.sent.offers[-1].tx_hash} goes first")
                    found = delivery.run(fresh=False)
            except NonceTakenError:
                entry.remove()
                continue
            except BaseException:
                entry.release()
                raise
            if found and (not found.ok or entry.sent.age_s() > _CLAIMED_FOR_S):
                entry.remove()
            elif same:
                own = entry
                own.taken_up = True
                self._notify(
                    f"an earlier run was cut off; its {entry.sent.offers[-1].tx_hash} is taken up, not sent twice"
                )
            else:
                entry.release()
        return own

    def _delivery(self, signer: Signer, entry: Entry) -> Delivery:
        return Delivery(self._rpc, self._sending, signer, entry, self._notify)

    # ------------------------------------------------------------------ what it costs, and why it failed

    def _gas(self, estimated: Json | RpcError, sender: str, balance: int = 0, value: int = 0) -> int:
        if not isinstance(estimated, RpcError):
            return rpc.quantity(estimated)
        if not estimated.is_revert and "insufficient funds" in estimated.text.lower():
            raise self._poor(sender, balance, value)
        raise contract.refused(estimated)

    def _poor(self, address: str, balance_wei: int, needed_wei: int) -> CitrateError:
        devnet = self._chain_id == DEVNET_CHAIN_ID and rpc.is_loopback(self._rpc.url)
        return CitrateError(
            f"{address} has {_ether(balance_wei)} ETH, and the transaction may cost {_ether(needed_wei)} ETH",
            hint=f"citrate devnet fund {address}"
            if devnet
            else f"send some ETH on chain {self._chain_id} to {address}",
        )

    def _failed(self, sender: str, action: Action, tx_hash: str) -> CitrateError:
        """Why a transaction that was estimated well failed all the same: another one came first."""
        try:
            self._gas(self._rpc.batch([_estimation(sender, action)])[0], sender)
        except CitrateError as error:
            return error
        return ChainError(f"the transaction {tx_hash} failed on chain", hint="run the command again", tx_hash=tx_hash)

    def _checkpoint(self) -> None:
        devnet = Devnet(self._home)
        if self._chain_id == DEVNET_CHAIN_ID and devnet.status().rpc_url == self._rpc.url:
            devnet.checkpoint()

    @contextlib.contextmanager
    def _turn(self, address: str) -> Iterator[None]:
        """Hold the key's turn from its nonce until its transaction is in a block."""
        import filelock  # not at the top: reading takes no lock, and this takes as long as a read

        folder = self._home / "locks"
        atomic.private_folder(folder)
        limit_s = 2 * self._sending.timeout_s
        try:
            with filelock.FileLock(folder / f"{self._chain_id}-{address.lower()}", timeout=limit_s):
                yield
        except filelock.Timeout as error:
            raise ChainError(
                f"another command has been sending with {address} for minutes", hint="wait for it, or end it"
            ) from error


def _name_what_left(error: BaseException, entry: Entry) -> None:
    """A stop by the user tells which transaction was on its way."""
    if isinstance(error, KeyboardInterrupt) and not isinstance(error, InterruptedSendingError):
        raise InterruptedSendingError(entry.sent.offers[-1].tx_hash) from error


def _estimation(sender: str, action: Action) -> Call:
    return "eth_estimateGas", [{"from": sender, "to": action.to, "data": action.data, "value": hex(action.value_wei)}]


def _ether(wei: int) -> str:
    return f"{wei / 10**18:.6g}"
