"""The ledger of training runs on a real chain: announced, committed, challenged, attested, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citrate.core.adapters import Grade
from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
)
from citrate.registry.abi_codec import selector
from citrate.registry.chain import Chain
from citrate.registry.ledger import Ledger
from citrate.registry.signer import Signer
from tests.fixtures_anvil import AnvilNode, sha256_of, signer_of
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
TOLD = {"recipe": sha256_of("recipe"), "dataset": sha256_of("dataset"), "base_sha256": sha256_of("base")}
REPORT = sha256_of("report")


@pytest.fixture
def ledger(chain: Chain) -> Ledger:
    return Ledger(chain)


@pytest.fixture
def committed(ledger: Ledger, publisher: Signer) -> int:
    run_id, _ = ledger.announce(publisher, **TOLD)
    ledger.commit(publisher, run_id, proof_root=sha256_of("proof"), adapter_sha256=sha256_of("adapter"))
    return run_id


def test_a_run_from_its_announcement_to_its_attestation(
    chain: Chain, ledger: Ledger, publisher: Signer, stranger: Signer
) -> None:
    run_id, _ = ledger.announce(publisher, **TOLD)
    run = ledger.run(run_id)
    assert (run.run_id, run.state, run.trainer) == (1, "announced", publisher.address)
    assert (run.recipe, run.dataset, run.base_sha256) == tuple(TOLD.values())
    assert (run.proof_root, run.adapter_sha256, run.seed, run.committed_at, run.target_block) == ("", "", "", 0, 0)
    ledger.commit(publisher, run_id, proof_root=sha256_of("proof"), adapter_sha256=sha256_of("adapter"))
    run = ledger.run(run_id)
    assert (run.state, run.proof_root, run.adapter_sha256) == ("committed", sha256_of("proof"), sha256_of("adapter"))
    with pytest.raises(CitrateError, match=f"comes from block {run.target_block}") as error:
        ledger.draw(stranger, run_id)
    assert "any transaction makes one" in error.value.hint
    chain.rpc.call("anvil_mine", hex(run.target_block - chain.pin().number + 1))
    ledger.draw(stranger, run_id)
    run = ledger.run(run_id)
    assert run.state == "challenged" and len(run.seed) == 64 and run.misses == 0
    ledger.attest(stranger, run_id, Grade.EXACT, segments=4, report_sha256=REPORT)
    (said,) = ledger.attestations(run_id)
    assert (said.verifier, said.grade, said.segments, said.report_sha256) == (stranger.address, Grade.EXACT, 4, REPORT)


def test_a_seed_that_lapsed_is_named_anew_and_counted(
    chain: Chain, ledger: Ledger, committed: int, stranger: Signer
) -> None:
    chain.rpc.call("anvil_mine", hex(300))
    before = ledger.run(committed)
    ledger.draw(stranger, committed)
    after = ledger.run(committed)
    assert after.misses == 1 and not after.seed and after.target_block > before.target_block


def test_nothing_is_done_twice_or_by_another(
    ledger: Ledger, committed: int, publisher: Signer, stranger: Signer
) -> None:
    outcome = {"proof_root": sha256_of("other"), "adapter_sha256": sha256_of("other")}
    with pytest.raises(AlreadyExistsError, match="committed already"):
        ledger.commit(publisher, committed, **outcome)
    other, _ = ledger.announce(publisher, **TOLD)
    with pytest.raises(NotPermittedError, match="did not announce"):
        ledger.commit(stranger, other, **outcome)
    with pytest.raises(CitrateError, match="not committed yet"):
        ledger.draw(stranger, other)
    with pytest.raises(CitrateError, match="no seed yet"):
        ledger.attest(stranger, committed, Grade.EXACT, segments=1, report_sha256=REPORT)
    with pytest.raises(NotPermittedError, match="signer's own"):
        ledger.attest(publisher, committed, Grade.ATTESTED, segments=0, report_sha256=REPORT)
    ledger.attest(stranger, committed, Grade.ATTESTED, segments=0, report_sha256=REPORT)
    with pytest.raises(AlreadyExistsError, match="has attested"):
        ledger.attest(stranger, committed, Grade.ATTESTED, segments=0, report_sha256=REPORT)


def test_what_cannot_be_is_refused_before_anything_is_sent(ledger: Ledger, committed: int, stranger: Signer) -> None:
    for wrong in ("", "00" * 32, "not a hash"):
        with pytest.raises(ConfigError):
            ledger.announce(stranger, **{**TOLD, "dataset": wrong})
        with pytest.raises(ConfigError):
            ledger.attest(stranger, committed, Grade.ATTESTED, segments=0, report_sha256=wrong)
    with pytest.raises(ConfigError, match="segments cannot be"):
        ledger.attest(stranger, committed, Grade.EXACT, segments=2**32, report_sha256=REPORT)
    with pytest.raises(ConfigError, match="no segments"):
        ledger.attest(stranger, committed, Grade.ATTESTED, segments=1, report_sha256=REPORT)
    for number in (0, 2, 10**9):
        with pytest.raises(NotFoundError, match=f"no training run {number}"):
            ledger.run(number)


def test_runs_and_attestations_are_listed_whole(
    anvil: AnvilNode, chain: Chain, ledger: Ledger, committed: int, publisher: Signer, tmp_path: Path
) -> None:
    second, _ = ledger.announce(publisher, **TOLD)
    assert [run.run_id for run in ledger.runs()] == [second, committed]
    assert [run.run_id for run in ledger.runs(1)] == [second]
    for name in ("stranger", "validator"):
        ledger.attest(signer_of(name), committed, Grade.ATTESTED, segments=0, report_sha256=REPORT)
    assert [each.verifier for each in ledger.attestations(committed)] == [
        signer_of("validator").address, signer_of("stranger").address,
    ]  # fmt: skip

    asked = "0x" + selector("attestations(uint256,address,uint256)").hex()

    def shorten(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_call" and request["params"][0]["data"].startswith(asked):
            answer["result"] = "0x" + f"{32:064x}" + "0" * 64
        return answer

    with proxy(anvil.url, shorten) as url, pytest.raises(ChainError, match="attestations is not whole"):
        Ledger(Chain.connect(url, 31337, home=tmp_path)).attestations(committed)
