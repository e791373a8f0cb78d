"""Prices, purchases and sellers' credit, by reference, on a real chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from citrate.core.canonical import Json
from citrate.core.errors import (
    ChainError,
    CitrateError,
    ConfigError,
    InterruptedSendingError,
    NotFoundError,
    NotPermittedError,
    StoreError,
)
from citrate.registry import permission
from citrate.registry.abi_codec import encode_call
from citrate.registry.access import Ground
from citrate.registry.artifacts import MODEL_ACCESS, POLICY
from citrate.registry.finality import Finality
from citrate.registry.rpc import Call, RpcError
from tests.fixtures_anvil import AnvilNode, release_of
from tests.registry.chain.actors import ETHER, Actor, actor, timelocked

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
PRICE = ETHER // 100


@pytest.fixture
def seller(anvil: AnvilNode, tmp_path: Path) -> Actor:
    """The publisher of ``tiny@1.0.0``, which costs 0.01 ether."""
    user = actor("publisher", anvil, tmp_path)
    signer = user.signer()
    user.chain.publish(signer, replace(release_of(signer.address), price_wei=PRICE))
    return user


@pytest.fixture
def buyer(anvil: AnvilNode, tmp_path: Path) -> Actor:
    return actor("buyer", anvil, tmp_path)


@pytest.fixture
def ref(seller: Actor) -> str:
    return f"{seller.address_of('me')}/tiny@1.0.0"


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def blocks(user: Actor) -> int:
    return user.chain.pin().number


def test_the_price_of_publication_stands_until_the_owner_asks_another(seller: Actor, buyer: Actor, ref: str) -> None:
    record = buyer.resolve(ref)
    assert (record.price_wei, record.asked_price_wei) == (PRICE, PRICE)
    label, _ = seller.access.set_price(ref, 3 * PRICE)
    assert label == ref
    assert buyer.resolve(ref).price_now_wei == 3 * PRICE
    assert buyer.resolve(ref).price_wei == PRICE, "the record itself never changes"
    seller.access.set_price(ref, 0)
    assert buyer.access.terms(ref, buyer.address_of("me")).ground is Ground.FREE


def test_buying_pays_the_seller_the_price_and_nothing_twice(seller: Actor, buyer: Actor, ref: str) -> None:
    me = buyer.address_of("me")
    before = buyer.access.terms(ref, me)
    assert (before.has_access, before.ground, before.granted_at) == (False, None, 0)
    bought = buyer.access.buy(ref, PRICE)
    assert bought.receipt is not None
    assert (bought.label, bought.account, bought.price_wei, bought.fee_wei) == (ref, me, PRICE, 0)
    after = buyer.access.terms(ref, me)
    assert after.ground is Ground.VERSION and after.granted_at > 0
    assert seller.access.credit_of(seller.address_of("me")) == PRICE
    at = blocks(buyer)
    again = buyer.access.buy(ref, PRICE)
    assert (again.receipt, again.price_wei) == (None, 0)
    assert blocks(buyer) == at, "nothing was sent"


def test_a_purchase_that_another_came_before_is_unchanged(seller: Actor, buyer: Actor, ref: str) -> None:
    chain, me = buyer.chain, buyer.address_of("me")
    real, credit = chain.send, seller.access.credit_of(seller.address_of("me"))

    def late(*arguments: object, **more: object) -> object:
        seller.access.grant(ref, me)  # the owner's transaction comes first
        return real(*arguments, **more)  # type: ignore[arg-type]

    chain.send = late  # type: ignore[method-assign, assignment]
    bought = buyer.access.buy(ref, PRICE)
    assert (bought.receipt, bought.price_wei, bought.account) == (None, 0, me)
    assert seller.access.credit_of(seller.address_of("me")) == credit


def test_the_price_that_is_asked_already_is_not_sent_again(seller: Actor, ref: str) -> None:
    assert seller.access.set_price(ref, 2 * PRICE)[1] is not None
    at = blocks(seller)
    assert seller.access.set_price(ref, 2 * PRICE) == (ref, None)
    assert seller.access.set_price(ref, 0, model=True)[1] is None, "it was never for sale as a whole"
    assert blocks(seller) == at


def test_a_change_that_was_cut_off_is_told_before_it_is_called_unchanged(
    seller: Actor, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Finality, "wait", stopped)
        with pytest.raises(InterruptedSendingError) as stop:
            seller.access.set_price(ref, 3 * PRICE)
    assert seller.resolve(ref).price_now_wei == 3 * PRICE, "it is in a block, and nobody was told"
    receipt = seller.access.set_price(ref, 3 * PRICE)[1]
    assert receipt is not None and (receipt.tx_hash, receipt.taken_up) == (stop.value.tx_hash, True)
    assert seller.access.set_price(ref, 3 * PRICE)[1] is None


def test_a_change_that_was_cut_off_and_undone_since_is_sent_again(
    seller: Actor, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Finality, "wait", stopped)
        with pytest.raises(InterruptedSendingError):
            seller.access.set_price(ref, 3 * PRICE)
    seller.access.set_price(ref, 5 * PRICE)
    receipt = seller.access.set_price(ref, 3 * PRICE)[1]
    assert receipt is not None and not receipt.taken_up
    assert seller.resolve(ref).price_now_wei == 3 * PRICE


def test_withdrawing_pays_out_everything_once(seller: Actor, buyer: Actor, ref: str) -> None:
    buyer.access.buy(ref, PRICE)
    stranger = "0x" + "77" * 20
    paid = seller.access.withdraw(stranger)
    assert (paid.amount_wei, paid.to) == (PRICE, stranger)
    assert int(str(seller.chain.rpc.call("eth_getBalance", stranger, "latest")), 16) == PRICE
    with pytest.raises(CitrateError, match="nothing to withdraw"):
        seller.access.withdraw()


def test_the_fee_is_part_of_the_price(anvil: AnvilNode, seller: Actor, buyer: Actor, ref: str) -> None:
    treasury = "0x" + "99" * 20
    timelocked(anvil, seller, POLICY, encode_call("setFee(address,uint256)", treasury, 250))
    assert buyer.access.offer(ref).quote.fee_wei == PRICE // 40
    bought = buyer.access.buy(ref, PRICE)
    assert (bought.price_wei, bought.fee_wei) == (PRICE, PRICE // 40)
    assert seller.access.credit_of(seller.address_of("me")) == PRICE - PRICE // 40
    assert seller.access.credit_of(treasury) == PRICE // 40


def test_a_model_as_a_whole_covers_later_versions(seller: Actor, buyer: Actor, ref: str) -> None:
    seller.access.set_price(ref, 5 * PRICE, model=True)
    bought = buyer.access.buy(ref, 5 * PRICE, model=True)
    assert bought.label == ref.partition("@")[0]
    signer = seller.signer()
    seller.chain.publish(signer, replace(release_of(signer.address, version="2.0.0"), price_wei=PRICE))
    later = ref.replace("1.0.0", "2.0.0")
    assert buyer.access.terms(later, buyer.address_of("me")).ground is Ground.MODEL


def test_gifts_and_grants_are_for_others(seller: Actor, buyer: Actor, ref: str) -> None:
    one, other = "0x" + "11" * 20, "0x" + "22" * 20
    assert buyer.access.gift(ref, one, PRICE).price_wei == PRICE
    assert buyer.access.gift(ref, one, PRICE).receipt is None
    granted = seller.access.grant(ref, other)
    assert granted.receipt is not None and granted.price_wei == 0
    assert seller.access.grant(ref, other).receipt is None
    assert buyer.access.terms(ref, one).has_access and buyer.access.terms(ref, other).has_access
    assert not buyer.access.terms(ref, buyer.address_of("me")).has_access
    with pytest.raises(NotPermittedError, match="does not own"):
        buyer.access.grant(ref, "0x" + "33" * 20)


def test_a_grant_of_a_free_version_outlasts_its_being_free(seller: Actor, ref: str) -> None:
    friend = "0x" + "44" * 20
    seller.access.set_price(ref, 0)
    assert seller.access.grant(ref, friend).receipt is not None
    seller.access.set_price(ref, PRICE)
    assert seller.access.terms(ref, friend).ground is Ground.VERSION


def test_a_free_version_needs_no_purchase(seller: Actor, buyer: Actor, ref: str) -> None:
    seller.access.set_price(ref, 0)
    assert buyer.access.buy(ref, 0).receipt is None


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_price_above_the_maximum_is_refused_before_anything_is_sent(buyer: Actor, ref: str) -> None:
    at = blocks(buyer)
    with pytest.raises(NotPermittedError, match=r"costs 0\.01 ether") as caught:
        buyer.access.buy(ref, PRICE - 1)
    assert "--max 0.01ether" in caught.value.hint
    assert blocks(buyer) == at


def test_a_price_raised_between_quote_and_purchase_costs_nothing(seller: Actor, buyer: Actor, ref: str) -> None:
    chain = buyer.chain
    real = chain.send

    def late(*arguments: object, **more: object) -> object:
        seller.access.set_price(ref, 2 * PRICE)  # the owner's transaction comes first
        return real(*arguments, **more)  # type: ignore[arg-type]

    chain.send = late  # type: ignore[method-assign, assignment]
    with pytest.raises(NotPermittedError, match=r"above the agreed 0\.01 ether"):
        buyer.access.buy(ref, 10 * PRICE)
    assert not buyer.access.terms(ref, buyer.address_of("me")).has_access


def test_a_price_lowered_meanwhile_is_what_is_told_and_the_rest_is_credit(
    seller: Actor, buyer: Actor, ref: str
) -> None:
    chain = buyer.chain
    real = chain.send

    def late(*arguments: object, **more: object) -> object:
        seller.access.set_price(ref, PRICE // 4)
        return real(*arguments, **more)  # type: ignore[arg-type]

    chain.send = late  # type: ignore[method-assign, assignment]
    assert buyer.access.buy(ref, PRICE).price_wei == PRICE // 4
    assert buyer.access.credit_of(buyer.address_of("me")) == PRICE - PRICE // 4


def test_who_cannot_pay_is_told_so_and_nothing_is_sent(anvil: AnvilNode, ref: str, tmp_path: Path) -> None:
    with pytest.raises(CitrateError) as caught:
        actor("pauper", anvil, tmp_path).access.buy(ref, PRICE)
    assert type(caught.value) is CitrateError and "ETH" in caught.value.message


def test_a_model_that_is_not_sold_as_a_whole_cannot_be_bought(buyer: Actor, ref: str) -> None:
    with pytest.raises(CitrateError, match="not for sale as a whole"):
        buyer.access.buy(ref, PRICE, model=True)


def test_only_the_owner_sets_a_price(buyer: Actor, ref: str) -> None:
    with pytest.raises(NotPermittedError, match="does not own"):
        buyer.access.set_price(ref, 0)


def test_a_price_that_no_contract_can_keep_is_refused(seller: Actor, ref: str) -> None:
    with pytest.raises(ConfigError):
        seller.access.set_price(ref, 2**250)


def test_an_unknown_reference_is_not_found(buyer: Actor, ref: str) -> None:
    for unknown in (ref.replace("tiny", "tinny"), ref.replace("1.0.0", "9")):
        with pytest.raises(NotFoundError):
            buyer.access.buy(unknown, PRICE)
        with pytest.raises(NotFoundError):
            buyer.access.terms(unknown)


def test_a_chain_without_model_access_says_what_to_do(anvil: AnvilNode, buyer: Actor, ref: str) -> None:
    anvil.rpc.call("anvil_setCode", buyer.chain.require(MODEL_ACCESS), "0x")
    with pytest.raises(ChainError, match="no ModelAccess") as caught:
        buyer.access.buy(ref, PRICE)
    assert "deploy-contracts" in caught.value.hint
    record = buyer.resolve(ref)
    assert (record.asked_price_wei, record.price_now_wei) == (None, PRICE)
    assert buyer.access.credit_of(buyer.address_of("me")) is None


# ---------------------------------------------------------------------------------------------------- obeying


def test_pull_wants_access_to_a_priced_version(anvil: AnvilNode, buyer: Actor, ref: str, tmp_path: Path) -> None:
    with pytest.raises(NotPermittedError, match="has no access") as caught:
        buyer.pull(f"{ref}#safetensors")
    assert caught.value.hint == f"citrate access buy {ref}"
    with pytest.raises(NotPermittedError, match="no key is active") as caught:
        actor("", anvil, tmp_path).pull(f"{ref}#safetensors")
    assert caught.value.hint == f"citrate access buy {ref}"
    with pytest.raises(NotPermittedError):
        buyer.run(f"{ref}#safetensors", "a prompt")


@pytest.mark.parametrize("right", ["bought", "given", "owner", "free"])
def test_who_has_access_gets_as_far_as_the_bytes(seller: Actor, buyer: Actor, ref: str, right: str) -> None:
    user = seller if right == "owner" else buyer
    if right == "bought":
        buyer.access.buy(ref, PRICE)
    elif right == "given":
        seller.access.grant(ref, buyer.address_of("me"))
    elif right == "free":
        seller.access.set_price(ref, 0)
    with pytest.raises(StoreError):  # this model exists on chain only: nobody has its manifest
        user.pull(f"{ref}#safetensors")


def test_a_price_that_nothing_takes_is_a_note(anvil: AnvilNode, buyer: Actor, ref: str) -> None:
    anvil.rpc.call("anvil_setCode", buyer.chain.require(MODEL_ACCESS), "0x")
    with pytest.raises(StoreError):
        buyer.pull(f"{ref}#safetensors")
    assert any("nothing takes it" in line for line in buyer.said)


def test_a_free_version_costs_no_further_question(seller: Actor, buyer: Actor, ref: str) -> None:
    """Status and price come with the record: what allows a pull asks the node nothing more."""
    seller.access.set_price(ref, 0)
    asked = _counted(buyer)
    record = buyer.resolve(ref)
    assert len(asked) == 2, "the block, and one batch of all views"
    permission.require_usable(buyer, record, frozenset())
    permission.require_access(buyer, record)
    assert len(asked) == 2


def test_a_priced_version_costs_one_question_more(buyer: Actor, ref: str) -> None:
    asked = _counted(buyer)
    record = buyer.resolve(ref)
    with pytest.raises(NotPermittedError):
        permission.require_access(buyer, record)
    assert len(asked) == 4, "again a block and a view"


def _counted(user: Actor) -> list[str]:
    """The round trips of a user from now on."""
    node, asked = user.chain.rpc, []
    call, batch = node.call, node.batch

    def counted_call(method: str, *params: Json) -> Json:
        asked.append(method)
        return call(method, *params)

    def counted_batch(calls: Sequence[Call]) -> list[Json | RpcError]:
        asked.append("batch")
        return batch(calls)

    node.call, node.batch = counted_call, counted_batch  # type: ignore[method-assign]
    return asked
