"""Each action is carried out once, whatever happens to it on its way into the chain."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ChainError, CitrateError
from citrate.registry.delivery import Sending
from citrate.registry.fees import GWEI
from citrate.registry.rpc import quantity
from citrate.registry.signer import Signer
from tests.fixtures_anvil import AnvilNode, signer_of
from tests.registry.chain.proxy import proxy
from tests.registry.chain.sending import (
    COUNTER,
    Sender,
    background,
    counted,
    mine,
    nonce,
    pool,
    rival,
    until,
)

pytestmark = pytest.mark.servers

# ---------------------------------------------------------------------- one transaction


def test_a_receipt_says_where_the_transaction_is(node: AnvilNode, home: Path, publisher: Signer) -> None:
    receipt = Sender(node.url, home).count(publisher, value=7)
    block: Any = node.rpc.call("eth_getBlockByNumber", hex(receipt.block_number), False)
    assert (receipt.block_hash, receipt.confirmations) == (block["hash"], 0)
    assert block["transactions"] == [receipt.tx_hash]
    assert quantity(node.rpc.call("eth_getBalance", COUNTER, "latest")) == 7
    assert counted(node) == 1 and not list((home / "sent").rglob("*.json"))


def test_value_is_counted_when_funds_are_looked_at(node: AnvilNode, home: Path, publisher: Signer) -> None:
    sender, pauper = Sender(node.url, home), signer_of("pauper")
    assert sender.estimate(pauper.address) > 21_000
    for who, value in ((pauper, 1), (publisher, 10**21)):
        with pytest.raises(CitrateError, match=r"ETH, and the transaction may cost") as error:
            sender.count(who, value=value)
        assert error.value.hint == f"citrate devnet fund {who.address}"
    assert counted(node) == 0


# ---------------------------------------------------------------------- no block takes it


def test_a_stuck_transaction_is_replaced_and_carried_out_once(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    sender = Sender(stopped.url, home)
    with background(lambda: sender.count(publisher)) as sent:
        until(lambda: pool(stopped))
        first = pool(stopped)[0]
        price = 10 * int(first["maxFeePerGas"], 16)  # more than what is offered again meanwhile
        stopped.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(price))
        mine(stopped)
        assert counted(stopped) == 0
        until(lambda: any(int(each["maxFeePerGas"], 16) >= price for each in pool(stopped)))
        second = pool(stopped)[0]
        mine(stopped)
        receipt = sent.result(60)
    assert second["nonce"] == first["nonce"]
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert int(second[fee], 16) >= int(first[fee], 16) * 1.125
    assert counted(stopped) == nonce(stopped, publisher) == 1
    assert receipt.tx_hash != first["hash"]
    assert any(f"no block has taken {first['hash']}" in line for line in sender.said)


def test_whichever_of_the_sent_transactions_is_mined_is_found(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    with background(lambda: Sender(stopped.url, home).count(publisher)) as sent:
        until(lambda: pool(stopped))
        first = pool(stopped)[0]
        raw = stopped.rpc.call("eth_getRawTransactionByHash", first["hash"])
        until(lambda: pool(stopped)[0]["hash"] != first["hash"])
        stopped.rpc.call("anvil_dropAllTransactions")
        stopped.rpc.call("eth_sendRawTransaction", raw)
        mine(stopped)
        assert sent.result(60).tx_hash == first["hash"]
    assert counted(stopped) == 1


def test_a_transaction_that_the_node_dropped_is_sent_again(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    with background(lambda: Sender(stopped.url, home).count(publisher)) as sent:
        until(lambda: pool(stopped))
        stopped.rpc.call("anvil_dropTransaction", pool(stopped)[0]["hash"])
        until(lambda: pool(stopped))
        mine(stopped)
        sent.result(60)
    assert counted(stopped) == 1


def test_giving_up_names_every_transaction_and_the_next_run_goes_on_with_them(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    with pytest.raises(ChainError, match="is in no block after 2 s") as error:
        Sender(stopped.url, home, Sending(confirmations=0, patience_s=0.1, timeout_s=2)).count(publisher)
    waiting = pool(stopped)[0]["hash"]
    assert error.value.tx_hash == waiting and error.value.exit_code == 5
    assert error.value.message.count("0x") >= 3 and "sends nothing twice" in error.value.hint
    again = Sender(stopped.url, home)
    with background(lambda: again.count(publisher)) as sent:
        until(lambda: again.said)
        mine(stopped)
        assert sent.result(60).tx_hash in error.value.message + waiting + "".join(again.said)
    assert counted(stopped) == nonce(stopped, publisher) == 1


def test_nothing_above_the_cap_is_offered(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    base = int(str(stopped.rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"]), 16) / GWEI  # type: ignore[index,call-overload]
    with pytest.raises(ChainError, match=r"more than max_fee_gwei = ") as error:
        Sender(stopped.url, home, Sending(confirmations=0, max_fee_gwei=base / 2)).count(publisher)
    assert error.value.exit_code == 5 and not pool(stopped)
    capped = Sending(confirmations=0, patience_s=0.1, timeout_s=2, max_fee_gwei=base * 1.05)
    with pytest.raises(ChainError, match="allows no higher offer"):
        Sender(stopped.url, home, capped).count(publisher)
    (only,) = pool(stopped)
    assert int(only["maxFeePerGas"], 16) == round(base * 1.05 * GWEI)


# ---------------------------------------------------------------------- another program with the same key


def test_a_nonce_that_another_program_took_is_given_up_and_the_action_is_sent_once(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    with background(lambda: Sender(stopped.url, home, Sending(0, patience_s=60)).count(publisher)) as sent:
        until(lambda: pool(stopped))
        ours = pool(stopped)[0]
        theirs = rival(stopped, publisher, int(ours["nonce"], 16), gwei=50)
        assert [each["hash"] for each in pool(stopped)] == [theirs]
        mine(stopped)
        until(lambda: pool(stopped))
        assert int(pool(stopped)[0]["nonce"], 16) == int(ours["nonce"], 16) + 1
        mine(stopped)
        assert sent.result(60).tx_hash != ours["hash"]
    assert counted(stopped) == 1 and nonce(stopped, publisher) == 2


def test_another_programs_transaction_is_waited_for_and_not_outbid(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    theirs = rival(stopped, publisher, 0, gwei=50)

    def forgetful(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """A node that does not count what waits in its pool, as many do behind a load balancer."""
        pending = request["method"] == "eth_getTransactionCount" and request["params"][1] == "pending"
        return {**answer, "result": hex(nonce(stopped, publisher))} if pending else answer

    with proxy(stopped.url, forgetful) as url, background(lambda: Sender(url, home).count(publisher)) as sent:
        time.sleep(1)  # three times its patience
        assert [each["hash"] for each in pool(stopped)] == [theirs]
        mine(stopped)
        until(lambda: pool(stopped))
        mine(stopped)
        sent.result(60)
    assert counted(stopped) == 1 and nonce(stopped, publisher) == 2


def test_sixteen_threads_of_one_home_each_act_once(node: AnvilNode, home: Path, publisher: Signer) -> None:
    with ThreadPoolExecutor(16) as threads:
        receipts = list(threads.map(lambda i: Sender(node.url, home).count(publisher, i % 4), range(16)))
    assert len({receipt.tx_hash for receipt in receipts}) == counted(node) == nonce(node, publisher) == 16


def test_programs_that_know_nothing_of_each_other_each_act_once(
    node: AnvilNode, tmp_path: Path, publisher: Signer
) -> None:
    node.rpc.call("evm_setAutomine", False)
    node.rpc.call("evm_setIntervalMining", 1)
    patient = Sending(confirmations=0, patience_s=60, timeout_s=60)
    with ThreadPoolExecutor(16) as threads:
        receipts = list(
            threads.map(lambda i: Sender(node.url, tmp_path / f"{i}", patient).count(publisher, i), range(16))
        )
    assert len({receipt.tx_hash for receipt in receipts}) == counted(node) == nonce(node, publisher) == 16


def test_one_action_of_one_key_in_two_homes_is_carried_out_twice(
    stopped: AnvilNode, tmp_path: Path, publisher: Signer
) -> None:
    def forgetful(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Both are told the same nonce, as when they ask at the same moment."""
        pending = request["method"] == "eth_getTransactionCount" and request["params"][1] == "pending"
        return {**answer, "result": hex(nonce(stopped, publisher))} if pending else answer

    patient = Sending(confirmations=0, patience_s=60, timeout_s=60)
    with proxy(stopped.url, forgetful) as url, ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(Sender(url, tmp_path / name, patient).count, publisher) for name in "ab"]
        until(lambda: list(tmp_path.glob("a/sent/*/*.json")) and list(tmp_path.glob("b/sent/*/*.json")))
        while not all(each.done() for each in sent):
            mine(stopped)
            time.sleep(0.2)
    receipts = [each.result() for each in sent]
    assert len({receipt.tx_hash for receipt in receipts}) == counted(stopped) == nonce(stopped, publisher) == 2
    assert not any(receipt.taken_up for receipt in receipts)


# ---------------------------------------------------------------------- finality


def test_blocks_that_must_follow_are_waited_for(node: AnvilNode, home: Path, publisher: Signer) -> None:
    sender = Sender(node.url, home, Sending(confirmations=2))
    with background(lambda: sender.count(publisher)) as sent:
        until(lambda: sender.said)
        mine(node)
        time.sleep(0.3)
        assert not sent.done()
        mine(node)
        assert sent.result(60).confirmations == 2
    assert "2 more must follow it" in sender.said[0]


@pytest.mark.parametrize("tag", ["safe", "finalized"])
def test_a_block_must_be_what_the_settings_ask(node: AnvilNode, home: Path, publisher: Signer, tag: str) -> None:
    sender = Sender(node.url, home, Sending(confirmations=0, finality=tag))
    with background(lambda: sender.count(publisher)) as sent:
        until(lambda: sender.said)
        assert not sent.done()
        node.rpc.call("anvil_mine", "0x80")
        receipt = sent.result(60)
    sure: Any = node.rpc.call("eth_getBlockByNumber", tag, False)
    assert int(sure["number"], 16) >= receipt.block_number
    assert f"must call it {tag}" in sender.said[0]


def test_a_block_that_is_not_sure_in_time_is_told_and_taken_up_later(
    node: AnvilNode, home: Path, publisher: Signer
) -> None:
    with pytest.raises(ChainError, match=r"which 0 blocks follow after 0\.3 s; 3 more must follow it") as error:
        Sender(node.url, home, Sending(confirmations=3, finality_timeout_s=0.3)).count(publisher)
    mine(node, 3)
    assert Sender(node.url, home, Sending(confirmations=3)).count(publisher).tx_hash == error.value.tx_hash
    assert counted(node) == 1


def test_a_reorganisation_that_drops_the_transaction_is_noticed_and_mended(
    node: AnvilNode, home: Path, publisher: Signer
) -> None:
    sender = Sender(node.url, home, Sending(confirmations=2))
    with background(lambda: sender.count(publisher)) as sent:
        until(lambda: sender.said)
        assert counted(node) == 1
        node.rpc.call("anvil_reorg", 1, [])
        until(lambda: any("reorganisation took" in line for line in sender.said))
        until(lambda: counted(node) == 1)
        mine(node, 2)
        receipt = sent.result(60)
    block: Any = node.rpc.call("eth_getBlockByNumber", hex(receipt.block_number), False)
    assert block["transactions"] == [receipt.tx_hash] and block["hash"] == receipt.block_hash
    assert counted(node) == nonce(node, publisher) == 1
