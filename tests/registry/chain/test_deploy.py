"""The contracts get the same addresses everywhere, once, whoever pays; the authority decides which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from citrate.core.errors import ChainError, CitrateError, ConfigError, NotFoundError
from citrate.core.settings import Settings
from citrate.registry import artifacts, deployments, fees, stack
from citrate.registry.abi_codec import Frame, encode_call
from citrate.registry.chain import Chain
from citrate.registry.deploy import Deployed, Deployment
from citrate.registry.deployers import UnlockedSender, deploy_locally, deploy_with_key
from citrate.registry.ids import checksum, keccak
from citrate.registry.keys import Keys
from citrate.registry.loras import Loras
from citrate.registry.rpc import JsonRpc, quantity, unhex
from citrate.registry.stack import ANVIL_ACCOUNT, PROXY
from tests.e2e.machine import Machine
from tests.fixtures_anvil import AnvilNode, release_of, signer_of, start_anvil, stop_anvil
from tests.registry.chain.actors import sends

ROOT = Path(__file__).resolve().parents[3]
SECRET = "0x" + (1).to_bytes(32, "big").hex()
SAFE = "0x" + "5afe" * 10
ELSEWHERE = ("--chain-id", "8453")


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[AnvilNode]:
    """A chain without our contracts, with the publisher's funds; arguments of Anvil by indirect parametrisation."""
    node = start_anvil(*getattr(request, "param", ()))
    node.rpc.call("anvil_setBalance", signer_of("publisher").address, hex(10**24))
    yield node
    stop_anvil(node)


def deploy(
    node: AnvilNode, home: Path, authority: str = "", secret: str = SECRET, chain_id: int = 0, dry_run: bool = False
) -> Deployed:
    settings = Settings(home=home, chain_id=chain_id, authority=authority, confirmations=0)
    keys = Keys(home, environ={"CITRATE_PRIVATE_KEY": secret} if secret else {})
    return deploy_with_key(node.url, settings, keys, dry_run=dry_run)


def block_number(node: AnvilNode) -> int:
    return quantity(node.rpc.call("eth_blockNumber"))


def appointed(node: AnvilNode, contracts: Deployed) -> str:
    call = {"to": contracts.contracts[artifacts.POLICY], "data": "0x" + encode_call("moderation()").hex()}
    return checksum(Frame(unhex(node.rpc.call("eth_call", call, "latest"))).address(0))


# ---------------------------------------------------------------------- addresses


def test_addresses_follow_from_code_salt_and_arguments() -> None:
    for authority in (ANVIL_ACCOUNT, SAFE):
        addresses = stack.stack(authority)
        assert tuple(addresses) == artifacts.shipped()
        for name, address in addresses.items():
            call = stack.deployment_call(name, authority)
            salt, init_code = call[:32], call[32:]
            assert salt == keccak(f"citrate.{name}.v1".encode())
            told = keccak(b"\xff" + bytes.fromhex(PROXY[2:]) + salt + keccak(init_code))
            assert address.lower() == "0x" + told[12:].hex()


def test_who_governs_decides_the_addresses_of_policy_and_of_nothing_else() -> None:
    ours, others, nobodys = stack.stack(ANVIL_ACCOUNT), stack.stack(SAFE), stack.stack("")
    free = {name for name in artifacts.shipped() if artifacts.load(name).address}
    assert free <= {artifacts.MODEL_REGISTRY, artifacts.TRAINING_LEDGER} and set(nobodys) == free
    assert {name for name in ours if ours[name] == others[name]} == free
    assert stack.stack(SAFE.upper().replace("0X", "0x")) == others


def test_a_contract_that_stands_elsewhere_moves_those_that_know_it() -> None:
    moved = stack.stack(SAFE, {artifacts.MODEL_REGISTRY: "0x" + "77" * 20})
    plain = stack.stack(SAFE)
    assert moved[artifacts.MODEL_REGISTRY] == "0x" + "77" * 20
    assert moved[artifacts.POLICY] == plain[artifacts.POLICY]
    assert moved[artifacts.MODEL_ACCESS] != plain[artifacts.MODEL_ACCESS]
    with pytest.raises(ConfigError, match="where nothing is, and would be created at"):
        stack.deployment_call(artifacts.MODEL_REGISTRY, SAFE, moved)


def test_the_package_knows_who_governs_a_chain_unless_the_settings_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = artifacts.load("ModelRegistry").address
    assert deployments.registry_on(31337) == deployments.registry_on(1) == ours
    monkeypatch.setattr(deployments, "_folder", lambda: tmp_path)
    (tmp_path / "10.json").write_text(json.dumps({"ModelRegistry": "0x" + "10" * 20, "authority": SAFE}))
    (tmp_path / "11.json").write_text("[")
    assert (deployments.registry_on(10), deployments.registry_on(1)) == ("0x" + "10" * 20, ours)
    other = signer_of("stranger").address
    assert deployments.authority_on(10, "https://rpc.example") == checksum(SAFE)
    assert deployments.authority_on(10, "https://rpc.example", other) == other
    assert deployments.addresses_on(10, SAFE)[artifacts.MODEL_REGISTRY] == "0x" + "10" * 20
    with pytest.raises(CitrateError, match=r"deployments/11\.json"):
        deployments.registry_on(11)


def test_a_key_that_everybody_has_governs_local_chains_only() -> None:
    assert deployments.authority_on(31337, "http://127.0.0.1:8545") == ANVIL_ACCOUNT
    for chain_id, url in ((31337, "https://rpc.example"), (8453, "http://127.0.0.1:8545")):
        assert deployments.authority_on(chain_id, url) == ""
        with pytest.raises(ConfigError, match="everybody has the key"):
            deployments.authority_on(chain_id, url, ANVIL_ACCOUNT)
    for wrong in ("0x12", "0x" + "0" * 40, ANVIL_ACCOUNT.replace("F", "f")):
        with pytest.raises(ConfigError, match="is not an address"):
            deployments.authority_on(8453, "https://rpc.example", wrong)


# ---------------------------------------------------------------------- deploying


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_the_authority_deploys_everything_once_on_any_chain(bare: AnvilNode, tmp_path: Path) -> None:
    authority = signer_of("publisher").address
    done = deploy(bare, tmp_path, authority, chain_id=8453)
    assert done.contracts == stack.stack(authority) and done.authority == authority and not done.pending
    assert [sent.contract for sent in done.transactions] == [*artifacts.shipped(), "Policy.appoint"]
    assert all(len(sent.tx_hash) == 66 and (sent.gas_used or 0) > 40_000 for sent in done.transactions)
    assert appointed(bare, done) == done.contracts[artifacts.MODERATION]
    block = block_number(bare)
    again = deploy(bare, tmp_path, authority, secret="", chain_id=8453)
    assert again == replace(done, transactions=()) and block_number(bare) == block
    chain = Chain.connect(bare.url, 8453, home=tmp_path, authority=authority)
    signer = signer_of("publisher", 8453)
    chain.publish(signer, release_of(signer.address))
    record = chain.resolve(signer.address, "tiny", "latest")
    assert (record.version, record.quarantined) == ("1.0.0", False)


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_what_only_the_authority_may_send_is_told_and_picked_up_later(bare: AnvilNode, tmp_path: Path) -> None:
    done = deploy(bare, tmp_path, SAFE)
    (call,) = done.pending
    assert (call.to, call.sender) == (done.contracts[artifacts.POLICY], checksum(SAFE))
    assert deploy(bare, tmp_path, SAFE, secret="") == replace(done, transactions=())
    bare.rpc.call("anvil_impersonateAccount", SAFE)
    bare.rpc.call("anvil_setBalance", SAFE, hex(10**18))
    sends(bare, SAFE, call.to, "0x" + call.data.hex())
    assert appointed(bare, done) == done.contracts[artifacts.MODERATION]
    assert deploy(bare, tmp_path, SAFE, secret="") == replace(done, transactions=(), pending=())


@pytest.mark.servers
def test_moderation_that_the_timelock_ended_is_not_begun_again(bare: AnvilNode, tmp_path: Path) -> None:
    done = deploy_locally(bare.rpc)
    timelock, policy = done.contracts[artifacts.TIMELOCK], done.contracts[artifacts.POLICY]
    bare.rpc.call("anvil_impersonateAccount", timelock)
    bare.rpc.call("anvil_setBalance", timelock, hex(10**18))
    ended = "0x" + encode_call("appoint(address)", "0x" + "0" * 40).hex()
    sends(bare, timelock, policy, ended)
    assert int(appointed(bare, done), 16) == 0
    assert deploy(bare, tmp_path) == replace(done, transactions=())


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_without_an_authority_nothing_is_sent(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody is named") as error:
        deploy(bare, tmp_path)
    assert error.value.exit_code == 2 and error.value.hint.startswith("name who governs: --authority ADDRESS")
    assert block_number(bare) == 0


@pytest.mark.servers
def test_another_chain_is_refused_before_a_key_is_asked_for(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="is chain 31337, not 1"):
        deploy(bare, tmp_path, secret="", chain_id=1)


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(bare: AnvilNode, tmp_path: Path) -> None:
    plan = deploy(bare, tmp_path, SAFE, secret="", dry_run=True)
    assert [step.contract for step in plan.transactions] == list(artifacts.shipped())
    assert len(plan.pending) == 1 and block_number(bare) == 0
    done = deploy(bare, tmp_path, SAFE)
    for planned, sent in zip(plan.transactions, done.transactions, strict=True):
        assert planned.tx_hash == "" and (planned.gas_used is None or 0.9 < planned.gas_used / sent.gas_used < 1.1)
    assert any(planned.gas_used for planned in plan.transactions)
    assert deploy(bare, tmp_path, SAFE, secret="", dry_run=True).transactions == ()


_KILLED = """
import os, signal, sys
from pathlib import Path
from citrate.core.settings import Settings
from citrate.registry.deployers import deploy_with_key
from citrate.registry.keys import Keys
from citrate.registry.loras import Loras
steps = int(sys.argv[3])
def told(line):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)
home = Path(sys.argv[2])
settings = Settings(home=home, authority=sys.argv[4], confirmations=0)
deploy_with_key(sys.argv[1], settings, Keys(home), told=told)
"""


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_a_killed_deployment_is_resumed_and_sends_only_what_is_missing(bare: AnvilNode, tmp_path: Path) -> None:
    authority = signer_of("publisher").address
    command = [sys.executable, "-c", _KILLED, bare.url, str(tmp_path)]
    environment = {**os.environ, "CITRATE_PRIVATE_KEY": SECRET}
    for steps in (1, 2):
        killed = subprocess.run([*command, str(steps), authority], env=environment, cwd=ROOT, timeout=60)
        assert killed.returncode == -9
    assert block_number(bare) == 3
    done = deploy(bare, tmp_path, authority)
    assert [sent.contract for sent in done.transactions] == [*artifacts.shipped()[3:], "Policy.appoint"]
    assert block_number(bare) == len(artifacts.shipped()) + 1


@pytest.mark.servers
def test_somebody_who_deploys_at_the_same_time_does_no_harm(bare: AnvilNode) -> None:
    class Outrun(UnlockedSender):
        """A sender ahead of whose every step somebody else sends the same."""

        def send(self, to: str, data: bytes) -> tuple[str, int]:
            super().send(to, data)
            return super().send(to, data)

    done = Deployment(bare.rpc, 31337, SAFE).run([Outrun(bare.rpc, ANVIL_ACCOUNT)])
    assert done.transactions == () and done.contracts == stack.stack(SAFE) and len(done.pending) == 1


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_a_key_without_funds_deploys_nothing_and_a_funded_one_goes_on(bare: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(CitrateError, match="has 0 ETH"):
        deploy(bare, tmp_path, SAFE, secret="0x" + (4).to_bytes(32, "big").hex())
    assert len(deploy(bare, tmp_path, SAFE).transactions) == len(artifacts.shipped())


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_money_for_half_of_it_begins_nothing(bare: AnvilNode, tmp_path: Path) -> None:
    authority = signer_of("publisher").address
    offered = fees.first(fees.ask(bare.rpc)).max_fee_wei
    bare.rpc.call("anvil_setBalance", authority, hex(6_000_000 * offered))  # it takes 11.6 million
    with pytest.raises(CitrateError, match="the transaction may cost") as error:
        deploy(bare, tmp_path, authority)
    assert block_number(bare) == 0 and error.value.done == {}
    bare.rpc.call("anvil_setBalance", authority, hex(14_000_000 * offered))
    done = deploy(bare, tmp_path, authority)
    assert done.transactions[-1].contract == "Policy.appoint" and (done.transactions[-1].gas_used or 0) < 100_000


@pytest.mark.servers
def test_an_error_after_some_were_sent_says_which(bare: AnvilNode) -> None:
    class Stopped(UnlockedSender):
        """A sender that is refused after two."""

        left = 2

        def send(self, to: str, data: bytes) -> tuple[str, int]:
            if not self.left:
                raise ChainError("no answer")
            self.left -= 1
            return super().send(to, data)

    with pytest.raises(ChainError) as error:
        Deployment(bare.rpc, 31337, SAFE).run([Stopped(bare.rpc, ANVIL_ACCOUNT)])
    sent = error.value.done["sent"]
    assert isinstance(sent, list) and [each["contract"] for each in sent] == list(artifacts.shipped()[:2])
    assert all(len(each["tx_hash"]) == 66 for each in sent)


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_an_older_deployment_is_usable_for_what_it_has(bare: AnvilNode, tmp_path: Path) -> None:
    UnlockedSender(bare.rpc, ANVIL_ACCOUNT).send(PROXY, stack.deployment_call(artifacts.MODEL_REGISTRY, SAFE))
    signer = signer_of("publisher", 8453)
    chain = Chain.connect(bare.url, 8453, home=tmp_path)
    chain.publish(signer, release_of(signer.address))
    record = chain.resolve(signer.address, "tiny", "latest")
    assert record.quarantined is None and record.governed is None, "it may be there; nobody knows where to look"
    for asks in (lambda: chain.require(artifacts.MODEL_ACCESS), Loras(chain).adapters):
        with pytest.raises(ConfigError, match="depends on who governs it") as unknown:
            asks()
        assert "CITRATE_AUTHORITY" in unknown.value.hint


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_an_authority_of_whom_nothing_stands_is_a_wrong_setting(bare: AnvilNode, tmp_path: Path) -> None:
    UnlockedSender(bare.rpc, ANVIL_ACCOUNT).send(PROXY, stack.deployment_call(artifacts.MODEL_REGISTRY, SAFE))
    signer = signer_of("publisher", 8453)
    Chain.connect(bare.url, 8453, home=tmp_path).publish(signer, release_of(signer.address))
    wrong = Chain.connect(bare.url, 8453, home=tmp_path, authority=SAFE)
    for asks in (
        lambda: wrong.resolve(signer.address, "tiny", "latest"),
        lambda: wrong.require(artifacts.MODEL_ACCESS),
        Loras(wrong).adapters,
    ):
        with pytest.raises(ConfigError, match="nothing that it governs stands on chain 8453") as error:
            asks()
        assert error.value.message.startswith(f"authority = {checksum(SAFE)}")
        assert "deploy-contracts" in error.value.hint
    deploy(bare, tmp_path, SAFE)
    assert wrong.resolve(signer.address, "tiny", "latest").governed is True


@pytest.mark.servers
def test_a_devnet_of_an_older_release_is_read_without_what_it_lacks(bare: AnvilNode, tmp_path: Path) -> None:
    UnlockedSender(bare.rpc, ANVIL_ACCOUNT).send(PROXY, stack.deployment_call(artifacts.MODEL_REGISTRY, SAFE))
    chain, signer = Chain.connect(bare.url, home=tmp_path), signer_of("publisher")
    chain.publish(signer, release_of(signer.address))
    assert chain.resolve(signer.address, "tiny", "latest").governed is False
    with pytest.raises(ChainError, match="there is no ModelAccess") as error:
        chain.require(artifacts.MODEL_ACCESS)
    assert error.value.hint == "citrate deploy-contracts"
    assert Loras(chain).adapters() == ()
    with pytest.raises(NotFoundError, match="there is no adapter"):
        Loras(chain).resolve(signer.address, "tiny-lora")


@pytest.mark.servers
@pytest.mark.parametrize("bare", [("--disable-default-create2-deployer",)], indirect=True)
def test_a_devnet_without_the_proxy_gets_it(bare: AnvilNode) -> None:
    assert bare.rpc.call("eth_getCode", PROXY, "latest") == "0x"
    assert deploy_locally(bare.rpc).contracts == stack.stack(ANVIL_ACCOUNT)


@pytest.mark.servers
@pytest.mark.parametrize("bare", [("--disable-default-create2-deployer", *ELSEWHERE)], indirect=True)
def test_another_chain_without_the_proxy_is_told_where_to_get_it(bare: AnvilNode, tmp_path: Path) -> None:
    for dry_run in (True, False):
        with pytest.raises(CitrateError, match="no deterministic deployment proxy") as error:
            deploy(bare, tmp_path, SAFE, dry_run=dry_run)
        assert "deterministic-deployment-proxy" in error.value.hint


@pytest.mark.servers
def test_the_script_deploys_and_prints_the_addresses(bare: AnvilNode, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/deploy.py", "--rpc-url", bare.url, "--home", str(tmp_path), "--authority", SAFE]
    environment = {**os.environ, "CITRATE_PRIVATE_KEY": SECRET}
    for _ in range(2):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(done.stdout) == {"authority": checksum(SAFE), **stack.stack(SAFE)}
        assert "pending: " in done.stderr
    wrong = subprocess.run([*command, "--chain-id", "1"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert wrong.returncode == 5 and "not 1" in wrong.stderr and wrong.stdout == ""
    assert SECRET[-8:] not in done.stdout + done.stderr + wrong.stderr
    listed = subprocess.run([*command[:2], *command[6:]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout) == json.loads(done.stdout)


@pytest.mark.servers
def test_the_command_tells_all_in_one_document_and_doctor_what_stands(bare: AnvilNode, tmp_path: Path) -> None:
    machine = Machine(tmp_path, CITRATE_RPC_URL=bare.url, CITRATE_AUTHORITY=SAFE)

    def citrate(*arguments: str) -> tuple[int, dict]:
        done = machine.types(*arguments, "--json")
        return done.code, done.json

    code, plan = citrate("deploy-contracts", "--dry-run")
    assert code == 0 and plan["dry_run"] and all(step["tx_hash"] is None for step in plan["transactions"])
    code, document = citrate("deploy-contracts")
    assert code == 0 and set(document) == {"contracts", "authority", "dry_run", "transactions", "pending"}
    assert document["contracts"] == stack.stack(SAFE) and document["authority"] == checksum(SAFE)
    assert {frozenset(sent) for sent in document["transactions"]} == {frozenset(("contract", "tx_hash", "gas_used"))}
    (call,) = document["pending"]
    assert call["from"] == checksum(SAFE) and call["data"].startswith("0x") and call["why"]
    assert citrate("deploy-contracts")[1]["transactions"] == []
    checks = {check["name"]: check for check in citrate("doctor")[1]["checks"]}
    assert checks["contracts"]["ok"] and artifacts.MODERATION in checks["contracts"]["detail"]
    bare.rpc.call("anvil_setCode", document["contracts"][artifacts.MODEL_ACCESS], "0x")
    checks = {check["name"]: check for check in citrate("doctor")[1]["checks"]}
    assert not checks["contracts"]["ok"] and checks["contracts"]["detail"].endswith("missing: ModelAccess")
    code, refused = citrate("deploy-contracts", "--authority", "0x12")
    assert code == 2 and "authority" in refused["error"]["message"]


@pytest.mark.servers
@pytest.mark.parametrize("bare", [ELSEWHERE], indirect=True)
def test_who_names_no_authority_is_told_what_is_not_looked_at(bare: AnvilNode, tmp_path: Path) -> None:
    machine = Machine(tmp_path, CITRATE_RPC_URL=bare.url, CITRATE_PRIVATE_KEY=SECRET)

    def citrate(*arguments: str, **settings: str) -> tuple[int, dict, str]:
        done = machine.types(*arguments, "--json", **settings)
        return done.code, done.json, done.err

    signer = signer_of("publisher", 8453)
    code, _, told = citrate("deploy-contracts", "--authority", signer.address, CITRATE_CONFIRMATIONS="0")
    assert code == 0 and told.endswith(f'write into citrate.toml:\nauthority = "{signer.address}"\n')
    chain = Chain.connect(bare.url, 8453, home=tmp_path, authority=signer.address)
    chain.publish(signer, replace(release_of(signer.address), price_wei=10**16))
    ref, authority = f"{signer.address}/tiny", {"CITRATE_AUTHORITY": signer.address}
    governed = [citrate("resolve", ref, **authority)[1]["governed"], citrate("resolve", ref)[1]["governed"]]
    assert governed == [True, None]
    assert "write into citrate.toml" not in citrate("deploy-contracts", **authority)[2]

    warning = "no authority is set for chain 8453: prices and moderation are not looked at"
    for arguments in (("select", ref, "--device", "cpu", "--memory-gb", "8"), ("pull", ref), ("run", ref, "hello")):
        told = citrate(*arguments)[2]
        assert told.count(warning) == 1, arguments
    assert warning not in citrate("pull", ref, **authority)[2]
    for arguments, exit_code in ((("lora", "list"), 2), (("show", f"{ref}-lora"), 4), (("pull", f"{ref}-lora"), 4)):
        code, document, _ = citrate(*arguments)
        assert code == exit_code and "nobody is named" in document["error"]["message"], arguments
        assert "CITRATE_AUTHORITY" in document["error"]["hint"]
    wrong = {"CITRATE_AUTHORITY": SAFE}
    for arguments in (("pull", ref), ("resolve", ref), ("show", ref), ("lora", "list"), ("show", f"{ref}-lora")):
        code, document, _ = citrate(*arguments, **wrong)
        assert code == 2 and "nothing that it governs stands" in document["error"]["message"], arguments
    for settings, word in (({}, "no authority is set for chain 8453"), (wrong, f"authority = {checksum(SAFE)}")):
        (check,) = (each for each in citrate("doctor", **settings)[1]["checks"] if each["name"] == "contracts")
        assert not check["ok"] and word in check["detail"] and "missing" not in check["detail"]
        assert "authority" in check["hint"]


@pytest.mark.servers
def test_play_money_comes_also_over_rpc_url(bare: AnvilNode, tmp_path: Path) -> None:
    machine = Machine(tmp_path, CITRATE_RPC_URL=bare.url)
    assert machine.gets("devnet", "fund", SAFE) == {"address": SAFE, "balance_wei": 1000 * 10**18}
    assert quantity(bare.rpc.call("eth_getBalance", SAFE, "latest")) == 1000 * 10**18
    other = start_anvil(*ELSEWHERE)
    try:
        refused = machine.types("devnet", "fund", SAFE, "--json", CITRATE_RPC_URL=other.url)
        assert refused.code == 5 and quantity(other.rpc.call("eth_getBalance", SAFE, "latest")) == 0
    finally:
        stop_anvil(other)


@pytest.mark.servers
def test_code_with_other_immutables_is_still_ours_and_any_other_change_is_not(bare: AnvilNode) -> None:
    deploy_locally(bare.rpc)
    contract = artifacts.load("ModelRegistry")
    code = bytes.fromhex(str(JsonRpc(bare.url).call("eth_getCode", contract.address, "latest"))[2:])
    assert contract.is_code_of(code) and code != contract.runtime
    places = [place for immutable in contract.immutables.values() for place in immutable.places]
    for at in (0, 1, len(code) // 2, len(code) - 1, min(places) - 1, max(places) + 32):
        changed = bytearray(code)
        changed[at] ^= 1
        assert not contract.is_code_of(bytes(changed))
    assert not contract.is_code_of(code[:-1]) and not contract.is_code_of(b"")


@pytest.mark.servers
def test_other_code_at_an_address_of_ours_is_not_deployed_over(bare: AnvilNode, tmp_path: Path) -> None:
    bare.rpc.call("anvil_setCode", stack.stack(ANVIL_ACCOUNT)[artifacts.POLICY], "0x6000")
    with pytest.raises(ChainError, match="is not this release's Policy"):
        deploy(bare, tmp_path)
    with pytest.raises(ConfigError, match="nobody is named"):
        Deployment(bare.rpc, 31337, "")
    assert block_number(bare) == 0
