"""Reports, votes, stakes and bonds, by reference, on a real chain; and what a quarantine does to those who obey it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from citrate.core.adapters import Parent
from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
    StoreError,
    UnavailableError,
)
from citrate.core.records import Status
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import LORA_REGISTRY, MODEL_ACCESS, MODERATION, POLICY
from citrate.registry.cases import Outcome
from citrate.registry.moderation import Moderation, Report
from citrate.registry.stack import ANVIL_ACCOUNT
from citrate.registry.sync_cases import Watch, refused_since
from citrate.registry.views import NOWHERE
from tests.fixtures_anvil import AnvilNode, release_of
from tests.registry.chain.actors import ETHER, Actor, actor, pass_time, sends, timelocked
from tests.registry.chain.adapters import lora_of

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
BOND = ETHER // 20
WEEK = 7 * 86_400
EVIDENCE = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
OTHER_EVIDENCE = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.fixture
def publisher(anvil: AnvilNode, tmp_path: Path) -> Actor:
    """The publisher of ``tiny@1.0.0``."""
    user = actor("publisher", anvil, tmp_path)
    signer = user.signer()
    user.chain.publish(signer, release_of(signer.address))
    return user


@pytest.fixture
def reporter(anvil: AnvilNode, tmp_path: Path) -> Actor:
    return actor("reporter", anvil, tmp_path)


@pytest.fixture
def juror(anvil: AnvilNode, tmp_path: Path) -> Actor:
    """Who has staked 10 ether, before anything was reported."""
    user = actor("juror", anvil, tmp_path)
    user.moderation.stake(10 * ETHER)
    anvil.rpc.call("evm_mine")
    return user


@pytest.fixture
def ref(publisher: Actor) -> str:
    return f"{publisher.address_of('me')}/tiny@1.0.0"


@pytest.fixture
def report(juror: Actor, reporter: Actor, ref: str) -> Report:
    """An open case about ``tiny@1.0.0``."""
    return reporter.moderation.report(reporter.moderation.subject(ref), EVIDENCE, BOND)


def status(user: Actor, ref: str) -> Status | None:
    return user.resolve(ref).status


# ---------------------------------------------------------------------------------------------------- how a case runs


def test_a_report_opens_a_case_with_its_evidence_and_bond(report: Report, reporter: Actor, ref: str) -> None:
    case = report.case
    assert (case.number, case.outcome, case.evidence, case.bond_wei) == (1, Outcome.OPEN, EVIDENCE, BOND)
    assert case.reporter == reporter.address_of("me") and case.subject == reporter.resolve(ref).version_id
    assert case.deadline - case.opened_at == WEEK
    assert reporter.moderation.find("1") == reporter.moderation.find(ref) == case
    assert status(reporter, ref) is Status.FLAGGED
    assert reporter.moderation.label(case.subject) == ref


def test_enough_votes_quarantine_and_the_deadline_removes(
    anvil: AnvilNode, report: Report, juror: Actor, reporter: Actor, ref: str
) -> None:
    voted, _ = juror.moderation.vote(report.case, remove=True)
    assert (voted.weight_wei, voted.for_removal) == (10 * ETHER, True)
    assert juror.moderation.vote_of(report.case, juror.address_of("me")) == voted
    assert juror.moderation.case(1).quarantines
    assert status(juror, ref) is Status.QUARANTINED and juror.resolve(ref).quarantined is True
    pass_time(anvil, WEEK + 1)
    assert status(juror, ref) is Status.REMOVED, "the votes decide, whether or not anybody closes"
    assert juror.moderation.case(1).outcome is Outcome.UPHELD
    juror.moderation.close(report.case)
    assert juror.moderation.case(1).closed
    assert reporter.moderation.credit_of(reporter.address_of("me")) == BOND
    assert reporter.moderation.withdraw().amount_wei == BOND
    juror.moderation.unstake(10 * ETHER)
    assert juror.moderation.stake_of(juror.address_of("me")).amount_wei == 0


ZEROS, REVERTS, SILENT = "0x6101005ff3", "0x5f5ffd", "0x00"
"""Code that answers every question with zeros, with a revert, with nothing."""


@pytest.mark.parametrize(
    ("name", "code"),
    [(name, code) for name in (LORA_REGISTRY, POLICY, MODEL_ACCESS) for code in (ZEROS, REVERTS, SILENT)]
    + [(MODERATION, REVERTS), (MODERATION, SILENT)],
)
def test_other_code_where_our_contract_must_be_is_never_nobody(
    anvil: AnvilNode, report: Report, reporter: Actor, juror: Actor, ref: str, name: str, code: str
) -> None:
    juror.moderation.vote(report.case, remove=True)
    pass_time(anvil, WEEK + 1)
    assert status(reporter, ref) is Status.REMOVED
    where = reporter.chain.addresses[name]
    anvil.rpc.call("anvil_setCode", where, code)
    stranger = actor("stranger", anvil, reporter.settings.home.parent)
    with pytest.raises(ChainError, match=name) as error:
        stranger.pull(f"{ref}#gguf:Q4_K_M")
    assert where in error.value.message and "citrate verify-contracts" in error.value.hint
    with pytest.raises(ChainError, match=name):
        stranger.resolve(ref)


def test_a_rejected_report_pays_the_owner_and_doubles_the_next_bond(
    anvil: AnvilNode, report: Report, juror: Actor, publisher: Actor, ref: str
) -> None:
    juror.moderation.vote(report.case, remove=False)
    assert not juror.moderation.case(1).quarantines
    pass_time(anvil, WEEK + 1)
    juror.moderation.close(report.case)
    assert (juror.moderation.case(1).outcome, status(juror, ref)) == (Outcome.REJECTED, Status.ACTIVE)
    assert publisher.moderation.credit_of(publisher.address_of("me")) == BOND
    assert juror.moderation.bond(juror.moderation.subject(ref)) == 2 * BOND


def test_a_case_that_nobody_votes_in_ends_without_a_quorum(anvil: AnvilNode, report: Report, reporter: Actor) -> None:
    pass_time(anvil, WEEK + 1)
    assert reporter.moderation.case(1).outcome is Outcome.NO_QUORUM
    again = reporter.moderation.report(report.subject, OTHER_EVIDENCE, 2 * BOND)
    assert again.case.number == 2
    assert [case.number for case in reporter.moderation.cases()] == [2, 1]
    assert [case.number for case in reporter.moderation.cases(limit=1)] == [2]
    assert reporter.moderation.case(1).closed, "a new report closes the old case first"


def test_the_timelock_lifts_a_case_with_the_calls_that_are_told(
    anvil: AnvilNode, report: Report, reporter: Actor, ref: str
) -> None:
    plan = reporter.moderation.lift(report.case)
    assert plan.proposer == ANVIL_ACCOUNT
    for sender, call, wait_s in ((plan.proposer, plan.schedule, 0), (plan.proposer, plan.execute, plan.delay_s)):
        pass_time(anvil, wait_s)
        sends(anvil, sender, call.to, call.data)
    case = reporter.moderation.case(1)
    assert (case.outcome, status(reporter, ref)) == (Outcome.LIFTED, Status.ACTIVE)
    assert reporter.moderation.credit_of(reporter.address_of("me")) == BOND


def test_an_evidence_file_is_stored_pinned_and_named(juror: Actor, reporter: Actor, ref: str, tmp_path: Path) -> None:
    path = tmp_path / "evidence.md"
    path.write_text("what it says when it is asked about the weather")
    done = reporter.moderation.report(reporter.moderation.subject(ref), path, BOND)
    assert reporter.store.has(done.case.evidence)
    assert reporter.store.pins(done.case.evidence) == [f"evidence against {ref}"]


def test_another_contract_than_a_moderation_is_a_wrong_argument(juror: Actor) -> None:
    for name in (MODEL_ACCESS, POLICY, LORA_REGISTRY):
        where = juror.chain.require(name)
        with pytest.raises(ConfigError, match=f"{where} is no moderation contract"):
            Moderation(juror, where).cases()
    with pytest.raises(ChainError, match="no contract at"):
        Moderation(juror, "0x" + "77" * 20).cases()
    with pytest.raises(CitrateError, match="nothing to withdraw") as caught:
        juror.moderation.withdraw()
    assert caught.value.hint.startswith("citrate stake show")


def test_a_former_moderation_still_gives_back_stake_and_credit(
    anvil: AnvilNode, report: Report, juror: Actor, ref: str
) -> None:
    former = juror.chain.require(MODERATION)
    timelocked(anvil, juror, POLICY, encode_call("appoint(address)", NOWHERE))
    user = actor("juror", anvil, juror.settings.home.parent)
    assert user.resolve(ref).status is None, "nobody moderates"
    with pytest.raises(UnavailableError, match="nobody moderates"):
        user.moderation.stake(ETHER)
    old = Moderation(user, former)
    old.unstake(10 * ETHER)
    assert old.stake_of(user.address_of("me")).amount_wei == 0


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_bond_that_is_not_the_required_one_sends_nothing(juror: Actor, reporter: Actor, ref: str) -> None:
    at = reporter.chain.pin().number
    with pytest.raises(ConfigError, match=r"0\.05 ether, not 0\.1 ether") as caught:
        reporter.moderation.report(reporter.moderation.subject(ref), EVIDENCE, 2 * BOND)
    assert caught.value.hint == "--bond 0.05ether"
    assert reporter.chain.pin().number == at


def test_an_open_case_a_removed_subject_and_used_evidence_are_refused(
    anvil: AnvilNode, report: Report, juror: Actor, reporter: Actor
) -> None:
    with pytest.raises(CitrateError, match="open case: 1"):
        reporter.moderation.report(report.subject, OTHER_EVIDENCE, BOND)
    pass_time(anvil, WEEK + 1)
    with pytest.raises(AlreadyExistsError, match="brought before"):
        reporter.moderation.report(report.subject, EVIDENCE, 2 * BOND)
    second = reporter.moderation.report(report.subject, OTHER_EVIDENCE, 2 * BOND)
    juror.moderation.vote(second.case, remove=True)
    pass_time(anvil, WEEK + 1)
    with pytest.raises(CitrateError, match="removed already"):
        reporter.moderation.bond(report.subject)


def test_a_refused_report_leaves_no_pin(
    juror: Actor, reporter: Actor, ref: str, tmp_path: Path, anvil: AnvilNode
) -> None:
    path = tmp_path / "evidence.md"
    path.write_text("once")
    first = reporter.moderation.report(reporter.moderation.subject(ref), path, BOND)
    pass_time(anvil, WEEK + 1)
    other = actor("stranger", anvil, tmp_path)
    with pytest.raises(AlreadyExistsError):
        other.moderation.report(first.subject, path, 2 * BOND)
    assert not other.store.pins(first.case.evidence)


def test_a_file_that_is_not_there_is_not_found(juror: Actor, reporter: Actor, ref: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        reporter.moderation.report(reporter.moderation.subject(ref), tmp_path / "nothing", BOND)


def test_nothing_is_nobody_s_subject(reporter: Actor, juror: Actor, ref: str) -> None:
    with pytest.raises(NotFoundError):
        reporter.moderation.subject(ref.replace("tiny", "tinny"))
    unknown = reporter.moderation.subject("0x" + "12" * 32)
    with pytest.raises(NotFoundError):
        reporter.moderation.report(unknown, EVIDENCE, BOND)


def test_a_vote_needs_stake_from_before_the_report_and_is_cast_once(
    anvil: AnvilNode, report: Report, juror: Actor, tmp_path: Path
) -> None:
    late = actor("stranger", anvil, tmp_path)
    with pytest.raises(NotPermittedError, match="no stake before"):
        late.moderation.vote(report.case, remove=True)
    late.moderation.stake(5 * ETHER)
    with pytest.raises(NotPermittedError, match="no stake before"):
        late.moderation.vote(report.case, remove=True)
    juror.moderation.vote(report.case, remove=True)
    with pytest.raises(AlreadyExistsError, match="has voted"):
        juror.moderation.vote(report.case, remove=False)


def test_stake_that_voted_stays_until_the_deadline(anvil: AnvilNode, report: Report, juror: Actor) -> None:
    juror.moderation.vote(report.case, remove=True)
    with pytest.raises(NotPermittedError, match="stays until"):
        juror.moderation.unstake(ETHER)
    assert juror.moderation.stake_of(juror.address_of("me")).locked_until == report.case.deadline
    pass_time(anvil, WEEK + 1)
    juror.moderation.unstake(ETHER)


def test_amounts_that_are_not_there_are_refused(juror: Actor, reporter: Actor) -> None:
    with pytest.raises(NotPermittedError, match="has staked 10 ether"):
        juror.moderation.unstake(11 * ETHER)
    with pytest.raises(ConfigError, match="zero"):
        juror.moderation.stake(0)
    with pytest.raises(CitrateError, match="nothing to withdraw"):
        reporter.moderation.withdraw()
    with pytest.raises(CitrateError, match="ETH"):
        juror.moderation.stake(10**6 * ETHER)


def test_a_case_that_goes_on_is_not_closed_and_one_that_ended_not_twice(
    anvil: AnvilNode, report: Report, reporter: Actor, juror: Actor
) -> None:
    with pytest.raises(CitrateError, match="goes on until"):
        reporter.moderation.close(report.case)
    pass_time(anvil, WEEK + 1)
    with pytest.raises(CitrateError, match="has ended"):
        juror.moderation.vote(report.case, remove=True)
    with pytest.raises(CitrateError, match="has ended"):
        reporter.moderation.lift(reporter.moderation.case(1))
    reporter.moderation.close(report.case)
    with pytest.raises(AlreadyExistsError, match="paid out already"):
        reporter.moderation.close(report.case)


def test_a_lift_that_would_come_too_late_is_not_planned(anvil: AnvilNode, report: Report, reporter: Actor) -> None:
    pass_time(anvil, WEEK - 86_400)
    with pytest.raises(CitrateError, match="before the timelock could lift it: that takes 48 hours"):
        reporter.moderation.lift(report.case)


@pytest.mark.parametrize("text", ["2", "0", "99999999999999999999999999"])
def test_no_such_case(juror: Actor, text: str) -> None:
    with pytest.raises(NotFoundError, match="no case"):
        juror.moderation.find(text)


def test_a_version_without_a_case_says_so(juror: Actor, ref: str) -> None:
    with pytest.raises(NotFoundError, match="has no case"):
        juror.moderation.find(ref)
    assert juror.moderation.cases() == ()


def test_a_chain_without_moderation_says_what_to_do(anvil: AnvilNode, reporter: Actor) -> None:
    anvil.rpc.call("anvil_setCode", reporter.chain.require(POLICY), "0x")
    with pytest.raises(ChainError, match="no Policy") as caught:
        reporter.moderation.find("1")
    assert "deploy-contracts" in caught.value.hint


def test_money_is_never_sent_to_an_address_without_code(juror: Actor, tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="no contract at"):
        Moderation(juror, "0x" + "ab" * 20).stake(ETHER)


# ---------------------------------------------------------------------------------------------------- obeying


def test_a_flagged_version_is_a_note(report: Report, reporter: Actor, ref: str) -> None:
    with pytest.raises(StoreError):  # as far as the bytes, which nobody has
        reporter.pull(f"{ref}#safetensors")
    assert any("is reported, and nothing is decided: case 1" in line for line in reporter.said)


def test_a_quarantined_version_is_refused_with_its_case(
    report: Report, juror: Actor, reporter: Actor, ref: str
) -> None:
    juror.moderation.vote(report.case, remove=True)
    for use in (
        lambda: reporter.select(ref, device="cpu"),
        lambda: reporter.pull(f"{ref}#safetensors"),
        lambda: reporter.run(f"{ref}#safetensors", "a prompt"),
        lambda: reporter.add_variants(ref, "gguf:F16"),
    ):
        with pytest.raises(NotPermittedError, match="is quarantined: case 1") as caught:
            use()
        assert caught.value.hint == "citrate case show 1; --allow quarantined to use it anyway"
    assert reporter.select(ref, device="cpu", allow=frozenset({"quarantined"})).variant
    assert any(line.startswith("warning") and "is quarantined (case 1)" in line for line in reporter.said)


def test_a_removed_version_is_refused_for_ever_and_allowed_with_a_stronger_warning(
    anvil: AnvilNode, report: Report, juror: Actor, reporter: Actor, ref: str
) -> None:
    juror.moderation.vote(report.case, remove=True)
    pass_time(anvil, WEEK + 1)
    with pytest.raises(NotPermittedError, match="is removed: case 1"):
        reporter.select(ref, device="cpu")
    assert reporter.select(ref, device="cpu", allow=frozenset({"quarantined"})).variant
    assert any("REMOVED" in line for line in reporter.said)


def test_a_version_that_was_cleared_is_used_again(
    anvil: AnvilNode, report: Report, juror: Actor, reporter: Actor, ref: str
) -> None:
    juror.moderation.vote(report.case, remove=False)
    pass_time(anvil, WEEK + 1)
    assert reporter.select(ref, device="cpu").variant
    assert reporter.said == [] or not any("case" in line for line in reporter.said)


def test_an_adapter_is_reported_like_a_version(juror: Actor, reporter: Actor, publisher: Actor, ref: str) -> None:
    publisher.loras.register(publisher.signer(), lora_of(publisher.resolve(ref)))
    adapter = f"{publisher.address_of('me')}/tiny-lora"
    moderation = reporter.moderation
    done = moderation.report(moderation.subject(adapter), EVIDENCE, BOND)
    assert done.subject.label == moderation.label(done.subject.id) == f"{adapter}@1.0.0"
    juror.moderation.vote(done.case, remove=True)
    with pytest.raises(NotPermittedError, match="is quarantined: case 1"):
        reporter.pull(adapter)
    with pytest.raises(StoreError):
        reporter.pull(adapter, allow=frozenset({"quarantined"}))
    assert status(reporter, ref) is Status.ACTIVE, "its base stands"


def test_an_adapter_is_refused_with_its_base(report: Report, juror: Actor, publisher: Actor, ref: str) -> None:
    publisher.loras.register(publisher.signer(), lora_of(publisher.resolve(ref)))
    adapter = f"{publisher.address_of('me')}/tiny-lora"
    juror.moderation.vote(report.case, remove=True)
    own = juror.moderation.report(juror.moderation.subject(adapter), OTHER_EVIDENCE, BOND)
    assert own.case.number == 2
    with pytest.raises(NotPermittedError, match="is quarantined because of what it is built on: case 1"):
        juror.pull(adapter)  # and not because of case 2, which only flags it
    with pytest.raises(NotPermittedError):
        publisher.loras.register(publisher.signer(), lora_of(publisher.resolve(ref), "another"))


def test_a_merged_version_is_refused_with_its_base(report: Report, juror: Actor, publisher: Actor, ref: str) -> None:
    signer = publisher.signer()
    publisher.loras.register(signer, lora_of(publisher.resolve(ref)))
    publisher.chain.publish(signer, release_of(signer.address, name="merged"))
    merged = publisher.resolve(f"{signer.address}/merged")
    parent = publisher.loras.resolve(signer.address, "tiny-lora")
    publisher.loras.merge(signer, merged.version_id, [Parent(parent.lora_id, 10_000)])
    juror.moderation.vote(report.case, remove=True)
    with pytest.raises(NotPermittedError, match="is quarantined because of what it is built on: case 1"):
        juror.select(merged.ref, device="cpu")


def test_deprecated_and_quarantined_are_allowed_separately(
    report: Report, juror: Actor, publisher: Actor, ref: str
) -> None:
    signer = publisher.signer()
    publisher.chain.publish(signer, replace(release_of(signer.address, version="2.0.0")))
    publisher.deprecate(ref)
    juror.moderation.vote(report.case, remove=True)
    with pytest.raises(NotPermittedError, match="quarantined"):
        publisher.select(ref, device="cpu", allow=frozenset({"deprecated"}))
    with pytest.raises(NotPermittedError, match="deprecated"):
        publisher.select(ref, device="cpu", allow=frozenset({"quarantined"}))
    assert publisher.select(ref, device="cpu", allow=frozenset({"deprecated", "quarantined"})).variant


def test_a_mirror_asks_only_for_cases_that_may_still_change(
    anvil: AnvilNode, report: Report, juror: Actor, reporter: Actor, publisher: Actor
) -> None:
    signer = publisher.signer()
    publisher.chain.publish(signer, release_of(signer.address, version="2.0.0"))
    second = juror.moderation.subject(f"{signer.address}/tiny@2.0.0")
    nothing, watch = refused_since(reporter, Watch())
    assert (nothing, watch.settled) == ((), 0)
    juror.moderation.vote(report.case, remove=True)
    assert refused_since(reporter, watch)[0] == (report.subject.id,)
    pass_time(anvil, WEEK - 60)
    later = juror.moderation.report(second, OTHER_EVIDENCE, BOND)
    pass_time(anvil, 120)
    removed, watch = refused_since(reporter, watch)
    assert (removed, watch.settled, watch.ended) == ((report.subject.id,), 1, ())
    assert refused_since(reporter, watch) == ((), watch), "what was removed is told once"
    juror.moderation.vote(later.case, remove=True)
    assert refused_since(reporter, watch)[0] == (second.id,)
    assert refused_since(reporter, Watch())[0] == (report.subject.id, second.id), "who begins anew sees all"
