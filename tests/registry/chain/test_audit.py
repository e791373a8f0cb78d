"""All contracts of a chain are followed together, also a moderation that was replaced; what is proved is remembered."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from citrate.core.adapters import Acceptance, Grade
from citrate.core.errors import ChainError, ConfigError, NotFoundError
from citrate.core.settings import Settings
from citrate.facade import Registry
from citrate.registry import artifacts
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import (
    LORA_REGISTRY,
    MODEL_ACCESS,
    MODEL_REGISTRY,
    MODERATION,
    POLICY,
    TIMELOCK,
    TRAINING_LEDGER,
)
from citrate.registry.audit import audit
from citrate.registry.chain import Chain
from citrate.registry.change_events import LOGGED, AliasSet, RunAttested, Staked
from citrate.registry.change_watch import ChangeState, advance, default_tag
from citrate.registry.changes import prove
from citrate.registry.deployers import deploy_with_key
from citrate.registry.ids import checksum
from citrate.registry.keys import Keys
from citrate.registry.ledger import Ledger
from citrate.registry.loras import Loras
from citrate.registry.signer import Signer
from citrate.registry.sync import Mirror
from citrate.registry.sync_policy import Policy
from tests.fixtures_anvil import AnvilNode, release_of, sha256_of, signer_of, start_anvil, stop_anvil
from tests.registry.chain.actors import ETHER, Actor, actor, receipt_of, timelocked
from tests.registry.chain.adapters import lora_of
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]


@pytest.fixture
def user(anvil: AnvilNode, tmp_path: Path) -> Actor:
    return actor("publisher", anvil, tmp_path)


def second_moderation(node: AnvilNode, user: Actor) -> str:
    """Another Moderation of the same stack, as an upgrade would be deployed."""
    artifact, chain = artifacts.load(MODERATION), user.chain
    words = [chain.addresses[name] for name in (MODEL_REGISTRY, LORA_REGISTRY, TIMELOCK)]
    data = artifact.creation_code + b"".join(bytes.fromhex(word[2:]).rjust(32, b"\0") for word in words)
    accounts = node.rpc.call("eth_accounts")
    assert isinstance(accounts, list)
    receipt = receipt_of(node, {"from": str(accounts[0]), "data": "0x" + data.hex()})
    return checksum(receipt["contractAddress"])


def test_a_replaced_moderation_is_followed_beside_the_new_one(anvil: AnvilNode, user: Actor) -> None:
    state, proved = advance(user.chain, ChangeState())
    old = user.chain.addresses[MODERATION]
    assert {each.contract for each in proved} == set(LOGGED) and state.moderations == (old,)
    user.chain.send(user.signer(), MODERATION, encode_call("stake()"), ETHER)
    new = second_moderation(anvil, user)
    timelocked(anvil, user, POLICY, encode_call("appoint(address)", new))
    user.chain.with_contract(MODERATION, new).send(user.signer(), MODERATION, encode_call("stake()"), 2 * ETHER)
    state, proved = advance(user.chain, state)
    assert state.moderations == (old, new)
    staked = {each.address: each.changes[0].event for each in proved if each.contract == MODERATION}
    me = user.address_of("me")
    assert staked == {old: Staked(me, ETHER), new: Staked(me, 2 * ETHER)}
    verdicts = audit(user)
    assert all(verdict.ok for verdict in verdicts)
    assert [verdict.place.address for verdict in verdicts if verdict.place.contract == MODERATION] == [old, new]
    again, proved = advance(user.chain, state)
    assert not any(each.changes for each in proved) and again.moderations == state.moderations


def test_every_contract_of_the_stack_proves_its_changes(chain: Chain, publisher: Signer, stranger: Signer) -> None:
    chain.publish(publisher, release_of(publisher.address))
    base = chain.resolve(publisher.address, "tiny", "1.0.0")
    chain.deprecate(publisher, publisher.address, "tiny", "1.0.0")
    Loras(chain).set_acceptance(publisher, base.model_id, Acceptance.ALLOW_LIST)
    Loras(chain).allow_creator(publisher, base.model_id, stranger.address)
    ledger, sha = Ledger(chain), sha256_of("x")
    ledger.announce(publisher, recipe=sha, dataset=sha, base_sha256=sha)
    ledger.commit(publisher, 1, proof_root=sha, adapter_sha256=sha)
    ledger.attest(stranger, 1, Grade.ATTESTED, segments=0, report_sha256=sha)
    chain.send(publisher, MODEL_ACCESS, encode_call("setPrice(bytes32,uint256)", base.version_id, 5))
    chain.send(stranger, MODERATION, encode_call("stake()"), 10**18)
    counts = {name: len(prove(chain, name).changes) for name in LOGGED}
    assert counts == {
        MODEL_REGISTRY: 1, LORA_REGISTRY: 2, TRAINING_LEDGER: 3, MODEL_ACCESS: 1, MODERATION: 1, POLICY: 1,
    }  # fmt: skip
    attested = prove(chain, TRAINING_LEDGER).changes[-1].event
    assert isinstance(attested, RunAttested) and attested.grade is Grade.ATTESTED


def test_a_lora_is_a_record_and_no_change(chain: Chain, publisher: Signer) -> None:
    chain.publish(publisher, release_of(publisher.address))
    Loras(chain).register(publisher, lora_of(chain.resolve(publisher.address, "tiny", "1.0.0")))
    proved = prove(chain, LORA_REGISTRY)
    assert proved.changes == () and proved.cursor.root == "00" * 32


def test_a_reorganised_chain_is_proved_from_its_beginning(
    anvil: AnvilNode, chain: Chain, publisher: Signer, stranger: Signer
) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me))
    snapshot = chain.rpc.call("evm_snapshot")
    chain.set_alias(publisher, me, "tiny", "prod", "1.0.0")
    before = prove(chain, MODEL_REGISTRY)
    chain.rpc.call("evm_revert", snapshot)
    chain.set_alias(publisher, me, "tiny", "edge", "1.0.0")
    chain.set_alias(publisher, me, "tiny", "beta", "1.0.0")
    after = prove(chain, MODEL_REGISTRY, before.cursor)
    assert after.reorganised
    assert [change.event.alias for change in after.changes if isinstance(change.event, AliasSet)] == ["edge", "beta"]


def test_what_is_remembered_survives_as_json(user: Actor) -> None:
    state, _ = advance(user.chain, ChangeState())
    kept = json.loads(json.dumps(asdict(state)))
    assert TypeAdapter(ChangeState).validate_python(kept) == state


def test_a_chain_with_the_model_registry_only_is_audited_for_that(anvil: AnvilNode, tmp_path: Path) -> None:
    user = actor("publisher", anvil, tmp_path)
    user.chain.publish(user.signer(), release_of(user.address_of("me")), "prod")
    bare = Chain.connect(anvil.url, 31337, authority="0x" + "77" * 20, home=tmp_path / "bare")
    state, proved = advance(bare, ChangeState())
    assert [each.contract for each in proved] == [MODEL_REGISTRY, "TrainingLedger"] and state.moderations == ()
    assert len(proved[0].changes) == 1


def test_what_depends_on_an_unknown_authority_is_named_as_not_looked_at(tmp_path: Path) -> None:
    node = start_anvil("--chain-id", "8453")
    try:
        who = signer_of("publisher").address
        node.rpc.call("anvil_setBalance", who, hex(1000 * ETHER))
        settings = Settings(home=tmp_path, rpc_url=node.url, chain_id=8453, authority=who, confirmations=0)
        deploy_with_key(node.url, settings, Keys(tmp_path, environ={"CITRATE_PRIVATE_KEY": f"{1:064x}"}))
        told: list[str] = []
        nobody = Registry(replace(settings, authority=""), notify=told.append)
        verdicts = {verdict.place.contract: verdict for verdict in audit(nobody, tag="latest")}
        assert set(verdicts) == set(LOGGED)
        assert {name for name, verdict in verdicts.items() if verdict.ok} == {MODEL_REGISTRY, TRAINING_LEDGER}
        for name in (POLICY, LORA_REGISTRY, MODEL_ACCESS, MODERATION):
            error = verdicts[name].error
            assert isinstance(error, ConfigError) and error.message.startswith("not looked at: nobody is named")
        with pytest.raises(ConfigError, match="nobody is named"):
            audit(nobody, MODERATION)
        Mirror(nobody, Policy()).run_once(print)
        assert len([line for line in told if "no authority is set for chain 8453" in line]) == 1
        wrong = Registry(replace(settings, authority="0x" + "77" * 20))
        for asks in (lambda: audit(wrong), lambda: Mirror(wrong, Policy()).run_once(print)):
            with pytest.raises(ConfigError, match="nothing that it governs stands"):
                asks()
    finally:
        stop_anvil(node)


def test_the_library_tells_typed_changes_of_one_contract(user: Actor) -> None:
    user.chain.publish(user.signer(), release_of(user.address_of("me")), "prod")
    first = user.changes(MODEL_REGISTRY)
    assert [type(change.event).__name__ for change in first.changes] == ["AliasSet"]
    assert user.changes(MODEL_REGISTRY, cursor=first.cursor).changes == ()
    for wrong in ("Timelock", "Nothing", ""):
        with pytest.raises(NotFoundError, match="keeps no change root"):
            user.changes(wrong)


def test_a_block_that_the_node_does_not_know_is_an_error(user: Actor) -> None:
    with pytest.raises(ChainError):
        user.changes(MODEL_REGISTRY, tag="nonsense")


def test_a_node_that_drops_logs_is_told_contract_by_contract(anvil: AnvilNode, user: Actor, tmp_path: Path) -> None:
    user.chain.publish(user.signer(), release_of(user.address_of("me")), "prod")
    user.chain.send(user.signer(), MODERATION, encode_call("stake()"), ETHER)

    def drop(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": []} if request["method"] == "eth_getLogs" else answer

    with proxy(anvil.url, drop) as url:
        lied_to = actor("stranger", AnvilNode(url, anvil.process), tmp_path)
        verdicts = {verdict.place.contract: verdict for verdict in audit(lied_to)}
        assert set(verdicts) == set(LOGGED), "every contract has its verdict"
        bad = {name for name, verdict in verdicts.items() if not verdict.ok}
        assert bad == {MODEL_REGISTRY, POLICY, MODERATION}
        assert "do not add up" in str(verdicts[POLICY].error)
        assert "which contracts have moderated is not known" in str(verdicts[MODERATION].error)
        assert [verdict.ok for verdict in audit(lied_to, MODEL_ACCESS)] == [True], "only what was asked for"


def test_a_contract_of_other_code_is_one_bad_verdict(anvil: AnvilNode, user: Actor) -> None:
    anvil.rpc.call("anvil_setCode", user.chain.addresses[TRAINING_LEDGER], "0x6000")
    verdicts = {verdict.place.contract: verdict for verdict in audit(user)}
    assert {name for name, verdict in verdicts.items() if not verdict.ok} == {TRAINING_LEDGER}
    assert "is not this release's TrainingLedger" in str(verdicts[TRAINING_LEDGER].error)


def test_where_nothing_is_finalized_yet_that_is_said_and_a_mirror_goes_on(tmp_path: Path) -> None:
    node = start_anvil("--chain-id", "8453")
    try:
        who = signer_of("publisher").address
        node.rpc.call("anvil_setBalance", who, hex(1000 * ETHER))
        settings = Settings(home=tmp_path, rpc_url=node.url, chain_id=8453, authority=who, confirmations=0)
        deploy_with_key(node.url, settings, Keys(tmp_path, environ={"CITRATE_PRIVATE_KEY": f"{1:064x}"}))
        user = Registry(settings)
        verdicts = audit(user)
        assert {verdict.place.contract for verdict in verdicts} == set(LOGGED)
        for verdict in verdicts:
            assert verdict.error and "finalized yet" in verdict.error.message
            assert "citrate audit --at latest" in verdict.error.hint
        assert all(verdict.ok for verdict in audit(user, tag="latest"))
        assert Mirror(user, Policy()).run_once(print).changes_verified is None
        assert Mirror(user, Policy()).run_once(print).changes_verified is None
        node.rpc.call("anvil_mine", hex(100))
        assert all(verdict.ok for verdict in audit(user))
        assert Mirror(user, Policy()).run_once(print).changes_verified == 1, "the appointment"
    finally:
        stop_anvil(node)


def test_elsewhere_than_on_a_devnet_the_finalized_block_counts() -> None:
    node = start_anvil("--chain-id", "8453")
    try:
        chain = Chain.__new__(Chain)
        chain.rpc, chain.chain_id = node.rpc, 8453
        assert default_tag(chain) == "finalized"
        chain.chain_id = 31337
        assert default_tag(chain) == "latest"
    finally:
        stop_anvil(node)
