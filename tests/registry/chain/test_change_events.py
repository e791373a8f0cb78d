"""The table of events is what the contracts declare, no more and no less, and each reads back as it was logged."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from eth_abi.abi import encode

from citrate.core.adapters import Acceptance, Grade
from citrate.core.errors import ChainError
from citrate.registry import artifacts
from citrate.registry.change_events import LOGGED, RECORD_EVENTS, AliasSet, Event, RunAttested, Unknown, decode
from citrate.registry.ids import keccak

EVENTS = sorted({event for events in LOGGED.values() for event in events}, key=lambda event: event.__name__)


def declared(name: str) -> dict[str, dict[str, Any]]:
    abi: Any = artifacts.load(name).abi
    events = [entry for entry in abi if entry["type"] == "event" and entry["name"] != "EIP712DomainChanged"]
    return {f"{e['name']}({','.join(i['type'] for i in e['inputs'])})": e for e in events}


def topic(event: type[Event]) -> str:
    return "0x" + keccak(event.SIGNATURE.encode()).hex()


@pytest.mark.parametrize("name", LOGGED)
def test_every_event_of_the_abi_is_a_change_or_a_record(name: str) -> None:
    changes = {event.SIGNATURE: event for event in LOGGED[name]}
    found = declared(name)
    assert set(changes) == set(found) - set(RECORD_EVENTS)
    for signature, event in changes.items():
        inputs = found[signature]["inputs"]
        assert [i["indexed"] for i in inputs] == [place < event.INDEXED for place in range(len(inputs))]
        assert len(fields(event)) == len(inputs)


def test_the_contracts_of_the_stack_that_log_are_those_that_have_a_root() -> None:
    def has_root(name: str) -> bool:
        abi: Any = artifacts.load(name).abi
        return any(entry.get("name") == "changeRoot" for entry in abi)

    assert {name for name in artifacts.shipped() if has_root(name)} == set(LOGGED)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_event_reads_back(event: type[Event]) -> None:
    types = event.SIGNATURE[event.SIGNATURE.index("(") + 1 : -1].split(",")
    example: dict[str, object] = {
        "bytes32": b"\x11" * 32,
        "address": "0x" + "33" * 20,
        "uint256": 44,
        "uint8": 1,
        "bool": True,
        "string": "prod",
    }
    values = [example[kind] for kind in types]
    words = [encode([kind], [value]) for kind, value in zip(types, values, strict=True)][: event.INDEXED]
    data = encode(types[event.INDEXED :], values[event.INDEXED :])
    found = decode([topic(event), *("0x" + word.hex() for word in words)], data)
    assert type(found) is event
    told = {"0x" + "11" * 32, "0x" + "33" * 20, 44, 1, "prod", Acceptance.ALLOW_LIST, Grade.EXACT, "upheld"}
    assert {getattr(found, each.name) for each in fields(event)} <= told


def test_what_has_no_name_is_kept_as_it_is() -> None:
    assert decode(["0x" + "ab" * 32], b"\x01") == Unknown(("0x" + "ab" * 32,), "0x01")


def test_a_known_event_that_cannot_be_read_is_a_chain_error() -> None:
    with pytest.raises(ChainError):
        decode([topic(AliasSet), "0x" + "11" * 32], b"")
    with pytest.raises(ChainError):
        decode([topic(AliasSet), "0x" + "11" * 32, "0x" + "11" * 32], b"\0" * 31)
    grade = encode(["uint8", "uint256", "bytes32"], [9, 1, b"\x11" * 32])
    with pytest.raises(ChainError, match="unknown grade 9"):
        decode([topic(RunAttested), "0x" + "00" * 32, "0x" + "00" * 32], grade)
