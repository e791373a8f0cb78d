"""What is deployed is what the packaged sources say, and the smallest difference is found and named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, UnavailableError
from citrate.registry import artifacts, deployments
from citrate.registry.compiler import Compiled, Compiler
from citrate.registry.deployers import deploy_locally
from citrate.registry.rpc import unhex
from citrate.registry.stack import ANVIL_ACCOUNT, stack
from citrate.registry.verification import Verdict, verify
from tests.fixtures_anvil import CHAIN_ID, AnvilNode, start_anvil, stop_anvil

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[3]
NODE = ROOT / "tools" / "node" / "node_modules" / ".bin"
WRAPPER = ROOT / "tools" / "solc" / "solc.mjs"
SMALL = (artifacts.POLICY, artifacts.TIMELOCK, artifacts.TRAINING_LEDGER)


class RememberingCompiler(Compiler):
    """The real one; what it made of a contract is kept for the next test."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, Compiled] = {}

    def compile(self, source: str, name: str, standard_input: Mapping[str, object]) -> Compiled:
        if name not in self.made:
            self.made[name] = super().compile(source, name, standard_input)
        return self.made[name]


@pytest.fixture(scope="module")
def solc() -> Iterator[RememberingCompiler]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{NODE}{os.pathsep}{os.environ['PATH']}")
        yield RememberingCompiler()


@pytest.fixture
def verdicts(anvil: AnvilNode, solc: Compiler):
    def check(*names: str, authority: str = ANVIL_ACCOUNT) -> Mapping[str, Verdict]:
        addresses = deployments.addresses_on(CHAIN_ID, authority)
        return {each.name: each for each in verify(anvil.rpc, CHAIN_ID, addresses, authority, solc, names=names)}

    return check


def code_of(node: AnvilNode, name: str) -> bytearray:
    return bytearray(unhex(node.rpc.call("eth_getCode", stack(ANVIL_ACCOUNT)[name], "latest")))


def set_code(node: AnvilNode, name: str, code: bytes) -> None:
    node.rpc.call("anvil_setCode", stack(ANVIL_ACCOUNT)[name], "0x" + code.hex())


def test_the_whole_stack_is_what_its_sources_compile_to(verdicts) -> None:
    found = verdicts()
    assert tuple(found) == artifacts.shipped()
    assert {name: each.address for name, each in found.items()} == stack(ANVIL_ACCOUNT)
    assert all(each.ok and not each.reason for each in found.values()), found


def test_one_flipped_bit_is_found_and_its_place_is_told(verdicts, anvil: AnvilNode) -> None:
    whole = code_of(anvil, artifacts.TRAINING_LEDGER)
    for at in (0, len(whole) // 2, len(whole) - 1):
        code = bytearray(whole)
        code[at] ^= 1
        set_code(anvil, artifacts.TRAINING_LEDGER, code)
        found = verdicts(*SMALL)
        assert found[artifacts.TRAINING_LEDGER].reason == f"the code differs from byte {at} on"
        assert [name for name, each in found.items() if not each.ok] == [artifacts.TRAINING_LEDGER]
    set_code(anvil, artifacts.TRAINING_LEDGER, whole + b"\0")
    assert "bytes, not" in verdicts(artifacts.TRAINING_LEDGER)[artifacts.TRAINING_LEDGER].reason


@pytest.mark.parametrize("name", [artifacts.POLICY, artifacts.MODEL_REGISTRY, artifacts.MODEL_ACCESS])
def test_each_immutable_is_compared_by_its_value(verdicts, anvil: AnvilNode, name: str) -> None:
    whole = code_of(anvil, name)
    for immutable, each in artifacts.load(name).immutables.items():
        code = bytearray(whole)
        code[each.places[-1] + 31] ^= 1
        set_code(anvil, name, code)
        verdict = verdicts(name)[name]
        assert not verdict.ok and verdict.reason.startswith(f"its immutable {immutable} holds 0x")


def test_contracts_of_another_authority_are_not_taken_for_this_ones(verdicts, anvil: AnvilNode) -> None:
    other = "0x" + "5afe" * 10
    policy = stack(other)[artifacts.POLICY]
    anvil.rpc.call("anvil_setCode", policy, "0x" + code_of(anvil, artifacts.POLICY).hex())
    found = verdicts(*SMALL, authority=other)
    assert "its immutable authority holds" in found[artifacts.POLICY].reason
    assert found[artifacts.TIMELOCK].missing and found[artifacts.TRAINING_LEDGER].ok


def test_another_contract_of_ours_in_its_place_is_named(verdicts, anvil: AnvilNode) -> None:
    set_code(anvil, artifacts.POLICY, code_of(anvil, artifacts.TIMELOCK))
    assert verdicts(artifacts.POLICY)[artifacts.POLICY].reason == "this is a Timelock"


def test_sources_that_do_not_make_the_package_are_found(
    verdicts, solc: RememberingCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(artifacts.POLICY)
    real = solc.made[artifacts.POLICY]
    monkeypatch.setattr(
        solc, "compile", lambda *_: Compiled(real.creation_code, real.runtime[:-1] + b"\1", real.immutable_places)
    )
    found = verdicts(artifacts.POLICY)[artifacts.POLICY]
    assert not found.ok and "sources do not compile to the package's code" in found.reason


# ---------------------------------------------------------------------- which compiler


def test_another_version_of_the_compiler_is_refused(tmp_path: Path) -> None:
    older = tmp_path / "solc"
    older.write_text("#!/bin/sh\necho 'Version: 0.8.36+commit.00000000.Linux.g++'\n")
    older.chmod(0o755)
    with pytest.raises(ConfigError, match=r"is solc 0\.8\.36\+commit\.00000000, and the contracts were made with"):
        Compiler(older)
    silent = tmp_path / "true"
    silent.symlink_to("/bin/true")
    for none in (silent, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="is no Solidity compiler"):
            Compiler(none)


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    version = artifacts.load(artifacts.POLICY).compiler
    broken = tmp_path / "solc"
    broken.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'Version: {version}.Linux.g++' || exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(UnavailableError, match="did not compile Policy"):
        Compiler(broken).compile("contracts/Policy.sol", "Policy", artifacts.compiler_input("Policy"))


def test_without_a_compiler_the_way_to_get_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # neither node nor solc
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="none is installed") as error:
        Compiler()
    assert error.value.exit_code == 5 and "install_solc('0.8.37')" in error.value.hint


def test_an_installed_compiler_of_the_version_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = artifacts.load(artifacts.POLICY).compiler
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    for name, told in (("solc-v0.8.37", "0.8.37+commit.00000000"), ("solc", version)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Version: {told}.Linux.g++'\n")
        (tmp_path / name).chmod(0o755)
    assert Compiler().path == tmp_path / "solc"  # the same number of another commit is another compiler


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def governed() -> Iterator[AnvilNode]:
    node = start_anvil()
    deploy_locally(node.rpc)
    yield node
    stop_anvil(node)


def run(node: AnvilNode, home: Path, *arguments: str) -> tuple[int, dict]:
    environment = {**os.environ, "PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}", "CITRATE_RPC_URL": node.url}
    command = [sys.executable, "-m", "citrate.cli.main", "verify-contracts", "--json", "--home", str(home), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=home)
    return done.returncode, json.loads(done.stdout)


def test_the_command_exits_3_for_a_tampered_contract_and_4_for_a_missing_one(
    governed: AnvilNode, tmp_path: Path
) -> None:
    code, document = run(governed, tmp_path, "Policy", "--solc", str(WRAPPER))
    assert code == 0 and document["ok"] is True
    assert document["contracts"][0] == {
        "name": "Policy", "address": stack(ANVIL_ACCOUNT)["Policy"], "ok": True, "reason": None
    }  # fmt: skip
    tampered = code_of(governed, "Policy")
    tampered[7] ^= 255
    set_code(governed, "Policy", tampered)
    code, document = run(governed, tmp_path, "Policy")
    assert code == 3 and document["ok"] is False and "byte 7" in document["contracts"][0]["reason"]
    set_code(governed, "Policy", b"")
    code, document = run(governed, tmp_path, "Policy")
    assert code == 4 and document["contracts"][0]["reason"] == "there is no contract at this address"
    code, document = run(governed, tmp_path, "Tower")
    assert code == 2 and "ModelRegistry" in document["error"]["hint"]
