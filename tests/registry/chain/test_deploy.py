"""The contracts get the same addresses everywhere, once, whoever pays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from citrate.core.errors import ChainError, CitrateError
from citrate.registry import artifacts, deploy, deployments
from citrate.registry.chain import Chain
from citrate.registry.ids import keccak
from citrate.registry.rpc import JsonRpc, quantity
from citrate.registry.signer import Signer
from tests.fixtures_anvil import AnvilNode, release_of, signer_of, start_anvil, stop_anvil

ROOT = Path(__file__).resolve().parents[3]
SECRET = "0x" + (1).to_bytes(32, "big").hex()


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[AnvilNode]:
    """A chain without our contracts, with the publisher's funds; arguments of Anvil by indirect parametrisation."""
    node = start_anvil(*getattr(request, "param", ()))
    node.rpc.call("anvil_setBalance", signer_of("publisher").address, hex(10**24))
    yield node
    stop_anvil(node)


def unlock(chain_id: int) -> Signer:
    return signer_of("publisher", chain_id)


def never(chain_id: int) -> Signer:
    raise AssertionError(f"no key is needed on chain {chain_id}")


def test_addresses_follow_from_code_and_salt() -> None:
    for name in artifacts.shipped():
        contract = artifacts.load(name)
        told = keccak(b"\xff" + bytes.fromhex(deploy.PROXY[2:]) + contract.salt + keccak(contract.init_code))
        assert contract.address.lower() == "0x" + told[12:].hex()


def test_the_registry_is_where_its_code_says_unless_the_package_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = artifacts.load("ModelRegistry").address
    assert deployments.registry_on(31337) == deployments.registry_on(1) == ours
    monkeypatch.setattr(deployments, "_folder", lambda: tmp_path)
    (tmp_path / "10.json").write_text(json.dumps({"ModelRegistry": "0x" + "10" * 20}))
    (tmp_path / "11.json").write_text("[")
    assert (deployments.registry_on(10), deployments.registry_on(1)) == ("0x" + "10" * 20, ours)
    with pytest.raises(CitrateError, match=r"deployments/11\.json"):
        deployments.registry_on(11)


@pytest.mark.servers
@pytest.mark.parametrize("bare", [("--chain-id", "8453")], indirect=True)
def test_a_key_deploys_once_on_any_chain(bare: AnvilNode, tmp_path: Path) -> None:
    assert deploy.missing(bare.rpc) == artifacts.shipped()
    assert deploy.deploy_with_key(bare.url, 8453, tmp_path, unlock) == deploy.addresses()
    block = quantity(bare.rpc.call("eth_blockNumber"))
    assert deploy.deploy_with_key(bare.url, 8453, tmp_path, never) == deploy.addresses()
    assert quantity(bare.rpc.call("eth_blockNumber")) == block
    chain = Chain.connect(bare.url, 8453, home=tmp_path)
    signer = unlock(8453)
    chain.publish(signer, release_of(signer.address))
    assert chain.resolve(signer.address, "tiny", "latest").version == "1.0.0"


@pytest.mark.servers
def test_another_chain_is_refused_before_a_key_is_asked_for(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="is chain 31337, not 1"):
        deploy.deploy_with_key(bare.url, 1, tmp_path, never)


@pytest.mark.servers
def test_an_interrupted_deployment_is_resumed(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(CitrateError, match="has 0 ETH"):
        deploy.deploy_with_key(bare.url, 31337, tmp_path, lambda chain_id: signer_of("pauper", chain_id))
    assert deploy.deploy_with_key(bare.url, 31337, tmp_path, unlock) == deploy.addresses()


@pytest.mark.servers
@pytest.mark.parametrize("bare", [("--disable-default-create2-deployer",)], indirect=True)
def test_a_devnet_without_the_proxy_gets_it(bare: AnvilNode) -> None:
    assert bare.rpc.call("eth_getCode", deploy.PROXY, "latest") == "0x"
    assert deploy.deploy(bare.rpc, deploy.UnlockedSender(bare.rpc)) == deploy.addresses()


@pytest.mark.servers
@pytest.mark.parametrize("bare", [("--disable-default-create2-deployer", "--chain-id", "8453")], indirect=True)
def test_another_chain_without_the_proxy_is_told_where_to_get_it(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(CitrateError, match="no deterministic deployment proxy") as error:
        deploy.deploy_with_key(bare.url, 8453, tmp_path, unlock)
    assert "deterministic-deployment-proxy" in error.value.hint


@pytest.mark.servers
def test_the_script_deploys_and_prints_the_addresses(bare: AnvilNode, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/deploy.py", "--rpc-url", bare.url, "--home", str(tmp_path)]
    environment = {**os.environ, "CITRATE_PRIVATE_KEY": SECRET}
    for _ in range(2):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(done.stdout) == deploy.addresses()
    wrong = subprocess.run([*command, "--chain-id", "1"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert wrong.returncode == 5 and "not 1" in wrong.stderr and wrong.stdout == ""
    assert SECRET[-8:] not in done.stdout + done.stderr + wrong.stderr
    listed = subprocess.run(command[:2], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(listed.stdout) == deploy.addresses()


@pytest.mark.servers
def test_code_with_other_immutables_is_still_ours_and_any_other_change_is_not(bare: AnvilNode) -> None:
    deploy.deploy(bare.rpc, deploy.UnlockedSender(bare.rpc))
    contract = artifacts.load("ModelRegistry")
    code = bytes.fromhex(str(JsonRpc(bare.url).call("eth_getCode", contract.address, "latest"))[2:])
    assert contract.is_code_of(code) and code != contract.runtime
    masked = {at for start, length in contract.immutables for at in range(start, start + length)}
    for at in (0, 1, len(code) // 2, len(code) - 1, min(masked) - 1, max(masked) + 1):
        changed = bytearray(code)
        changed[at] ^= 1
        assert not contract.is_code_of(bytes(changed))
    assert not contract.is_code_of(code[:-1]) and not contract.is_code_of(b"")
