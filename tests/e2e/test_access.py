"""Buying, selling and what it opens, through the command line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.e2e.machine import ROOT, refuses
from tests.e2e.market import PRICE_WEI, Market

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("market")]


def test_who_has_not_paid_is_refused_and_who_pays_runs_it(market: Market) -> None:
    buy = f"citrate access buy {market.priced}"
    nobody = market.visitor()
    refused = nobody.types("pull", market.priced, "--json")
    refuses(refused, 1, "NotPermittedError", "costs 0.01 ether", "no key is active")
    assert refused.error["hint"] == buy
    assert not list((nobody.home / "store" / "objects").glob("*")), "nothing was fetched"

    buyer = market.visitor("buyer")
    refuses(buyer.types("run", market.priced, "hello", "--json"), 1, "NotPermittedError", "has no access")
    bought = buyer.types("access", "buy", market.priced)
    assert bought.code == 0, bought.err
    assert "costs 0.01 ether" in bought.err
    assert bought.out.splitlines()[-1] == market.priced
    told = buyer.gets("run", f"{market.priced}#gguf:Q8_0", "What is the capital of France?")
    assert "Paris" in str(told["text"])


def test_nothing_is_paid_twice(market: Market) -> None:
    buyer = market.visitor("buyer")
    first = buyer.gets("access", "buy", market.priced, "--max", "0.01ether")
    assert (first["status"], first["price_wei"], first["account"]) == ("bought", PRICE_WEI, market.address_of(buyer))
    at = market.block()
    again = buyer.types("access", "buy", market.priced, "--json")
    assert again.code == 0
    assert (again.json["status"], again.json["tx_hash"], again.json["price_wei"]) == ("unchanged", None, 0)
    assert "costs" not in again.err, "nobody is told a price who does not pay it"
    assert market.block() == at
    shown = buyer.gets("access", "show", market.priced)
    assert (shown["has_access"], shown["ground"], shown["seller"]) == (True, "version", market.address)
    assert shown["version"]["price_wei"] == PRICE_WEI


def test_a_terminal_is_asked_before_anything_is_paid(market: Market) -> None:
    buyer, at = market.visitor("buyer"), market.block()
    refused = buyer.answers("access", "buy", market.priced, typed="n\n")
    assert refused.code == 1 and "costs 0.01 ether" in refused.out and "not bought" in refused.out
    assert market.block() == at
    assert buyer.answers("access", "buy", market.priced, typed="y\n").code == 0
    assert "Buy it?" not in buyer.answers("access", "buy", market.priced, typed="").out, "it is bought"


def test_the_seller_takes_what_was_paid(market: Market) -> None:
    market.visitor("buyer").gets("access", "buy", market.priced)
    seller = market.machine
    assert seller.gets("access", "show", "me/priced")["credit_wei"] == PRICE_WEI
    assert seller.gets("stake", "show")["sales_wei"] == PRICE_WEI, "every credit in one place"
    vault = "0x" + "ab" * 20
    paid = seller.gets("access", "withdraw", "--to", vault)
    assert (paid["amount_wei"], paid["to"]) == (PRICE_WEI, vault)
    assert int(str(market.calls("eth_getBalance", vault, "latest")), 16) == PRICE_WEI
    refuses(seller.types("access", "withdraw", "--json"), 1, "CitrateError", "nothing to withdraw")


def test_the_owner_sells_the_whole_model_gives_it_away_and_grants_it(market: Market) -> None:
    seller, buyer = market.machine, market.visitor("buyer")
    me = market.address_of(buyer)
    assert seller.gets("access", "grant", "me/priced", me)["status"] == "granted"
    assert buyer.gets("access", "show", market.priced)["ground"] == "version"
    seller.gets("access", "price", "me/priced", "1gwei", "--model")
    friend = "0x" + "cd" * 20
    gift = buyer.gets("access", "gift", market.priced, friend, "--model")
    assert (gift["ref"], gift["price_wei"]) == (f"{market.address}/priced", 10**9)
    assert buyer.gets("access", "show", market.priced, "--account", friend)["ground"] == "model"
    seller.gets("access", "price", "me/priced", "0")
    assert market.visitor().gets("pull", f"{market.priced}#gguf:Q8_0")["source"] == market.gateway
    assert market.visitor().gets("resolve", market.priced)["price_wei"] == 0


def test_a_purchase_that_is_stopped_names_its_transaction_and_is_taken_up(market: Market) -> None:
    buyer = market.visitor("buyer")
    command = [sys.executable, "-m", "citrate.cli.main", "access", "buy", market.priced, "--max", "1ether", "--json"]
    market.calls("evm_setAutomine", False)
    try:
        first = subprocess.Popen(command, env=buyer.env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        waiting = _waiting(market)
        first.send_signal(signal.SIGINT)
        out, _ = first.communicate(timeout=60)
        error = json.loads(out)["error"]
        assert (first.returncode, error["type"], error["details"]) == (130, "Interrupted", {"tx_hash": waiting})
        assert "run the command again: it takes it up" in error["hint"]
        again = subprocess.Popen(
            command, env=buyer.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert again.stderr is not None
        assert any(f"{waiting} is taken up" in line for line in again.stderr)
        market.calls("evm_mine")
        out, _ = again.communicate(timeout=60)
    finally:
        market.calls("evm_setAutomine", True)
    bought = json.loads(out)
    assert (bought["status"], bought["tx_hash"], bought["taken_up"]) == ("bought", waiting, True)
    assert market.machine.gets("access", "show", "me/priced")["credit_wei"] == PRICE_WEI


def _waiting(market: Market) -> str:
    """The hash of the only transaction in the node's pool, once it is there."""
    for _ in range(5000):
        content: Any = market.calls("txpool_content")
        for by_nonce in content["pending"].values():
            return str(next(iter(by_nonce.values()))["hash"])
        time.sleep(0.02)
    raise AssertionError("nothing was sent")


def test_what_stands_already_is_unchanged_and_sends_nothing(market: Market) -> None:
    seller, friend = market.machine, "0x" + "ee" * 20
    first = seller.gets("access", "price", "me/priced", "2gwei")
    assert (first["status"], first["taken_up"]) == ("changed", False)
    seller.gets("alias", "set", "me/priced@1.0.0", "prod")
    seller.gets("lora", "accept", "me/priced", "allow-list")
    seller.gets("lora", "allow", "me/priced", friend)
    at = market.block()
    for command in (
        ("access", "price", "me/priced", "2gwei"),
        ("alias", "set", "me/priced@1.0.0", "prod"),
        ("lora", "accept", "me/priced", "allow-list"),
        ("lora", "allow", "me/priced", friend),
    ):
        told = seller.gets(*command)
        assert (told["status"], told["tx_hash"]) == ("unchanged", None), command
    nobody = seller.types("lora", "allow", "me/priced", "0x" + "00" * 20, "--json")
    refuses(nobody, 2, "ConfigError", "zero address")
    assert market.block() == at


def test_bad_input_sends_nothing(market: Market) -> None:
    seller, at = market.machine, market.block()
    refuses(seller.types("access", "price", "me/priced", "5", "--json"), 2, "ConfigError", "no unit")
    refuses(seller.types("access", "price", "me/priced", "0.5wei", "--json"), 2, "ConfigError", "whole")
    refuses(seller.types("access", "price", "me/priced", "\u0661ether", "--json"), 2, "ConfigError", "not an amount")
    refuses(seller.types("--json"), 2, "UsageError", "no command")
    refuses(seller.types("access", "buy", "me/nothing", "--json"), 4, "NotFoundError", "no model")
    refuses(seller.types("access", "grant", "me/priced", "0x12", "--json"), 2, "ConfigError", "neither an address")
    buyer = market.visitor("buyer")
    whole = buyer.types("access", "buy", market.priced, "--model", "--json")
    refuses(whole, 1, "CitrateError", "not for sale as a whole")
    assert market.block() == at


def test_a_maximum_below_the_price_and_an_empty_purse(market: Market) -> None:
    buyer, pauper = market.visitor("buyer"), market.visitor("pauper")
    dear = buyer.types("access", "buy", market.priced, "--max", "1gwei", "--json")
    refuses(dear, 1, "NotPermittedError", "costs 0.01 ether, more than 0.000000001 ether")
    refuses(pauper.types("access", "buy", market.priced, "--json"), 1, "CitrateError", "0 ETH")
    refuses(buyer.types("access", "price", market.priced, "0", "--json"), 1, "NotPermittedError", "does not own")


def test_a_chain_that_lacks_the_contract_or_does_not_answer(market: Market) -> None:
    buyer = market.visitor("buyer")
    market.calls("anvil_setCode", market.contracts["ModelAccess"], "0x")
    lacks = buyer.types("access", "buy", market.priced, "--json")
    refuses(lacks, 5, "ChainError", "no ModelAccess")
    assert lacks.error["hint"] == "citrate deploy-contracts"
    assert buyer.gets("resolve", market.priced)["price_wei"] == PRICE_WEI, "what it was published with is told"
    buyer.env["CITRATE_RPC_URL"] = "http://127.0.0.1:9"
    refuses(buyer.types("access", "show", market.priced, "--json"), 5, "ChainError", "127.0.0.1:9")


def test_a_backend_asks_as_the_docs_say(market: Market) -> None:
    """The block of docs/dapp.md that serves only who has paid, word for word."""
    text = (ROOT / "docs" / "dapp.md").read_text()
    (block,) = re.findall(r"```python\n(# who may be served.*?)```", text, re.DOTALL)
    buyer = market.visitor("buyer")

    values: dict[str, object] = {
        "rpc_url": market.rpc_url,
        "contracts": market.contracts,
        "publisher": market.address,
        "customer": market.address_of(buyer),
    }
    exec(block, values)

    def served(ref: str) -> bool:
        may_be_served = values["may_be_served"]
        assert callable(may_be_served)
        return bool(may_be_served(ref.partition("/")[2].partition("@")[0]))

    assert not served(market.priced)
    buyer.gets("access", "buy", market.priced)
    assert served(market.priced)
    assert served(market.suspect)
    reporter, juror = market.visitor("reporter"), market.visitor("juror")
    juror.gets("stake", "add", "6ether")
    evidence = str(ROOT / "README.md")
    reporter.gets("report", market.suspect, "--evidence", evidence, "--bond", "0.05ether")
    assert served(market.suspect), "a report alone stops nobody"
    juror.gets("vote", "1", "remove")
    assert not served(market.suspect)
