"""Every custom error of the contract has its own meaning, and there is no other."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode

from citrate.core.errors import AlreadyExistsError, ChainError, CitrateError, NotFoundError, NotPermittedError
from citrate.registry import artifacts
from citrate.registry.abi_codec import selector
from citrate.registry.contract import refused
from citrate.registry.reverts import TABLE, decode
from citrate.registry.rpc import RpcError

EXAMPLES: dict[str, object] = {
    "bytes32": b"\x11" * 32,
    "bytes4": b"\x22" * 4,
    "address": "0x" + "33" * 20,
    "uint256": 44,
    "string": "prod",
}


def _errors() -> list[tuple[str, list[str]]]:
    abi: Any = artifacts.load("ModelRegistry").abi
    errors = [entry for entry in abi if entry["type"] == "error"]
    return [
        (f"{e['name']}({','.join(i['type'] for i in e['inputs'])})", [i["type"] for i in e["inputs"]]) for e in errors
    ]


def test_the_table_is_exactly_the_errors_of_the_abi() -> None:
    assert set(TABLE) == {signature for signature, _ in _errors()}


@pytest.mark.parametrize(("signature", "types"), _errors())
def test_each_error_has_one_line_and_a_hint(signature: str, types: list[str]) -> None:
    error = decode(selector(signature) + encode(types, [EXAMPLES[kind] for kind in types]))
    assert error is not None and type(error) is TABLE[signature].error
    assert error.message and "\n" not in error.message and "{" not in error.message
    assert error.hint and error.hint != error.message


def test_arguments_reach_the_message() -> None:
    error = decode(
        selector("NotOwner(bytes32,address)") + encode(["bytes32", "address"], [b"1" * 32, "0x" + "33" * 20])
    )
    assert isinstance(error, NotPermittedError) and "0x" + "33" * 20 in error.message
    error = decode(selector("UnknownAlias(bytes32,string)") + encode(["bytes32", "string"], [b"1" * 32, "prod"]))
    assert isinstance(error, NotFoundError) and "'prod'" in error.message
    assert TABLE["VersionTaken(bytes32)"].error is AlreadyExistsError


@pytest.mark.parametrize("data", ["", "0x", "0x12", "0xdeadbeef", "0xdeadbeef" + "00" * 32, "not hex"])
def test_what_is_not_an_error_of_ours_stays_a_chain_error(data: str) -> None:
    assert isinstance(refused(RpcError("eth_call", 3, "execution reverted", data)), ChainError)


def test_a_cut_off_error_is_a_chain_error_and_no_crash() -> None:
    with pytest.raises(ChainError):
        decode(selector("NotOwner(bytes32,address)") + b"\0" * 40)


def test_every_class_in_the_table_is_one_of_ours() -> None:
    assert all(issubclass(refusal.error, CitrateError) for refusal in TABLE.values())
