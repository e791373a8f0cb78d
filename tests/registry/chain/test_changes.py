"""A contract's changes are proved whole, or the block where the node's logs go wrong is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ChainError, ConfigError
from citrate.registry.artifacts import MODEL_REGISTRY, MODERATION, POLICY
from citrate.registry.chain import Chain
from citrate.registry.change_events import AliasSet, Deprecated, Transferred, TransferStarted
from citrate.registry.changes import ChangeCursor, prove
from citrate.registry.signer import Signer
from tests.fixtures_anvil import CHAIN_ID, AnvilNode, release_of, signer_of
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def history(anvil_session: AnvilNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Nine changes of ModelRegistry between records, made once for all tests here; the blocks they are in."""
    snapshot = anvil_session.rpc.call("evm_snapshot")
    chain = Chain.connect(anvil_session.url, CHAIN_ID, home=tmp_path_factory.mktemp("history"))
    publisher, stranger, blocks = signer_of("publisher"), signer_of("stranger"), []
    me = publisher.address
    for version in ("1", "2"):
        chain.publish(publisher, release_of(me, version=version))
    blocks += [
        chain.set_alias(publisher, me, "tiny", "prod", version).block_number for version in ("1", "2", "1", "2", "1")
    ]
    blocks.append(chain.publish(publisher, release_of(me, version="3"), "edge").block_number)
    blocks.append(chain.deprecate(publisher, me, "tiny", "1").block_number)
    blocks.append(chain.transfer(publisher, me, "tiny", stranger.address).block_number)
    blocks.append(chain.accept(stranger, me, "tiny").block_number)
    yield blocks
    anvil_session.rpc.call("evm_revert", snapshot)


@pytest.fixture
def anvil(history: list[int], anvil_session: AnvilNode) -> Iterator[AnvilNode]:
    """The session's Anvil with that history; what the test does to it is undone afterwards."""
    snapshot = anvil_session.rpc.call("evm_snapshot")
    yield anvil_session
    anvil_session.rpc.call("evm_revert", snapshot)


def test_every_change_is_told_in_order_and_records_are_not_among_them(
    chain: Chain, publisher: Signer, stranger: Signer, history: list[int]
) -> None:
    proved = prove(chain, MODEL_REGISTRY)
    assert [change.block_number for change in proved.changes] == history
    assert [type(change.event) for change in proved.changes] == [
        *[AliasSet] * 6, Deprecated, TransferStarted, Transferred,
    ]  # fmt: skip
    offered = proved.changes[7].event
    assert isinstance(offered, TransferStarted) and (offered.from_, offered.to) == (publisher.address, stranger.address)
    assert proved.cursor.count == 9 and len(proved.cursor.root) == 64 and not proved.reorganised


def test_a_cursor_reads_nothing_twice(
    anvil: AnvilNode, chain: Chain, publisher: Signer, history: list[int], tmp_path: Path
) -> None:
    asked: list[Answer] = []

    def watch(request: Answer, answer: Answer) -> Answer:
        asked.append(request)
        return answer

    first = prove(chain, MODEL_REGISTRY)
    with proxy(anvil.url, watch) as url:
        behind = Chain.connect(url, 31337, home=tmp_path)
        again = prove(behind, MODEL_REGISTRY, first.cursor)
        assert again.changes == () and not [r for r in asked if r["method"] == "eth_getLogs"]
        chain.set_alias(signer_of("stranger"), publisher.address, "tiny", "edge", "2")
        later = prove(behind, MODEL_REGISTRY, again.cursor)
        (logs,) = [r["params"][0] for r in asked if r["method"] == "eth_getLogs"]
    assert int(logs["fromBlock"], 16) == first.cursor.block_number + 1
    assert len(later.changes) == 1 and later.cursor.count == 10


# ------------------------------------------------------------------ a node that lies


def _lying(change: Callable[[list[Answer]], list[Answer]]) -> Callable[[Answer, Answer], Answer]:
    """Change every answer for logs, consistently, as if the node's database were damaged."""

    def lie(request: Answer, answer: Answer) -> Answer:
        if request["method"] == "eth_getLogs":
            answer["result"] = change(answer["result"])
        return answer

    return lie


def _drop(block: int) -> Callable[[list[Answer]], list[Answer]]:
    return lambda logs: [log for log in logs if log["blockNumber"] != hex(block)]


def _alter_data(block: int) -> Callable[[list[Answer]], list[Answer]]:
    def change(logs: list[Answer]) -> list[Answer]:
        for log in logs:
            if log["blockNumber"] == hex(block):
                log["data"] += "00"
        return logs

    return change


def _alter_topic(block: int) -> Callable[[list[Answer]], list[Answer]]:
    def change(logs: list[Answer]) -> list[Answer]:
        for log in logs:
            if log["blockNumber"] == hex(block):
                log["topics"][1] = "0x" + "ab" * 32
        return logs

    return change


def _twice(block: int) -> Callable[[list[Answer]], list[Answer]]:
    def change(logs: list[Answer]) -> list[Answer]:
        more = []
        for log in logs:
            more.append(log)
            if log["blockNumber"] == hex(block):
                again = copy.deepcopy(log)
                again["logIndex"] = hex(int(log["logIndex"], 16) + 7)
                more.append(again)
        return more

    return change


def _hide_as_record(block: int) -> Callable[[list[Answer]], list[Answer]]:
    from citrate.registry.change_events import RECORD_TOPICS

    def change(logs: list[Answer]) -> list[Answer]:
        for log in logs:
            if log["blockNumber"] == hex(block):
                log["topics"][0] = sorted(RECORD_TOPICS)[0]
        return logs

    return change


@pytest.mark.parametrize(
    "lie", [_drop, _alter_data, _alter_topic, _twice, _hide_as_record], ids=lambda lie: lie.__name__
)
def test_one_wrong_log_is_found_and_its_block_named(
    anvil: AnvilNode, history: list[int], tmp_path: Path, lie: Callable[[int], Callable[[list[Answer]], list[Answer]]]
) -> None:
    for block in (history[0], history[4], history[8]):
        with proxy(anvil.url, _lying(lie(block))) as url:
            behind = Chain.connect(url, 31337, home=tmp_path)
            with pytest.raises(ChainError, match=rf"logs of ModelRegistry .* in block {block}$") as error:
                prove(behind, MODEL_REGISTRY)
        assert error.value.exit_code == 5


def test_logs_out_of_order_are_found(anvil: AnvilNode, chain: Chain, history: list[int], tmp_path: Path) -> None:
    logs: Any = chain.rpc.call("eth_getLogs", {"address": chain.registry_address, "fromBlock": "0x0"})
    right = {log["blockNumber"]: log for log in logs}
    one, other = hex(history[2]), hex(history[3])

    def swap(logs: list[Answer]) -> list[Answer]:
        for log in logs:
            instead = {one: other, other: one}.get(log["blockNumber"])
            if instead:
                log["topics"], log["data"] = right[instead]["topics"], right[instead]["data"]
        return logs

    for lie in (swap, lambda logs: logs[::-1]):
        with proxy(anvil.url, _lying(lie)) as url, pytest.raises(ChainError, match="do not add up"):
            prove(Chain.connect(url, 31337, home=tmp_path), MODEL_REGISTRY)


def test_a_lost_log_is_found_where_the_node_keeps_no_old_state(
    anvil: AnvilNode, history: list[int], tmp_path: Path
) -> None:
    def forget(request: Answer, answer: Answer) -> Answer:
        if request["method"] == "eth_call" and isinstance(request["params"][1], str):
            error = {"code": -32000, "message": "missing trie node"}
            return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return _lying(_drop(history[3]))(request, answer)

    with proxy(anvil.url, forget) as url, pytest.raises(ChainError, match=r"in blocks 0 to \d+"):
        prove(Chain.connect(url, 31337, home=tmp_path), MODEL_REGISTRY)


# ------------------------------------------------------------------ a node with limits


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_node_that_refuses_long_ranges_is_asked_for_shorter_ones(
    anvil: AnvilNode, history: list[int], tmp_path: Path, limit: int
) -> None:
    def refuse(request: Answer, answer: Answer) -> Answer:
        if request["method"] == "eth_getLogs":
            where = request["params"][0]
            if int(where["toBlock"], 16) - int(where["fromBlock"], 16) >= limit:
                error = {"code": -32005, "message": "query exceeds max block range"}
                return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return answer

    with proxy(anvil.url, refuse) as url:
        assert len(prove(Chain.connect(url, 31337, home=tmp_path), MODEL_REGISTRY).changes) == 9


def test_a_node_that_cuts_long_answers_off_silently_is_read_in_parts(
    anvil: AnvilNode, history: list[int], tmp_path: Path
) -> None:
    with proxy(anvil.url, _lying(lambda logs: logs[:2])) as url:
        proved = prove(Chain.connect(url, 31337, home=tmp_path), MODEL_REGISTRY)
    assert [change.block_number for change in proved.changes] == history


def test_a_node_that_refuses_every_range_is_an_error(anvil: AnvilNode, history: list[int], tmp_path: Path) -> None:
    def refuse(request: Answer, answer: Answer) -> Answer:
        if request["method"] == "eth_getLogs":
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no logs here"}}
        return answer

    with proxy(anvil.url, refuse) as url, pytest.raises(ChainError, match="no logs here"):
        prove(Chain.connect(url, 31337, home=tmp_path), MODEL_REGISTRY)


# ------------------------------------------------------------------ reorganisations and absence


def test_a_node_that_is_behind_says_so(chain: Chain, history: list[int]) -> None:
    proved = prove(chain, MODEL_REGISTRY)
    chain.rpc.call("anvil_mine", hex(3))
    newer = prove(chain, MODEL_REGISTRY, proved.cursor)
    assert newer.cursor.block_number == proved.cursor.block_number + 3
    with pytest.raises(ChainError, match="which is proved already"):
        prove(chain, MODEL_REGISTRY, newer.cursor, tag="earliest")


def test_a_cursor_whose_root_is_not_the_chains_is_an_error(chain: Chain, history: list[int]) -> None:
    proved = prove(chain, MODEL_REGISTRY).cursor
    wrong = ChangeCursor(proved.block_number, proved.block_hash, "ab" * 32, proved.count)
    with pytest.raises(ChainError):
        prove(chain, MODEL_REGISTRY, wrong)


def test_a_contract_that_is_not_there_is_an_error(anvil: AnvilNode, chain: Chain, tmp_path: Path) -> None:
    other = Chain.connect(anvil.url, 31337, authority="0x" + "77" * 20, home=tmp_path)
    with pytest.raises(ConfigError, match="nothing that it governs stands"):
        prove(other, POLICY)
    anvil.rpc.call("anvil_setCode", chain.addresses[POLICY], "0x")
    with pytest.raises(ChainError, match="there is no Policy"):
        prove(chain, POLICY)
    with pytest.raises(ChainError, match="there is no Moderation at"):
        prove(chain, MODERATION, address="0x" + "88" * 20)
