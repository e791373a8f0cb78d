"""Every custom error of every contract has its own meaning, and there is no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from eth_abi.abi import encode

from citrate.cli.main import COMMANDS, app
from citrate.core.errors import AlreadyExistsError, ChainError, CitrateError, NotFoundError, NotPermittedError
from citrate.registry import artifacts
from citrate.registry.abi_codec import selector
from citrate.registry.contract import refused
from citrate.registry.reverts import TABLE, decode
from citrate.registry.rpc import RpcError

INTERFACES = Path(__file__).parents[3] / "contracts" / "interfaces"
EXAMPLES: dict[str, object] = {
    "bytes32": b"\x11" * 32,
    "bytes4": b"\x22" * 4,
    "address": "0x" + "33" * 20,
    "uint256": 44,
    "uint8": 2,
    "int256": 5,
    "string": "prod",
}


def _of_abis() -> set[str]:
    """The errors of every contract in the package."""
    found: set[str] = set()
    for name in artifacts.shipped():
        abi: Any = artifacts.load(name).abi
        errors = [entry for entry in abi if entry["type"] == "error"]
        found |= {f"{e['name']}({','.join(i['type'] for i in e['inputs'])})" for e in errors}
    return found


def _of_interfaces() -> set[str]:
    """The errors that the interfaces declare, with enums and contracts as the ABI has them."""
    found = set()
    for path in INTERFACES.glob("*.sol"):
        for name, arguments in re.findall(r"^    error (\w+)\(([^)]*)\);", path.read_text(), re.MULTILINE):
            types = [argument.split()[0] for argument in arguments.split(",") if argument.strip()]
            plain = ["uint8" if "." in kind else "address" if kind.startswith("I") else kind for kind in types]
            found.add(f"{name}({','.join(plain)})")
    return found


OPENZEPPELIN = {signature for signature in TABLE if signature.startswith(("SafeCast", "Checkpoint", "Reentrancy"))} | {
    "FailedCall()",
    "InsufficientBalance(uint256,uint256)",
    "AddressEmptyCode(address)",
}
"""What a contract of ours can raise through a library whether or not the compiler lists it in the contract's ABI."""


def test_the_table_has_every_error_of_every_abi_and_interface() -> None:
    assert _of_abis() | _of_interfaces() <= set(TABLE)
    assert len(_of_interfaces()) > 60


def test_the_table_has_no_error_that_nobody_raises() -> None:
    assert set(TABLE) <= _of_abis() | _of_interfaces() | OPENZEPPELIN


@pytest.mark.parametrize("signature", sorted(TABLE))
def test_each_error_has_one_line_and_a_hint(signature: str) -> None:
    types = [kind for kind in signature[signature.index("(") + 1 : -1].split(",") if kind]
    error = decode(selector(signature) + encode(types, [EXAMPLES[kind] for kind in types]))
    assert error is not None and type(error) is TABLE[signature].error
    assert error.message and "\n" not in error.message and "{" not in error.message
    assert error.hint and error.hint != error.message and "{" not in error.hint


def test_arguments_reach_the_message() -> None:
    error = decode(
        selector("NotOwner(bytes32,address)") + encode(["bytes32", "address"], [b"1" * 32, "0x" + "33" * 20])
    )
    assert isinstance(error, NotPermittedError) and "0x" + "33" * 20 in error.message
    error = decode(selector("UnknownAlias(bytes32,string)") + encode(["bytes32", "string"], [b"1" * 32, "prod"]))
    assert isinstance(error, NotFoundError) and "'prod'" in error.message
    assert TABLE["VersionTaken(bytes32)"].error is AlreadyExistsError


@pytest.mark.parametrize(
    ("signature", "values", "text"),
    [
        ("WrongBond(uint256,uint256)", [5 * 10**16, 10**15], "exactly 0.05 ether, not 0.001 ether"),
        ("CaseGoesOn(uint256,uint256)", [3, 1_800_000_000], "until 2027-01-15 08:00 UTC"),
        ("CaseGoesOn(uint256,uint256)", [3, 2**256 - 1], f"until {2**256 - 1}"),
        ("InvalidWeights(uint256)", [9_950], "99.5 %"),
        ("NotInGoodStanding(bytes32,uint8)", [b"\x11" * 32, 2], "is quarantined"),
        ("NotInGoodStanding(bytes32,uint8)", [b"\x11" * 32, 9], "unknown state 9"),
    ],
)
def test_numbers_are_told_in_their_units(signature: str, values: list[object], text: str) -> None:
    types = signature[signature.index("(") + 1 : -1].split(",")
    error = decode(selector(signature) + encode(types, values))
    assert error is not None and text in error.message


@pytest.mark.parametrize(
    ("signature", "values", "hint"),
    [
        ("NotCommitted(uint256)", [12], "citrate ledger commit 12 --help"),
        ("AlreadyAttested(uint256,address)", [12, "0x" + "33" * 20], "citrate ledger show 12"),
        ("CaseOpen(bytes32,uint256)", [b"\x11" * 32, 7], "citrate vote 7 keep, or remove, takes part in it"),
        ("CaseGoesOn(uint256,uint256)", [7, 1_800_000_000], "citrate case close 7 after that"),
        ("WrongBond(uint256,uint256)", [5 * 10**16, 10**15], "citrate report REF --bond 0.05ether"),
    ],
)
def test_hints_fill_in_the_numbers_that_are_known(signature: str, values: list[object], hint: str) -> None:
    error = decode(selector(signature) + encode(signature[signature.index("(") + 1 : -1].split(","), values))
    assert error is not None and error.hint == hint


@pytest.mark.parametrize("data", ["", "0x", "0x12", "0xdeadbeef", "0xdeadbeef" + "00" * 32, "not hex"])
def test_what_is_not_an_error_of_ours_stays_a_chain_error(data: str) -> None:
    assert isinstance(refused(RpcError("eth_call", 3, "execution reverted", data)), ChainError)


def test_a_cut_off_error_is_a_chain_error_and_no_crash() -> None:
    with pytest.raises(ChainError):
        decode(selector("NotOwner(bytes32,address)") + b"\0" * 40)


def test_every_class_in_the_table_is_one_of_ours() -> None:
    assert all(issubclass(refusal.error, CitrateError) for refusal in TABLE.values())


@pytest.mark.parametrize("signature", sorted(TABLE))
def test_the_commands_that_hints_name_exist(signature: str) -> None:
    for name, below in re.findall(r"citrate ([a-z-]+)(?: ([a-z-]+)\b)?", TABLE[signature].hint):
        assert name in COMMANDS, TABLE[signature].hint
        command = typer.main.get_command(app).get_command(None, name)  # type: ignore[union-attr, arg-type]
        commands = getattr(command, "commands", {})
        assert not commands or not below or below in commands, TABLE[signature].hint
