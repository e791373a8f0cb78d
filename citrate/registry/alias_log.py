"""The history of an alias, whole or not at all.

The chain keeps no list of it, so it is read from logs, which nodes prune and providers drop while answering success.
But each event carries its number and the block of the one before it, and the contract keeps the newest of both: the
walk either counts down to 1 or shows that an entry is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, ConfigError
from citrate.core.records import ALIAS_PATTERN, LATEST
from citrate.registry import ids, rpc, views
from citrate.registry.abi_codec import Frame
from citrate.registry.contract import Contract
from citrate.registry.views import AliasTarget

_ALIAS_SET = "0x" + ids.keccak(b"AliasSet(bytes32,bytes32,string,uint256,uint256)").hex()


@dataclass(frozen=True)
class AliasChange:
    """One setting of an alias."""

    alias: str
    version_id: str
    version: str
    number: int
    """1 for the first."""
    block_number: int
    tx_hash: str


@dataclass(frozen=True)
class _Event:
    alias: str
    version_id: str
    previous_block: int
    number: int
    block_number: int
    tx_hash: str


def alias_log(contract: Contract, model_id: str, alias: str) -> tuple[AliasChange, ...]:
    """Every change of an alias, oldest first.

    Raises:
        ConfigError: `latest`, which is computed, or no alias at all.
        NotFoundError: the model has no such alias.
        ChainError: the node leaves out a log entry.
    """
    if alias == LATEST or not ALIAS_PATTERN.fullmatch(alias):
        raise ConfigError(f"{alias!r} is not an alias with a history", hint="citrate alias log PUBLISHER/NAME:ALIAS")
    target = contract.read(views.alias_of(model_id, alias), contract.pin())
    events: list[_Event] = []
    block_number, due = target.changed_at_block, target.changes
    while due:
        here = _changes_in(contract, model_id, alias, block_number, due)
        events += here
        block_number, due = here[-1].previous_block, here[-1].number - 1
    if events[0].version_id != target.version_id:
        raise _missing(alias, target.changes, target.changed_at_block)
    names = _version_names(contract, events)
    return tuple(
        AliasChange(alias, e.version_id, names[e.version_id], e.number, e.block_number, e.tx_hash)
        for e in reversed(events)
    )


def aliases(contract: Contract, model_id: str) -> tuple[AliasTarget, ...]:
    """The aliases of a model, by name: found in logs, each then read from the contract.

    The chain has no list of aliases. One that a node's logs leave out is missing here, though `resolve` finds it.

    Raises:
        ChainError: the node gives no logs of the whole chain.
    """
    block = contract.pin()
    found = sorted({event.alias for event in _logs(contract, model_id, 0, block.number)})
    asked = [views.alias_of(model_id, alias) for alias in found]
    outcomes = contract.outcomes(asked, block)
    return tuple(contract.value(view, outcome) for view, outcome in zip(asked, outcomes, strict=True))


def _changes_in(contract: Contract, model_id: str, alias: str, block_number: int, due: int) -> list[_Event]:
    """The changes of one block, newest first: they count down from ``due`` until one names an earlier block."""
    logs = _logs(contract, model_id, block_number, block_number)
    found = {event.number: event for event in logs if event.alias == alias and event.block_number == block_number}
    chain: list[_Event] = []
    while not chain or (chain[-1].previous_block == block_number and chain[-1].number > 1):
        event = found.get(due - len(chain))
        if event is None or (event.number > 1) != (event.previous_block > 0) or event.previous_block > block_number:
            raise _missing(alias, due - len(chain), block_number)
        chain.append(event)
    return chain


def _logs(contract: Contract, model_id: str, first_block: int, last_block: int) -> list[_Event]:
    where: Json = {
        "address": contract.registry_address,
        "fromBlock": hex(first_block),
        "toBlock": hex(last_block),
        "topics": [_ALIAS_SET, model_id],
    }
    logs = contract.rpc.call("eth_getLogs", where)
    if not isinstance(logs, list):
        raise ChainError("the node answered a question for logs with no list", hint="check rpc_url")
    return [_event(log) for log in logs]


def _event(log: Json) -> _Event:
    topics = log.get("topics") if isinstance(log, dict) else None
    if not isinstance(log, dict) or not isinstance(topics, list) or len(topics) != 3:
        raise ChainError("the node answered a log that is none", hint="check rpc_url")
    frame = Frame(rpc.unhex(log.get("data")))
    return _Event(
        alias=frame.text(0),
        version_id=str(topics[2]),
        previous_block=frame.number(1),
        number=frame.number(2),
        block_number=rpc.quantity(log.get("blockNumber")),
        tx_hash=str(log.get("transactionHash")),
    )


def _version_names(contract: Contract, events: list[_Event]) -> dict[str, str]:
    """Each version's name; a history has few versions, so one round trip does."""
    wanted = {event.version_id: views.get_version(event.version_id) for event in events}
    outcomes = contract.outcomes(list(wanted.values()), contract.pin())
    found = zip(wanted.items(), outcomes, strict=True)
    return {version_id: contract.value(view, outcome).version for (version_id, view), outcome in found}


def _missing(alias: str, number: int, block_number: int) -> ChainError:
    return ChainError(
        f"the node leaves out change {number} of the alias {alias!r} (block {block_number}): its log is incomplete",
        hint="set an rpc_url that keeps all logs",
    )
