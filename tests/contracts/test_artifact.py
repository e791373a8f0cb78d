"""What a Python user gets instead of a compiler is what the sources say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import solcx
from eth_utils import keccak, to_checksum_address

ROOT = Path(__file__).resolve().parents[2]
ABI = ROOT / "citrate" / "registry" / "abi"


@pytest.fixture(scope="module")
def artifact() -> dict:
    return json.loads((ABI / "ModelRegistry.json").read_text())


def test_the_address_follows_from_deployer_salt_and_code(artifact):
    initcode_hash = keccak(hexstr=artifact["bytecode"])
    assert initcode_hash.hex() == artifact["initcodeHash"].removeprefix("0x")
    assert keccak(text=artifact["saltText"]).hex() == artifact["salt"].removeprefix("0x")
    packed = b"\xff" + bytes.fromhex(artifact["deployer"][2:]) + bytes.fromhex(artifact["salt"][2:]) + initcode_hash
    assert to_checksum_address(keccak(packed)[12:]) == artifact["address"]


def test_every_error_and_event_of_the_interface_is_in_the_abi(artifact):
    interface = (ROOT / "contracts" / "interfaces" / "IModelRegistry.sol").read_text()
    names = {entry["name"] for entry in artifact["abi"] if entry["type"] in ("error", "event", "function")}
    for line in interface.splitlines():
        words = line.replace("(", " ").split()
        if words[:1] in (["error"], ["event"], ["function"]):
            assert words[1] in names


def test_every_custom_error_of_the_interface_is_asserted_in_a_contract_test():
    interface = (ROOT / "contracts" / "interfaces" / "IModelRegistry.sol").read_text()
    errors = [line.split()[1].split("(")[0] for line in interface.splitlines() if line.startswith("    error ")]
    tests = "".join(path.read_text() for path in sorted((ROOT / "tests" / "contracts").glob("*.t.sol")))
    assert len(errors) > 20
    assert [name for name in errors if f"{name}.selector" not in tests] == []


def test_the_code_fits(artifact):
    assert len(bytes.fromhex(artifact["deployedBytecode"][2:])) <= 13_824  # 13,312 before changeRoot and contentOf
    assert artifact["compiler"]["settings"]["metadata"] == {"bytecodeHash": "none", "appendCBOR": False}


def test_no_path_of_the_building_machine_is_in_the_package_data(artifact):
    sources = json.loads((ABI / "ModelRegistry.input.json").read_text())["sources"]
    assert all(name.startswith(("contracts/", "@openzeppelin/contracts/")) for name in sources)
    assert str(ROOT) not in json.dumps(artifact)


@pytest.mark.servers
def test_py_solc_x_makes_the_same_code_from_the_committed_input(artifact, monkeypatch):
    monkeypatch.setenv("PATH", f"{ROOT / 'tools/node/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}")
    source = json.loads((ABI / "ModelRegistry.input.json").read_text())
    output = solcx.compile_standard(source, solc_binary=ROOT / "tools" / "solc" / "solc.mjs")
    contract = output["contracts"]["contracts/ModelRegistry.sol"]["ModelRegistry"]
    assert "0x" + contract["evm"]["bytecode"]["object"] == artifact["bytecode"]
    assert "0x" + contract["evm"]["deployedBytecode"]["object"] == artifact["deployedBytecode"]
    assert contract["evm"]["deployedBytecode"]["immutableReferences"] == artifact["immutableReferences"]
