"""An alias's history is whole or an error, whatever the node leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ChainError, ConfigError, NotFoundError
from citrate.registry.chain import Chain
from citrate.registry.signer import Signer
from tests.fixtures_anvil import AnvilNode, release_of
from tests.registry.chain.proxy import proxy

pytestmark = pytest.mark.servers


@pytest.fixture
def history(chain: Chain, publisher: Signer) -> list[tuple[str, int]]:
    """prod: 1 -> 2 -> 1 -> 3 with other aliases in between; what the log must say."""
    me = publisher.address
    told = []
    for version in ("1", "2", "3"):
        chain.publish(publisher, release_of(me, version=version), "edge")
    for version in ("1", "2", "1", "3"):
        told.append((version, chain.set_alias(publisher, me, "tiny", "prod", version).block_number))
        chain.set_alias(publisher, me, "tiny", "edge", version)
    return told


def test_the_history_is_complete_and_in_order(chain: Chain, publisher: Signer, history: list[tuple[str, int]]) -> None:
    log = chain.alias_log(publisher.address, "tiny", "prod")
    assert [(change.version, change.block_number) for change in log] == history
    assert [change.number for change in log] == [1, 2, 3, 4]
    assert all(len(change.tx_hash) == 66 and change.alias == "prod" for change in log)
    assert len(chain.alias_log(publisher.address, "tiny", "edge")) == 7
    assert [(target.alias, target.version, target.changes) for target in chain.aliases(publisher.address, "tiny")] == [
        ("edge", "3", 7),
        ("prod", "3", 4),
    ]


def test_changes_within_one_block_are_all_told(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me, version="1"))
    chain.publish(publisher, release_of(me, version="2"))
    nonce = int(str(chain.rpc.call("eth_getTransactionCount", me, "latest")), 16)
    chain.rpc.call("evm_setAutomine", False)
    try:
        for offset, version in enumerate(("1", "2", "1", "2")):
            _send_unmined(chain, publisher, nonce + offset, version)
        chain.rpc.call("evm_mine")
    finally:
        chain.rpc.call("evm_setAutomine", True)
    log = chain.alias_log(me, "tiny", "prod")
    assert [change.version for change in log] == ["1", "2", "1", "2"]
    assert len({change.block_number for change in log}) == 1


def _send_unmined(chain: Chain, publisher: Signer, nonce: int, version: str) -> None:
    from citrate.registry.abi_codec import encode_call

    data = encode_call("setAlias(address,string,string,string)", publisher.address, "tiny", "prod", version)
    raw, _ = publisher.sign_transaction(
        {
            "type": 2,
            "chainId": chain.chain_id,
            "nonce": nonce,
            "to": chain.registry_address,
            "value": 0,
            "data": data,
            "gas": 200_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
    )
    chain.rpc.call("eth_sendRawTransaction", "0x" + raw.hex())


@pytest.mark.parametrize("dropped", [1, 2, 3, 4])
def test_a_node_that_drops_any_one_log_and_answers_success_is_caught(
    anvil: AnvilNode, publisher: Signer, history: list[tuple[str, int]], tmp_path: Path, dropped: int
) -> None:
    block = hex(history[dropped - 1][1])

    def drop(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getLogs":
            answer["result"] = [log for log in answer["result"] if log["blockNumber"] != block]
        return answer

    with proxy(anvil.url, drop) as url:
        behind = Chain.connect(url, 31337, home=tmp_path)
        with pytest.raises(ChainError, match=f"leaves out change {dropped} of the alias 'prod'") as error:
            behind.alias_log(publisher.address, "tiny", "prod")
        assert error.value.exit_code == 5
        assert len(behind.alias_log(publisher.address, "tiny", "edge")) == 7


def test_a_node_that_invents_or_moves_logs_is_caught(
    anvil: AnvilNode, publisher: Signer, history: list[tuple[str, int]], tmp_path: Path
) -> None:
    def twice(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getLogs":
            for log in answer["result"]:
                log["blockNumber"] = "0x1"
        return answer

    with proxy(anvil.url, twice) as url, pytest.raises(ChainError, match="leaves out"):
        Chain.connect(url, 31337, home=tmp_path).alias_log(publisher.address, "tiny", "prod")


@pytest.mark.parametrize("result", [None, "0x", [None], [{}], [{"topics": []}], [{"topics": ["a", "b", "c"]}]])
def test_nonsense_instead_of_logs_is_a_chain_error(
    anvil: AnvilNode, publisher: Signer, history: list[tuple[str, int]], tmp_path: Path, result: object
) -> None:
    def nonsense(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": result} if request["method"] == "eth_getLogs" else answer

    with proxy(anvil.url, nonsense) as url, pytest.raises(ChainError):
        Chain.connect(url, 31337, home=tmp_path).alias_log(publisher.address, "tiny", "prod")


def test_what_has_no_history_is_told(chain: Chain, publisher: Signer, history: list[tuple[str, int]]) -> None:
    with pytest.raises(ConfigError, match="'latest' is not an alias with a history"):
        chain.alias_log(publisher.address, "tiny", "latest")
    with pytest.raises(NotFoundError):
        chain.alias_log(publisher.address, "tiny", "staging")


def test_lists_that_a_node_shortens_are_caught(
    anvil: AnvilNode, publisher: Signer, history: list[tuple[str, int]], tmp_path: Path
) -> None:
    """A provider that answers the list of records with an empty page."""
    from eth_abi.abi import encode

    from citrate.registry.abi_codec import selector

    item = "(address,uint8,bytes32,bytes32,address,string,string,uint64,bool)[]"
    empty = "0x" + encode([item, "address"], [[], "0x" + "0" * 40]).hex()
    names = {
        "0x" + selector(f"{name}").hex() for name in ("records(address,uint256)", "versions(bytes32,address,uint256)")
    }

    def shorten(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_call" and request["params"][0]["data"][:10] in names:
            answer["result"] = empty
        return answer

    with proxy(anvil.url, shorten) as url:
        behind = Chain.connect(url, 31337, home=tmp_path)
        for question in (behind.models, behind.records_since):
            with pytest.raises(ChainError, match="not whole"):
                question()
        with pytest.raises(ChainError, match="not whole"):
            behind.versions(behind.resolve(publisher.address, "tiny", "1").model_id)
