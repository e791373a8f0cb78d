"""A command that was killed, or whose answer was lost, is carried out once: by itself or by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from citrate.core.errors import ChainError, CitrateError
from citrate.registry.delivery import Sending
from citrate.registry.rpc import JsonRpc
from citrate.registry.signer import Signer
from citrate.registry.transactions import TransactionSender
from tests.fixtures_anvil import CHAIN_ID, AnvilNode, start_anvil, stop_anvil
from tests.registry.chain.proxy import proxy
from tests.registry.chain.sending import (
    COUNTER,
    COUNTER_CODE,
    HASTY,
    QUICK,
    ROOT,
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

_CUT_OFF = """
import sys
from pathlib import Path
from citrate.registry.delivery import Sending
from tests.fixtures_anvil import signer_of
from tests.registry.chain.sending import Sender
patient = Sending(confirmations=0, patience_s=60)  # no second offer takes the place of the one that is looked at
Sender(sys.argv[1], Path(sys.argv[2]), patient).count(signer_of("publisher"), int(sys.argv[3]))
"""


def cut_off(node: AnvilNode, home: Path, tag: int = 0) -> str:
    """Send from a process that is killed when its transaction waits in the pool; returns its hash."""
    process = subprocess.Popen([sys.executable, "-c", _CUT_OFF, node.url, str(home), str(tag)], cwd=ROOT)
    until(lambda: pool(node))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return str(pool(node)[0]["hash"])


def test_a_killed_command_is_taken_up_and_not_sent_twice(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    first = cut_off(stopped, home)
    again = Sender(stopped.url, home, Sending(confirmations=0, patience_s=60))
    with background(lambda: again.count(publisher)) as sent:
        until(lambda: again.said)
        mine(stopped)
        assert sent.result(60).tx_hash == first and sent.result().taken_up
    assert again.said == [f"an earlier run was cut off; its {first} is taken up, not sent twice"]
    assert counted(stopped) == nonce(stopped, publisher) == 1


def test_a_stop_by_the_user_names_the_transaction_that_left(stopped: AnvilNode, home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _CUT_OFF, stopped.url, str(home), "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    until(lambda: pool(stopped))
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    last = told.strip().splitlines()[-1]
    assert "InterruptedSendingError" in last and str(pool(stopped)[0]["hash"]) in last


def test_what_was_mined_while_nobody_waited_is_told_once(
    stopped: AnvilNode, home: Path, publisher: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cut_off(stopped, home)
    mine(stopped)
    stopped.rpc.call("evm_setAutomine", True)
    sender = Sender(stopped.url, home)
    assert sender.count(publisher).tx_hash == first and counted(stopped) == 1
    assert sender.count(publisher).tx_hash != first and counted(stopped) == 2


def test_long_after_it_was_cut_off_a_command_means_to_act_again(
    stopped: AnvilNode, home: Path, publisher: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cut_off(stopped, home)
    mine(stopped)
    stopped.rpc.call("evm_setAutomine", True)
    monkeypatch.setattr("citrate.registry.transactions._CLAIMED_FOR_S", 0.0)
    assert Sender(stopped.url, home).count(publisher).tx_hash != first
    assert counted(stopped) == 2 and not list((home / "sent").rglob("*.json"))


def test_another_command_lets_what_the_node_holds_go_first(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    first = cut_off(stopped, home, tag=1)
    other = Sender(stopped.url, home, Sending(confirmations=0, patience_s=60))
    with background(lambda: other.count(publisher, 2)) as sent:
        until(lambda: other.said)
        mine(stopped)
        until(lambda: pool(stopped))
        mine(stopped)
        assert sent.result(60).tx_hash != first
    assert "goes first" in other.said[0] and counted(stopped) == nonce(stopped, publisher) == 2


def test_what_the_node_forgot_is_not_sent_by_another_command(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    cut_off(stopped, home, tag=1)
    stopped.rpc.call("anvil_dropAllTransactions")
    stopped.rpc.call("evm_setAutomine", True)
    Sender(stopped.url, home).count(publisher, 2)
    assert counted(stopped) == nonce(stopped, publisher) == 1
    Sender(stopped.url, home).count(publisher, 1)  # its nonce is used: it is sent anew
    assert counted(stopped) == 2 and not list((home / "sent").rglob("*.json"))


def test_what_was_left_on_a_chain_that_is_thrown_away_hinders_nobody(
    stopped: AnvilNode, node: AnvilNode, home: Path, publisher: Signer
) -> None:
    rival(stopped, publisher, 0, gwei=50)
    mine(stopped)
    cut_off(stopped, home)
    fresh = start_anvil()
    try:
        fresh.rpc.call("anvil_setCode", COUNTER, COUNTER_CODE)
        fresh.rpc.call("anvil_setBalance", publisher.address, hex(10**21))
        Sender(fresh.url, home).count(publisher)
        assert counted(fresh) == 1 and not list((home / "sent").rglob("*.json"))
    finally:
        stop_anvil(fresh)


def test_an_answer_that_got_lost_is_no_second_transaction(node: AnvilNode, home: Path, publisher: Signer) -> None:
    lost = []

    def losing(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_sendRawTransaction":
            lost.append(answer["result"])
            raise ConnectionResetError
        return answer

    with proxy(node.url, losing) as url:
        assert Sender(url, home).count(publisher).tx_hash == lost[0]
    assert counted(node) == len(lost) == 1


def test_a_node_that_dies_is_told_and_the_action_goes_on_when_it_is_back(
    stopped: AnvilNode, home: Path, publisher: Signer
) -> None:
    os.kill(stopped.process.pid, signal.SIGSTOP)
    until(lambda: psutil.Process(stopped.process.pid).status() == psutil.STATUS_STOPPED)
    node = JsonRpc(stopped.url, timeout_s=0.2)
    with pytest.raises(ChainError, match="no answer in time"):
        TransactionSender(node, CHAIN_ID, home, QUICK).send(publisher, COUNTER, b"")
    threading.Timer(0.3, os.kill, (stopped.process.pid, signal.SIGCONT)).start()
    with pytest.raises(ChainError):
        Sender(stopped.url, home, HASTY).count(publisher)
    stopped.rpc.call("evm_setAutomine", True)
    mine(stopped)
    Sender(stopped.url, home).count(publisher)
    assert counted(stopped) == nonce(stopped, publisher) == 1


def test_a_transaction_that_fails_on_chain_says_why(stopped: AnvilNode, home: Path, publisher: Signer) -> None:
    with background(lambda: Sender(stopped.url, home).count(publisher)) as sent:
        until(lambda: pool(stopped))
        stopped.rpc.call("anvil_setCode", COUNTER, "0x60006000fd")
        mine(stopped)
        with pytest.raises(ChainError, match="revert"):
            sent.result(60)
    assert not list((home / "sent").rglob("*.json"))


def test_a_damaged_outbox_is_told_with_the_file(node: AnvilNode, home: Path, publisher: Signer) -> None:
    folder = home / "sent" / f"{CHAIN_ID}-{publisher.address.lower()}"
    folder.mkdir(parents=True)
    (folder / "aa.json").write_text("{")
    with pytest.raises(CitrateError, match=r"aa\.json cannot be read"):
        Sender(node.url, home).count(publisher)
    assert counted(node) == 0
