"""Reporting and deciding through the command line, and who obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, refuses
from tests.e2e.market import ETHER, Market
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("market")]
WEEK = 7 * 86_400


@pytest.fixture
def evidence(tmp_path: Path) -> str:
    path = tmp_path / "evidence.md"
    path.write_text("what it says when it is asked about the weather")
    return str(path)


@pytest.fixture
def juror(market: Market) -> Machine:
    """Who staked before anything was reported."""
    machine = market.visitor("juror")
    assert machine.gets("stake", "add", "6ether")["stake_wei"] == 6 * ETHER
    return machine


def test_a_case_from_the_report_to_the_removal(market: Market, juror: Machine, evidence: str) -> None:
    reporter, nobody = market.visitor("reporter"), market.visitor()
    unconfirmed = reporter.types("report", market.suspect, "--evidence", evidence, "--json")
    refuses(unconfirmed, 2, "ConfigError", "needs a bond of 0.05 ether")
    assert "--bond 0.05ether" in str(unconfirmed.error["hint"])
    declined = reporter.answers("report", market.suspect, "--evidence", evidence, typed="n\n")
    assert declined.code == 1 and "puts 0.05 ether at stake" in declined.out and "not reported" in declined.out
    case = reporter.gets("report", market.suspect, "--evidence", evidence, "--bond", "0.05ether")
    assert (case["case"], case["ref"], case["outcome"], case["quarantines"]) == (1, market.suspect, "open", False)
    assert reporter.gets("add", evidence, "--only-hash")["cid"] == case["evidence"]
    assert [item["cid"] for item in reporter.gets("store", "ls")["objects"] if item["pinned"]] == [case["evidence"]]

    pulled = nobody.types("pull", f"{market.suspect}#gguf:Q8_0")
    assert pulled.code == 0 and "note:" in pulled.err and "case 1" in pulled.err
    voted = juror.gets("vote", market.suspect, "remove")
    assert (voted["case"], voted["vote"], voted["weight_wei"], voted["quarantines"]) == (1, "remove", 6 * ETHER, True)
    resolved = nobody.gets("resolve", market.suspect)
    assert (resolved["quarantined"], resolved["status"]) == (True, "quarantined")
    for command in (("select", "--device", "cpu"), ("pull",), ("run", "hello")):
        refused = nobody.types(command[0], market.suspect, *command[1:], "--json")
        refuses(refused, 1, "NotPermittedError", "is quarantined: case 1")
        assert "--allow quarantined" in str(refused.error["hint"])
    recipe = market.folder / "a-recipe.yaml"
    recipe.write_text(f"schema: citrate.recipe/1\nbase: {market.suspect}\nmethod: sft\ndataset: bafy\nsteps: 2\n")
    trained = nobody.types("train", str(recipe), "--out", str(market.folder / "run"), "--json")
    refuses(trained, 1, "NotPermittedError", "is quarantined: case 1")
    allowed = nobody.types("pull", f"{market.suspect}#gguf:Q8_0", "--allow", "quarantined")
    assert allowed.code == 0 and "warning:" in allowed.err

    market.pass_time(WEEK + 1)
    assert nobody.gets("resolve", market.suspect)["status"] == "removed"
    assert nobody.gets("case", "show", "1")["outcome"] == "upheld"
    assert nobody.types("case", "show", market.suspect).out.startswith("case ")
    closed = juror.gets("case", "close", "1")
    assert closed["closed"] is True and closed["tx_hash"]
    assert reporter.gets("case", "withdraw")["amount_wei"] == ETHER // 20
    assert juror.gets("stake", "withdraw", "all")["stake_wei"] == 0
    refuses(
        market.machine.types("add-variant", "me/suspect", "--variants", "gguf:F16", "--json"), 1, "NotPermittedError"
    )


def test_a_mirror_lets_go_of_what_is_quarantined_and_takes_it_in_again(
    market: Market, juror: Machine, evidence: str, tmp_path: Path
) -> None:
    mirror = market.visitor()
    first = mirror.gets("sync", "--once")
    assert (first["fetched"], first["dropped"], first["failed"]) == (2, 0, 0)
    held = _pinned(mirror)
    juror.gets("report", market.suspect, "--evidence", evidence, "--bond", "0.05ether")
    assert mirror.gets("sync", "--once")["dropped"] == 0, "a report alone stops nobody"
    juror.gets("vote", "1", "remove")
    dropped = mirror.types("sync", "--once")
    assert dropped.code == 0 and "dropped" in dropped.err
    assert len(_pinned(mirror)) < len(held)
    assert mirror.gets("sync", "--once")["dropped"] == 0, "told once"
    late = Machine(tmp_path / "late", CITRATE_RPC_URL=market.rpc_url, CITRATE_GATEWAYS=market.gateway)
    assert late.gets("sync", "--once")["fetched"] == 1
    assert late.gets("sync", "--once", "--allow", "quarantined")["verified"] == 2
    market.pass_time(WEEK + 1)
    # the votes made a quorum, so it is removed for ever; `policy.quarantined` alone keeps such a version
    policy = tmp_path / "policy.toml"
    policy.write_text("quarantined = true\npriced = false\n")
    kept = mirror.types("sync", "--once", "--policy", str(policy))
    assert kept.code == 0 and "costs 0.01 ether" in kept.err
    assert set(_pinned(mirror)) >= set(held)


def test_a_quarantine_that_finds_no_quorum_ends_and_the_mirror_follows(market: Market, evidence: str) -> None:
    juror, mirror = market.visitor("juror"), market.visitor()
    juror.gets("stake", "add", "3ether")
    juror.gets("report", market.suspect, "--evidence", evidence, "--bond", "0.05ether")
    assert juror.gets("vote", "1", "remove")["quarantines"] is True
    assert mirror.gets("sync", "--once")["fetched"] == 1
    market.pass_time(WEEK + 1)
    assert mirror.gets("sync", "--once")["fetched"] == 1, "3 of 5 ether voted: no quorum, and it stands again"
    assert mirror.gets("case", "list")["cases"][0]["outcome"] == "no_quorum"
    assert mirror.gets("case", "list", "--open")["cases"] == []


def test_the_authority_lifts_a_case_with_what_is_printed(market: Market, juror: Machine, evidence: str) -> None:
    juror.gets("report", market.suspect, "--evidence", evidence, "--bond", "0.05ether")
    juror.gets("vote", "1", "remove")
    plan = juror.gets("case", "lift", "1")
    for name, wait_s in (("schedule", 0), ("execute", plan["delay_s"])):
        market.pass_time(wait_s)
        call = plan[name]
        transaction = {"from": plan["proposer"], "to": call["to"], "data": call["data"]}
        assert market.calls("eth_sendTransaction", transaction)
        market.calls("evm_mine")
    assert juror.gets("case", "show", "1")["outcome"] == "lifted"
    assert juror.gets("resolve", market.suspect)["status"] == "active"


def test_bad_input_of_cases_and_stakes(market: Market, evidence: str) -> None:
    juror, pauper = market.visitor("juror"), market.visitor("pauper")
    report = ("report", market.suspect, "--evidence")
    for arguments, code, kind, word in (
        (("vote", "1", "perhaps"), 2, "UsageError", "remove"),
        ((*report, evidence, "--bond", "1"), 2, "ConfigError", "no unit"),
        ((*report, evidence, "--bond", "1ether"), 2, "ConfigError", "is 0.05 ether, not 1 ether"),
        ((*report, "nothing.md", "--bond", "0.05ether"), 4, "NotFoundError", "no such file"),
        (("report", f"{market.address}/none", "--evidence", evidence), 4, "NotFoundError", "no model"),
        (("stake", "withdraw", "1ether"), 1, "NotPermittedError", "0 ether"),
    ):
        refuses(juror.types(*arguments, "--json"), code, kind, word)
    refuses(pauper.types("stake", "add", "1ether", "--json"), 1, "CitrateError", "0 ETH")
    assert not [item for item in juror.gets("store", "ls")["objects"] if item["pinned"]]


def test_a_chain_without_moderation(market: Market) -> None:
    nobody = market.visitor("buyer")
    for name in ("LoRARegistry", "ModelAccess", "Moderation", "Policy"):
        market.calls("anvil_setCode", market.contracts[name], "0x")
    resolved = nobody.gets("resolve", market.suspect)
    assert (resolved["quarantined"], resolved["status"]) == (None, None)
    assert nobody.types("pull", f"{market.suspect}#gguf:Q8_0").code == 0
    lacks = nobody.types("case", "list", "--json")
    refuses(lacks, 5, "ChainError", "no Policy")
    assert nobody.gets("sync", "--once")["failed"] == 0


def test_who_asks_other_code_obeys_nobody(market: Market) -> None:
    nobody = market.visitor()
    market.calls("anvil_setCode", market.contracts["Policy"], "0x6101005ff3")  # zeros: "nobody moderates"
    for command in (("resolve", market.suspect), ("pull", market.suspect), ("run", market.suspect, "hello")):
        refused = nobody.types(*command, "--json")
        refuses(refused, 5, "ChainError", f"at {market.contracts['Policy']}", "is not this release's Policy")
        assert "citrate verify-contracts" in str(refused.error["hint"])


def test_an_audit_through_a_node_that_drops_logs_tells_of_every_contract(market: Market, tmp_path: Path) -> None:
    def drop(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": []} if request["method"] == "eth_getLogs" else answer

    with proxy(market.rpc_url, drop) as url:
        auditor = Machine(tmp_path / "auditor", CITRATE_RPC_URL=url)
        told, typed = auditor.types("audit", "--json"), auditor.types("audit")
    contracts = told.json["contracts"]
    assert isinstance(contracts, list) and told.json["ok"] is False and "error" not in told.json
    bad = {each["name"]: each["reason"] for each in contracts if not each["ok"]}
    assert len(contracts) == 6 and {"Policy", "Moderation"} <= set(bad) and all(bad.values())
    assert (told.code, typed.code) == (5, 5)
    assert [line.split()[1] for line in typed.out.splitlines() if line.startswith("BAD")] == list(bad)
    assert all(reason in typed.err for reason in bad.values())


def _pinned(machine: Machine) -> list[str]:
    objects = machine.gets("store", "ls")["objects"]
    assert isinstance(objects, list)
    return [str(item["cid"]) for item in objects if item["pinned"]]
