"""Signatures: what wallets make is what we accept, bound to one chain and one registry, and nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from eth_keys.datatypes import PrivateKey

from citrate.core.errors import CitrateError, IntegrityError, NotPermittedError
from citrate.registry import signatures
from citrate.registry.chain import Chain
from citrate.registry.ethereum import Account, encode_typed_data
from citrate.registry.ids import model_id
from citrate.registry.rpc import quantity
from citrate.registry.signatures import Domain, manifest_digest, recover, require_valid, sign, sign_release
from citrate.registry.signer import Signer
from tests.fixtures_anvil import release_of, sha256_of, signer_of

REGISTRY = "0x" + "52" * 20
DIGEST = sha256_of("a manifest")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# Contract wallets in a few bytes of code: one that confirms every signature, one that confirms none, one that reverts.
CONFIRMS = "0x631626ba7e60e01b5f5260205ff3"
REFUSES = "0x63ffffffff60e01b5f5260205ff3"
REVERTS = "0x5f5ffd"


def test_our_digest_is_the_one_that_wallets_sign(publisher: Signer) -> None:
    typed = Domain(31337, REGISTRY).typed(
        "Manifest", [{"name": "sha256", "type": "bytes32"}], {"sha256": bytes.fromhex(DIGEST)}
    )
    signed = Account.from_key((1).to_bytes(32, "big")).sign_message(encode_typed_data(full_message=typed))
    assert bytes(signed.message_hash) == manifest_digest(Domain(31337, REGISTRY), DIGEST)
    assert recover(bytes(signed.message_hash), bytes(signed.signature)) == publisher.address


@pytest.mark.servers
def test_the_owners_signature_is_valid_here_and_nowhere_else(chain: Chain, publisher: Signer) -> None:
    value = sign(publisher, DIGEST, chain.registry_address)
    assert require_valid(chain, publisher.address, DIGEST, "eoa", value) == ""
    assert require_valid(chain, publisher.address.lower(), DIGEST, "eoa", value) == ""
    elsewhere = {
        "other bytes": (DIGEST, sign(publisher, sha256_of("another"), chain.registry_address)),
        "another registry": (DIGEST, sign(publisher, DIGEST, REGISTRY)),
        "another chain": (DIGEST, sign(signer_of("publisher", 1), DIGEST, chain.registry_address)),
        "another key": (DIGEST, sign(signer_of("stranger"), DIGEST, chain.registry_address)),
    }
    for what, (sha256, other) in elsewhere.items():
        with pytest.raises(IntegrityError) as error:
            require_valid(chain, publisher.address, sha256, "eoa", other)
        assert error.value.expected == publisher.address and error.value.actual, what
        assert error.value.exit_code == 3


def _malleable(value: str) -> str:
    """The other signature that the same key could have made of the same message: s in the upper half."""
    raw = bytes.fromhex(value[2:])
    s = ORDER - int.from_bytes(raw[32:64], "big")
    return "0x" + (raw[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - raw[64]])).hex()


@pytest.mark.servers
def test_a_signature_has_one_form_only(chain: Chain, publisher: Signer) -> None:
    value = sign(publisher, DIGEST, chain.registry_address)
    assert len(value) == 2 + 130
    for other in (
        _malleable(value), value[:-2], value + "00", value[:-2] + "00", value[:-2] + "1d", "0x", "0x" + "00" * 65,
        "0x" + "ff" * 65, "0x" + "ff" * 64 + "1b", "zz",
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            require_valid(chain, publisher.address, DIGEST, "eoa", other)


def test_recovering_survives_any_65_bytes() -> None:
    key = PrivateKey((7).to_bytes(32, "big"))
    good = key.sign_msg_hash(b"\x11" * 32).to_bytes()
    for at in range(65):
        recover(b"\x11" * 32, good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])


@pytest.mark.servers
def test_a_contract_wallet_confirms_or_leaves_a_warning(chain: Chain) -> None:
    wallet = "0x" + "1271" * 10
    for code, warned in ((CONFIRMS, False), (REFUSES, True), (REVERTS, True)):
        chain.rpc.call("anvil_setCode", wallet, code)
        warning = require_valid(chain, wallet, DIGEST, "erc1271", "0x1234")
        assert bool(warning) == warned
        assert not warned or "does not confirm" in warning


@pytest.mark.servers
def test_a_key_cannot_pass_for_a_wallet(chain: Chain, publisher: Signer) -> None:
    for kind in ("erc1271", "", "none"):
        with pytest.raises(IntegrityError, match="not that of"):
            require_valid(chain, publisher.address, DIGEST, kind, "0x1234")


@pytest.mark.servers
def test_a_stranger_publishes_what_the_owner_signed(chain: Chain, publisher: Signer, stranger: Signer) -> None:
    release, deadline = release_of(publisher.address), int(time.time()) + 3600
    nonce = chain.nonce_of(publisher.address, "tiny")
    signed = sign_release(
        publisher, release, "prod", nonce=nonce, deadline=deadline, registry_address=chain.registry_address
    )
    with pytest.raises(NotPermittedError, match="no signature of"):
        chain.publish_by_sig(stranger, replace(release, version="9"), deadline, signed, "prod")
    with pytest.raises(NotPermittedError, match="no signature of"):
        chain.publish_by_sig(stranger, release, deadline, signed, "")
    chain.publish_by_sig(stranger, release, deadline, signed, "prod")
    record = chain.resolve(publisher.address, "tiny", "prod")
    assert record.signers == (publisher.address,) and record.publisher == publisher.address
    assert chain.nonce_of(publisher.address, "tiny") == 1


@pytest.mark.servers
def test_of_two_relayers_in_one_block_the_second_is_told_why_it_failed(
    chain: Chain, publisher: Signer, stranger: Signer
) -> None:
    release, deadline = release_of(publisher.address), int(time.time()) + 3600
    signed = sign_release(publisher, release, "", nonce=0, deadline=deadline, registry_address=chain.registry_address)
    results: list[object] = []

    def relay(relayer: Signer) -> None:
        try:
            results.append(chain.publish_by_sig(relayer, release, deadline, signed))
        except CitrateError as error:
            results.append(error)

    chain.rpc.call("evm_setAutomine", False)  # both find that it would go well before either is in a block
    try:
        threads = [threading.Thread(target=relay, args=(relayer,)) for relayer in (stranger, signer_of("validator"))]
        for thread in threads:
            thread.start()
        give_up = time.monotonic() + 60
        while quantity(chain.rpc.call("eth_getBlockTransactionCountByNumber", "pending")) < 2:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        chain.rpc.call("evm_mine")
        for thread in threads:
            thread.join(60)
    finally:
        chain.rpc.call("evm_setAutomine", True)
    assert sorted(type(result).__name__ for result in results) == ["NotPermittedError", "Receipt"]
    assert len(chain.versions(model_id(publisher.address, "tiny"))) == 1


@pytest.mark.servers
def test_a_signed_request_expires(chain: Chain, publisher: Signer, stranger: Signer) -> None:
    release = release_of(publisher.address)
    signed = sign_release(publisher, release, "", nonce=0, deadline=1, registry_address=chain.registry_address)
    with pytest.raises(NotPermittedError, match="valid until 1970-01-01"):
        chain.publish_by_sig(stranger, release, 1, signed)


def test_the_half_order_is_half_of_the_order() -> None:
    assert ORDER // 2 == signatures._HALF_ORDER
