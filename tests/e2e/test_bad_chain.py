"""What a chain cannot take or is not: one line, a hint, the right exit code, and nothing half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import SAMPLE, Machine, Release, refuses
from tests.fixtures_anvil import start_anvil, stop_anvil

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]


def test_a_taken_version_with_other_bytes_names_the_next_one(release: Release, model: Path) -> None:
    card = (model / "README.md").read_text()
    (model / "README.md").write_text(card + "\nOne more line.\n")
    machine = release.machine
    pinned = [item["cid"] for item in machine.gets("store", "ls")["objects"] if item["pinned"]]
    command = ("register-model", str(model), "--name", "tiny-llama", "--variants", "safetensors", "--checks", "tensors")
    result = machine.types(*command, "--json")
    refuses(result, 1, "AlreadyExistsError", "other bytes")
    assert "1.0.1" in str(result.error["hint"])
    assert [item["cid"] for item in machine.gets("store", "ls")["objects"] if item["pinned"]] == pinned


def test_a_version_named_like_an_alias_is_refused(release: Release) -> None:
    command = ("register-model", str(SAMPLE), "--name", "tiny-llama", "--version", "prod", "--checks", "tensors")
    refuses(release.machine.types(*command, "--json"), 1, "AlreadyExistsError", "alias")


def test_what_a_standing_version_cannot_take_is_not_dropped_silently(release: Release) -> None:
    command = ("register-model", str(SAMPLE), "--name", "tiny-llama")
    priced = release.machine.types(*command, "--price", "1ether", "--json")
    refuses(priced, 1, "AlreadyExistsError", "price")
    named = release.machine.types(*command, "--alias", "another", "--json")
    refuses(named, 1, "AlreadyExistsError", "another")
    assert "citrate alias set" in str(named.error["hint"])


def test_a_refused_transaction_leaves_no_pins(release: Release, tmp_path: Path) -> None:
    pauper = Machine(tmp_path / "pauper", CITRATE_RPC_URL=release.rpc_url, CITRATE_KEY_PASSWORD="pw")
    pauper.gets("key", "new", "--name", "pauper")
    command = ("register-model", str(SAMPLE), "--name", "x", "--variants", "safetensors", "--checks", "tensors")
    assert pauper.types(*command).code == 1
    assert not [item for item in pauper.gets("store", "ls")["objects"] if item["pinned"]]


def test_a_wrong_checksum_of_an_address_is_refused(release: Release) -> None:
    wrong = "0x70997970C51812dc3A010C7d01b50e0d17dC79C8"
    refuses(release.machine.types("transfer", "offer", "me/tiny-llama", wrong, "--json"), 2, "ConfigError", "checksum")


def test_no_funds_is_told_before_anything_is_sent(release: Release, tmp_path: Path) -> None:
    pauper = Machine(tmp_path / "pauper", CITRATE_RPC_URL=release.rpc_url, CITRATE_KEY_PASSWORD="pw")
    pauper.gets("key", "new", "--name", "pauper")
    command = ("register-model", str(SAMPLE), "--name", "x", "--variants", "safetensors", "--checks", "tensors")
    result = pauper.types(*command, "--json")
    refuses(result, 1, "CitrateError", "0 ETH")
    assert "citrate devnet fund 0x" in str(result.error["hint"])


def test_no_key_on_a_chain_that_is_not_the_devnet_exits_4(release: Release, tmp_path: Path) -> None:
    node = start_anvil("--chain-id", "4242")
    try:
        other = Machine(tmp_path / "other", CITRATE_RPC_URL=node.url)
        result = other.types("register-model", str(SAMPLE), "--name", "x", "--json")
        refuses(result, 5, "ChainError", "no ModelRegistry")
        assert other.files() == set()
    finally:
        stop_anvil(node)


def test_another_chain_id_is_refused(release: Release, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "wrong", CITRATE_RPC_URL=release.rpc_url, CITRATE_CHAIN_ID="1")
    refuses(machine.types("resolve", release.ref, "--json"), 5, "ChainError", "31337")
    told = machine.types("doctor", "--json")
    assert told.code == 1
    assert [check["ok"] for check in told.json["checks"] if check["name"] == "chain"] == [False]
    assert machine.files() == set()


def test_a_contract_that_is_not_ours_is_refused(release: Release, tmp_path: Path) -> None:
    proxy = "0x4e59b44847b379578588920cA78FbF26c0B4956C"  # a contract, but not the registry
    machine = Machine(tmp_path / "wrong", CITRATE_RPC_URL=release.rpc_url, CITRATE_MODEL_REGISTRY=proxy)
    refuses(machine.types("resolve", release.ref, "--json"), 5, "ChainError", proxy)


def test_a_chain_that_is_down_exits_5(fresh: Machine) -> None:
    refuses(fresh.types("list", "--json"), 5, "UnavailableError", "down")
    result = fresh.types("list", "--json", CITRATE_RPC_URL="http://127.0.0.1:9")
    refuses(result, 5, "ChainError")
    assert fresh.files() == set()
