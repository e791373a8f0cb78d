"""Adapters and merges on a real chain: what is written reads back, what the contract refuses is refused here first."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from citrate.core.adapters import Acceptance, Parent, Training
from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, NotFoundError, NotPermittedError
from citrate.core.records import VersionRecord
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.chain import Chain
from citrate.registry.lora_payload import StoredLora, StoredMerge, decode_record, encode_lora
from citrate.registry.loras import Loras, lora_id
from citrate.registry.rpc import unhex
from citrate.registry.signatures import sign_lora
from citrate.registry.signer import Signer
from tests.fixtures_anvil import release_of, sha256_of
from tests.registry.chain.adapters import lora_of

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
TOLD = Training(sha256_of("dataset"), sha256_of("recipe"), sha256_of("proof"))


@pytest.fixture
def base(chain: Chain, publisher: Signer) -> VersionRecord:
    chain.publish(publisher, release_of(publisher.address))
    return chain.resolve(publisher.address, "tiny", "1.0.0")


@pytest.fixture
def loras(chain: Chain) -> Loras:
    return Loras(chain)


@pytest.mark.parametrize(
    "training", [Training(), TOLD, replace(TOLD, proof_root="")], ids=["silent", "told", "no-proof"]
)
def test_a_lora_reads_back_exactly(
    chain: Chain, loras: Loras, base: VersionRecord, stranger: Signer, training: Training
) -> None:
    lora = replace(
        lora_of(base, training=training), target_modules=("q_proj", "down_proj", "A.strange-module", "other")
    )
    receipt = loras.register(stranger, lora)
    record = loras.resolve(stranger.address, "tiny-lora", "1.0.0")
    assert record.lora == lora
    assert record.lora_id == lora_id(stranger.address, "tiny-lora", "1.0.0")
    assert (record.creator, record.ref) == (stranger.address, f"{stranger.address}/tiny-lora@1.0.0")
    assert record.block_number >= receipt.block_number and record.quarantined is False
    stored = decode_record(unhex(chain.rpc.call("eth_getCode", record.record, "latest")))
    assert isinstance(stored, StoredLora) and stored.lora == replace(lora, base_sha256="")
    assert stored.created_at == record.created_at and stored.creator == stranger.address.lower()


@pytest.mark.parametrize("others", ["a b", " ", "<img src=x>,../../etc", "~" * 255, "q_proj,q_proj"])
def test_whatever_names_the_contract_takes_for_modules_are_read(
    chain: Chain, loras: Loras, base: VersionRecord, stranger: Signer, others: str
) -> None:
    """One adapter with strange names must not stop those who read all adapters."""
    packed = encode_lora(replace(lora_of(base), target_modules=("q_proj", "odd")))
    hostile = packed.replace(b"\x03odd", bytes([len(others)]) + others.encode())
    chain.send(stranger, LORA_REGISTRY, encode_call("registerLoRA(address,bytes)", stranger.address, hostile))
    record = loras.resolve(stranger.address, "tiny-lora")
    assert record.lora.target_modules == ("q_proj", *others.split(","))
    stored = decode_record(unhex(chain.rpc.call("eth_getCode", record.record, "latest")))
    assert isinstance(stored, StoredLora) and stored.lora == replace(record.lora, base_sha256="")


def test_without_a_version_the_newest_of_that_name_is_meant(
    loras: Loras, base: VersionRecord, stranger: Signer
) -> None:
    for name, version in (("a", "1"), ("b", "9"), ("a", "2"), ("c", "5")):
        loras.register(stranger, lora_of(base, name, version))
    assert loras.resolve(stranger.address, "a").lora.version == "2"
    assert [item.name for item in loras.adapters()] == ["c", "a", "b", "a"]
    assert [item.name for item in loras.adapters(base.version_id)] == ["c", "a", "b", "a"]
    assert loras.adapters("0x" + "11" * 32) == ()
    for wanted in (("a", "3"), ("d", "")):
        with pytest.raises(NotFoundError) as error:
            loras.resolve(stranger.address, *wanted)
        assert "a" in error.value.hint


def test_a_list_since_a_cursor_is_whole(loras: Loras, base: VersionRecord, stranger: Signer) -> None:
    first = loras.records_since()
    assert first.entries == ()
    loras.register(stranger, lora_of(base, "a"))
    second = loras.records_since(first.cursor)
    loras.register(stranger, lora_of(base, "b"))
    third = loras.records_since(second.cursor)
    assert [[item.name for item in new.entries] for new in (second, third)] == [["a"], ["b"]]
    assert third.cursor.count == 2 and not third.reorganised


def test_the_same_name_twice_is_refused(loras: Loras, base: VersionRecord, stranger: Signer) -> None:
    loras.register(stranger, lora_of(base))
    with pytest.raises(AlreadyExistsError, match="never replaced"):
        loras.register(stranger, lora_of(base))


def test_what_a_model_says_already_is_not_sent_again(
    chain: Chain, loras: Loras, base: VersionRecord, publisher: Signer, stranger: Signer
) -> None:
    at = chain.pin().number
    assert loras.set_acceptance(publisher, base.model_id, Acceptance.OPEN) is None
    assert chain.pin().number == at
    assert loras.set_acceptance(publisher, base.model_id, Acceptance.ALLOW_LIST) is not None
    assert loras.allow_creator(publisher, base.model_id, stranger.address, allowed=False) is None
    assert loras.allow_creator(publisher, base.model_id, stranger.address) is not None
    assert loras.allow_creator(publisher, base.model_id, stranger.address) is None
    with pytest.raises(ConfigError, match="zero address"):
        loras.allow_creator(publisher, base.model_id, "0x" + "00" * 20)
    assert chain.pin().number == at + 2


def test_a_model_takes_the_adapters_of_whom_its_owner_says(
    chain: Chain, loras: Loras, base: VersionRecord, publisher: Signer, stranger: Signer
) -> None:
    assert loras.acceptance_of(base.model_id) is Acceptance.OPEN
    assert loras.room_for(stranger.address, base.model_id)[0] is True
    loras.set_acceptance(publisher, base.model_id, Acceptance.ALLOW_LIST)
    with pytest.raises(NotPermittedError, match="takes no LoRAs of"):
        loras.register(stranger, lora_of(base))
    loras.allow_creator(publisher, base.model_id, stranger.address)
    loras.register(stranger, lora_of(base))
    loras.allow_creator(publisher, base.model_id, stranger.address, allowed=False)
    assert loras.room_for(stranger.address, base.model_id)[0] is False
    loras.set_acceptance(publisher, base.model_id, Acceptance.CLOSED)
    assert loras.acceptance_of(base.model_id) is Acceptance.CLOSED
    with pytest.raises(NotPermittedError):
        loras.register(stranger, lora_of(base, "other"))
    with pytest.raises(NotPermittedError, match="does not own"):
        loras.set_acceptance(stranger, base.model_id, Acceptance.OPEN)
    with pytest.raises(ConfigError):
        loras.allow_creator(publisher, base.model_id, "nobody")


def test_ten_a_day_and_no_more(loras: Loras, base: VersionRecord, stranger: Signer) -> None:
    for number in range(10):
        loras.register(stranger, lora_of(base, f"lora-{number}"))
    counts = loras.counts_of(stranger.address)
    assert (counts.today, counts.ever) == (10, 10)
    with pytest.raises(CitrateError, match="ten LoRAs accepted today"):
        loras.register(stranger, lora_of(base, "lora-10"))


def test_what_the_base_is_not_is_refused(
    chain: Chain, loras: Loras, base: VersionRecord, publisher: Signer, stranger: Signer
) -> None:
    with pytest.raises(ConfigError, match="the content of the base"):
        loras.register(stranger, replace(lora_of(base), base_sha256=sha256_of("another")))
    with pytest.raises(NotFoundError):
        loras.register(stranger, replace(lora_of(base), base="0x" + "12" * 32))
    chain.deprecate(publisher, publisher.address, "tiny", "1.0.0")
    with pytest.raises(NotPermittedError, match="deprecated"):
        loras.register(stranger, lora_of(base))


def test_a_signed_lora_is_the_creators_whoever_sends_it(
    chain: Chain, loras: Loras, base: VersionRecord, publisher: Signer, stranger: Signer
) -> None:
    deadline = int(time.time()) + 10**6
    address = chain.addresses[LORA_REGISTRY]
    lora = lora_of(base)
    signed = sign_lora(stranger, lora, nonce=0, deadline=deadline, registry_address=address)
    with pytest.raises(NotPermittedError, match="no signature of"):
        loras.register_by_sig(publisher, publisher.address, lora, deadline, signed)
    with pytest.raises(NotPermittedError, match="no signature of"):
        loras.register_by_sig(publisher, stranger.address, replace(lora, steps=201), deadline, signed)
    loras.register_by_sig(publisher, stranger.address, lora, deadline, signed)
    assert loras.resolve(stranger.address, lora.name).lora == lora
    assert loras.counts_of(stranger.address).ever == 1
    with pytest.raises(CitrateError):
        loras.register_by_sig(publisher, stranger.address, lora, deadline, signed)
    late = sign_lora(stranger, lora_of(base, "late"), nonce=1, deadline=1, registry_address=address)
    with pytest.raises(NotPermittedError, match="valid until 1970"):
        loras.register_by_sig(publisher, stranger.address, lora_of(base, "late"), 1, late)


def test_a_merge_reads_back_and_is_recorded_once(
    chain: Chain, loras: Loras, base: VersionRecord, publisher: Signer, stranger: Signer
) -> None:
    ids = []
    for name in ("a", "b", "c"):
        loras.register(stranger, lora_of(base, name))
        ids.append(lora_id(stranger.address, name, "1.0.0"))
    chain.publish(publisher, release_of(publisher.address, version="1.1.0"))
    result = chain.resolve(publisher.address, "tiny", "1.1.0").version_id
    parents = [Parent(ids[0], 5000), Parent(ids[1], 2500), Parent(ids[2], 2500)]
    with pytest.raises(NotPermittedError, match="does not own"):
        loras.merge(stranger, result, parents)
    loras.merge(publisher, result, parents)
    merge = loras.merge_of(result)
    assert (merge.creator, merge.base, merge.result) == (publisher.address, base.version_id, result)
    assert set(merge.parents) == set(parents)
    stored = decode_record(unhex(chain.rpc.call("eth_getCode", merge.record, "latest")))
    assert isinstance(stored, StoredMerge) and stored.parents == merge.parents
    with pytest.raises(AlreadyExistsError, match="recorded already"):
        loras.merge(publisher, result, parents)
    with pytest.raises(NotFoundError, match="no merge is recorded"):
        loras.merge_of(base.version_id)
    with pytest.raises(ConfigError, match="cannot have resulted"):
        loras.merge(publisher, base.version_id, parents)


@pytest.mark.parametrize("weights", [[], [10_000, 0], [9_999], [5_000, 5_001], [1112] * 8 + [1104], [5_000, -1, 5_001]])
def test_weights_that_do_not_add_up_are_refused_before_anything_is_sent(loras: Loras, weights: list[int]) -> None:
    parents = [Parent("0x" + f"{number:064x}", weight) for number, weight in enumerate(weights, 1)]
    with pytest.raises(ConfigError):
        loras.merge(None, "0x" + "11" * 32, parents)  # type: ignore[arg-type]  # nobody signs


def test_a_parent_twice_is_refused(loras: Loras) -> None:
    parents = list(itertools.repeat(Parent("0x" + "11" * 32, 5_000), 2))
    with pytest.raises(ConfigError, match="there twice"):
        loras.merge(None, "0x" + "11" * 32, parents)  # type: ignore[arg-type]  # nobody signs


def test_a_run_confirms_the_adapter_it_ended_in(
    chain: Chain, loras: Loras, base: VersionRecord, stranger: Signer
) -> None:
    from citrate.registry.ledger import Ledger

    ledger = Ledger(chain)
    lora = lora_of(base, training=Training(run_id=1))
    told = {"recipe": sha256_of("recipe"), "dataset": sha256_of("dataset"), "base_sha256": lora.base_sha256}
    assert ledger.announce(stranger, **told)[0] == 1
    loras.register(stranger, lora)
    assert loras.resolve(stranger.address, lora.name).lora.training == Training(run_id=1)
    ledger.commit(stranger, 1, proof_root=sha256_of("proof"), adapter_sha256=lora.sha256)
    training = loras.resolve(stranger.address, lora.name).lora.training
    assert training == Training(told["dataset"], told["recipe"], sha256_of("proof"), 1, confirmed=True)
