"""Every change of a contract, proved whole against the one word of state that they are rolled into.

A node that serves logs can leave some out and nobody sees it, so a contract keeps
``root = keccak256(root | topics | data)`` over each of its logs (``contracts/interfaces/IChangeLog.sol``). Who folds
the logs of all blocks up to one and finds the root of that block has every change, in order, unaltered. A cursor
(block, root) remembers what is proved, so that a mirror never reads a log twice.

What has to be believed is the node's answer for the root alone: one `eth_call`, which another node can confirm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from citrate.core.canonical import Json
from citrate.core.errors import ChainError
from citrate.registry import ids, rpc
from citrate.registry.abi_codec import encode_call
from citrate.registry.change_events import RECORD_TOPICS, Event, decode
from citrate.registry.contract import Block, Contract
from citrate.registry.rpc import RpcError

_NO_CHANGE = bytes(32)
_VERIFY = "citrate verify-contracts"
_MANY_LOGS = 64
"""From so many on, importing a fast Keccak costs less than folding with ours."""


class NotYetError(ChainError):
    """The contract stands, but not yet at the block to prove at: of what it did, nothing is final."""

    def __init__(self, name: str, address: str, block: Block, tag: str) -> None:
        super().__init__(
            f"nothing of {name} is {tag} yet: in block {block.number}, the {tag} one, it is not at {address}",
            hint=f"wait until newer blocks are {tag}, or: citrate audit --at latest",
        )


@dataclass(frozen=True)
class ChangeCursor:
    """How far a contract's changes are proved: its root at the end of a block."""

    block_number: int
    block_hash: str
    root: str
    """64 hex digits."""
    count: int
    """Changes so far."""


@dataclass(frozen=True)
class Change:
    """One change, proved."""

    contract: str
    event: Event
    block_number: int
    tx_hash: str
    log_index: int


@dataclass(frozen=True)
class Proved:
    """The changes after a cursor, oldest first, complete at the new cursor's block."""

    contract: str
    address: str
    changes: tuple[Change, ...]
    cursor: ChangeCursor
    reorganised: bool
    """The chain no longer has the old cursor's block: ``changes`` is everything, from the first change."""


@dataclass(frozen=True)
class _Log:
    topics: tuple[str, ...]
    data: bytes
    block_number: int
    tx_hash: str
    index: int


def prove(
    contract: Contract, name: str, cursor: ChangeCursor | None = None, *, tag: str = "latest", address: str = ""
) -> Proved:
    """Every change of a contract after ``cursor`` (all of them without one).

    Args:
        contract: the chain.
        name: the contract, one of `change_events.LOGGED`.
        cursor: what was proved before; its block is looked for again, in case of a reorganisation.
        tag: the block to prove at: ``latest``, ``safe`` or ``finalized``.
        address: where the contract is, if not where the stack has it (a former moderation, say).

    Raises:
        ConfigError, ChainError: the chain does not have the contract, or does not answer.
        ChainError: logs are missing, altered or out of order; the message names the contract and the blocks.
        NotYetError: the contract stands, but not at that block.
    """
    where = address or contract.require(name)
    block, standing = _pin(contract, tag, cursor)
    start = cursor if cursor is not None and standing else ChangeCursor(-1, "", _NO_CHANGE.hex(), 0)
    root = _root_at(contract, where, {"blockHash": block.hash})
    if len(root) != len(_NO_CHANGE):
        raise _without_root(contract, name, where, block, tag)
    found = _Walk(contract, name, where).to(start, block, root)
    changes = tuple(
        Change(name, decode(log.topics, log.data), log.block_number, log.tx_hash, log.index) for log in found
    )
    after = ChangeCursor(block.number, block.hash, root.hex(), start.count + len(changes))
    return Proved(name, where, changes, after, cursor is not None and not standing)


def _pin(contract: Contract, tag: str, cursor: ChangeCursor | None) -> tuple[Block, bool]:
    """The block to prove at, and whether the cursor's block still stands."""
    at = hex(cursor.block_number) if cursor else "0x0"
    newest, old = contract.rpc.batch([("eth_getBlockByNumber", [tag, False]), ("eth_getBlockByNumber", [at, False])])
    if not isinstance(newest, dict) or not isinstance(newest.get("hash"), str):
        raise ChainError(f"the node has no {tag} block", hint="ask for another: --at latest")
    block = Block(rpc.quantity(newest.get("number")), str(newest["hash"]), rpc.quantity(newest.get("timestamp")))
    standing = cursor is not None and isinstance(old, dict) and old.get("hash") == cursor.block_hash
    if cursor is not None and standing and block.number < cursor.block_number:
        raise ChainError(
            f"the node's {tag} block {block.number} is before block {cursor.block_number}, which is proved already",
            hint="it is behind: run it again later, or set another rpc_url",
        )
    return block, standing


def _without_root(contract: Contract, name: str, address: str, block: Block, tag: str) -> ChainError:
    """Why a contract tells no root at a block."""
    if rpc.unhex(contract.rpc.call("eth_getCode", address, {"blockHash": block.hash})):
        return ChainError(f"what stands at {address} is no {name}: it tells no change root", hint=_VERIFY)
    if tag != "latest":
        return NotYetError(name, address, block, tag)
    return ChainError(f"there is no {name} at {address} in block {block.number}", hint="citrate deploy-contracts")


def _root_at(contract: Contract, address: str, block: Json) -> bytes:
    """The change root at a block; empty if there is no contract."""
    call: Json = {"to": address, "data": "0x" + encode_call("changeRoot()").hex()}
    return rpc.unhex(contract.rpc.call("eth_call", call, block))


class _Walk:
    """Reads a contract's logs from where they are proved up to a block whose root is known."""

    def __init__(self, contract: Contract, name: str, address: str) -> None:
        self._contract = contract
        self._name = name
        self._address = address
        self._range_blocks = 0
        """The most blocks that the node answered for; 0: it was never refused."""

    def to(self, start: ChangeCursor, block: Block, root: bytes) -> list[_Log]:
        """The logs behind ``start`` that lead to ``root`` at the end of ``block``.

        Where they do not lead there, the first block that differs is looked for and read again alone, because a
        node that cuts long answers off gives short ones whole.
        """
        proved: list[_Log] = []
        at, known = start.block_number, bytes.fromhex(start.root)
        while known != root:
            logs = self._logs(at + 1, block.number)
            if fold(known, logs) == root:
                return proved + logs
            at, known = self._past_first_bad(at, known, block.number, proved)
        return proved

    def _past_first_bad(self, low: int, low_root: bytes, high: int, proved: list[_Log]) -> tuple[int, bytes]:
        """Find the first block up to which the logs do not lead to the chain's root, and read it again alone.

        Args:
            low: the last block that is proved, and ``low_root`` its root.
            low_root: see there.
            high: a block that is known to be wrong when it is read together with those before it.
            proved: what is proved on the way is appended.

        Returns:
            That block, which is proved now, and its root.

        Raises:
            ChainError: it is wrong alone too, or the node has no state of old blocks to look for it with.
        """
        while high - low > 1:
            middle = (low + high) // 2
            try:
                root = self._root(middle)
            except RpcError:
                raise self._incomplete(low + 1, high) from None
            logs = self._logs(low + 1, middle)
            if fold(low_root, logs) == root:
                low, low_root = middle, root
                proved += logs
            else:
                high = middle
        logs = self._logs(high, high)
        reached = fold(low_root, logs)
        if reached != self._root(high):
            raise self._incomplete(high, high)
        proved += logs
        return high, reached

    def _root(self, block_number: int) -> bytes:
        """The root at the end of an old block; zero before the contract was there."""
        return _root_at(self._contract, self._address, hex(block_number)) or _NO_CHANGE

    def _logs(self, first: int, last: int) -> list[_Log]:
        """The logs of some blocks that are folded, in ranges as long as the node answers for."""
        found: list[_Log] = []
        while first <= last:
            upto = min(last, first + self._range_blocks - 1) if self._range_blocks else last
            try:
                found += self._ask(first, upto)
            except RpcError:
                if upto == first:
                    raise
                self._range_blocks = (upto - first + 1) // 2
            else:
                first = upto + 1
        return found

    def _ask(self, first: int, last: int) -> list[_Log]:
        where: Json = {"address": self._address, "fromBlock": hex(first), "toBlock": hex(last)}
        answer = self._contract.rpc.call("eth_getLogs", where)
        if not isinstance(answer, list):
            raise ChainError("the node answered a question for logs with no list", hint="check rpc_url")
        logs = [log for log in map(_read, answer) if log.topics[0] not in RECORD_TOPICS]
        order = [(log.block_number, log.index) for log in logs]
        if order != sorted(set(order)) or any(not first <= log.block_number <= last for log in logs):
            raise self._incomplete(first, last)
        return logs

    def _incomplete(self, first: int, last: int) -> ChainError:
        where = f"block {first}" if first == last else f"blocks {first} to {last}"
        return ChainError(
            f"the node's logs of {self._name} do not add up to its change root: "
            f"some are missing, altered or out of order in {where}",
            hint="set an rpc_url that keeps all logs, or run it again if the chain was reorganised meanwhile",
        )


def fold(root: bytes, logs: Sequence[_Log]) -> bytes:
    """The root after some logs: ``keccak256(root | topics | data)``, one after the other."""
    keccak = _keccak(len(logs))
    for log in logs:
        root = keccak(root + b"".join(bytes.fromhex(topic[2:]) for topic in log.topics) + log.data)
    return root


def _keccak(count: int) -> Callable[[bytes], bytes]:
    if count < _MANY_LOGS:
        return ids.keccak
    from eth_hash.auto import keccak

    return keccak


def _read(log: Json) -> _Log:
    topics = log.get("topics") if isinstance(log, dict) else None
    if not isinstance(log, dict) or not isinstance(topics, list) or not 1 <= len(topics) <= 4:
        raise ChainError("the node answered a log that is none", hint="check rpc_url")
    words = tuple("0x" + rpc.unhex(topic).hex() for topic in topics)
    if any(len(word) != 66 for word in words):
        raise ChainError("the node answered a log that is none", hint="check rpc_url")
    return _Log(
        topics=words,
        data=rpc.unhex(log.get("data")),
        block_number=rpc.quantity(log.get("blockNumber")),
        tx_hash=str(log.get("transactionHash")),
        index=rpc.quantity(log.get("logIndex")),
    )
