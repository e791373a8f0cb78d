"""What a Python user gets instead of a compiler is what the sources say; `test_verification.py` compiles it again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from eth_utils import keccak, to_checksum_address

ROOT = Path(__file__).resolve().parents[2]
ABI = ROOT / "citrate" / "registry" / "abi"
STACK = json.loads((ABI / "stack.json").read_text())
INHERITED = {
    "ModelRegistry": ("IModelRegistry", "IChangeLog"),
    "TrainingLedger": ("ITrainingLedger", "IChangeLog"),
    "Policy": ("IPolicy", "IChangeLog"),
    "LoRARegistry": ("ILoRARegistry", "IChangeLog"),
    "ModelAccess": ("IModelAccess", "ICredits", "IChangeLog"),
    "Moderation": ("IModeration", "ICredits", "IChangeLog"),
}
"""The interfaces of each contract: events that are logged by hand must be in its ABI all the same."""


@pytest.fixture(params=STACK)
def artifact(request: pytest.FixtureRequest) -> dict:
    return json.loads((ABI / f"{request.param}.json").read_text())


def interface(name: str) -> str:
    return (ROOT / "contracts" / "interfaces" / f"{name}.sol").read_text()


def test_the_address_follows_from_deployer_salt_and_code(artifact):
    assert keccak(text=artifact["saltText"]).hex() == artifact["salt"].removeprefix("0x")
    if artifact["arguments"]:
        assert "address" not in artifact and set(artifact["arguments"]) <= {"authority", *STACK}
        return
    initcode_hash = keccak(hexstr=artifact["bytecode"])
    assert initcode_hash.hex() == artifact["initcodeHash"].removeprefix("0x")
    packed = b"\xff" + bytes.fromhex(artifact["deployer"][2:]) + bytes.fromhex(artifact["salt"][2:]) + initcode_hash
    assert to_checksum_address(keccak(packed)[12:]) == artifact["address"]


def test_a_contract_comes_after_those_that_it_knows(artifact):
    own = STACK.index(artifact["contract"])
    assert all(name == "authority" or STACK.index(name) < own for name in artifact["arguments"])
    constructor = [entry for entry in artifact["abi"] if entry["type"] == "constructor"]
    assert len(constructor[0]["inputs"] if constructor else ()) == len(artifact["arguments"])


def test_every_error_event_and_function_of_its_interfaces_is_in_the_abi(artifact):
    names = {entry["name"] for entry in artifact["abi"] if entry["type"] in ("error", "event", "function")}
    declared = [
        found
        for each in INHERITED.get(artifact["contract"], ())
        for found in re.findall(r"^    (?:error|event|function) (\w+)", interface(each), re.MULTILINE)
    ]
    assert artifact["contract"] == "Timelock" or len(declared) > 8
    assert [name for name in declared if name not in names] == []


@pytest.mark.parametrize(
    "name", ["IModelRegistry", "ILoRARegistry", "IModelAccess", "IModeration", "ITrainingLedger", "IPolicy"]
)
def test_every_custom_error_of_the_interface_is_asserted_in_a_contract_test(name):
    errors = re.findall(r"^    error (\w+)", interface(name), re.MULTILINE)
    tests = "".join(path.read_text() for path in sorted((ROOT / "tests" / "contracts").glob("*.t.sol")))
    assert errors and [error for error in errors if f"{error}.selector" not in tests] == []


def test_the_code_fits(artifact):
    size = len(bytes.fromhex(artifact["deployedBytecode"][2:]))
    assert size <= (13_824 if artifact["contract"] == "ModelRegistry" else 16_384)  # the chain's limit is 24,576
    assert artifact["compiler"]["settings"]["metadata"] == {"bytecodeHash": "none", "appendCBOR": False}


def test_no_path_of_the_building_machine_is_in_the_package_data(artifact):
    sources = json.loads((ABI / f"{artifact['contract']}.input.json").read_text())["sources"]
    assert all(name.startswith(("contracts/", "@openzeppelin/contracts/")) for name in sources)
    assert str(ROOT) not in json.dumps(artifact)


def test_the_package_holds_the_stack_and_nothing_else():
    assert {path.name for path in ABI.iterdir()} == {
        "stack.json", *(f"{name}.json" for name in STACK), *(f"{name}.input.json" for name in STACK)
    }  # fmt: skip
