"""Packed LoRAs and parents: what is written reads back, hostile bytes are refused, the contract's limits hold here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.adapters import Lora, Parent, Training
from citrate.core.errors import CitrateError, ConfigError, FormatError
from citrate.registry import cid
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.chain import Chain
from citrate.registry.lora_payload import (
    MODULES,
    decode_lora,
    decode_record,
    encode_lora,
    encode_parents,
    join_modules,
    split_modules,
)
from citrate.registry.loras import lora_id
from citrate.registry.signer import Signer
from tests.fixtures_anvil import release_of, sha256_of
from tests.registry.chain.adapters import lora_of

BASE = "0x" + "5a" * 32
PLAIN = Lora(
    name="tiny-lora",
    version="1.0.0",
    licence="apache-2.0",
    base=BASE,
    base_sha256=sha256_of("base"),
    cid=cid.encode(cid.DAG_PB, bytes.fromhex(sha256_of("cid"))),
    sha256=sha256_of("adapter"),
    size_bytes=1,
    rank=1,
    alpha_thousandths=1,
    target_modules=("q_proj",),
    steps=0,
    training=Training(),
)
hashes = st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
modules = st.sets(
    st.sampled_from(MODULES) | st.text("abcXYZ019._-", min_size=1, max_size=20), min_size=1, max_size=8
).map(lambda names: join_modules(*split_modules(names)))
trainings = (
    st.just(Training())
    | st.builds(Training, hashes, hashes, hashes | st.just(""))
    | st.integers(1, 2**64 - 1).map(lambda run: Training(run_id=run))
)
loras = st.builds(
    Lora,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    version=st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,31}", fullmatch=True).filter(lambda text: text != "latest"),
    licence=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64),
    base=hashes.map("0x{}".format),
    base_sha256=hashes,
    cid=st.builds(
        lambda codec, digest: cid.encode(codec, bytes.fromhex(digest)), st.sampled_from([0x55, 0x70]), hashes
    ),
    sha256=hashes,
    size_bytes=st.integers(1, 500_000_000),
    rank=st.integers(1, 4096),
    alpha_thousandths=st.integers(1, 2**32 - 1),
    target_modules=modules,
    steps=st.integers(0, 2**32 - 1),
    training=trainings,
)


@given(loras)
def test_a_packed_lora_reads_back(lora: Lora) -> None:
    assert decode_lora(encode_lora(lora)) == lora


@given(loras, st.data())
def test_a_changed_byte_is_refused_or_read_as_it_stands(lora: Lora, data: st.DataObject) -> None:
    packed = bytearray(encode_lora(lora))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_lora(bytes(packed))
    except FormatError:
        return
    try:
        assert encode_lora(found) == bytes(packed)
    except ConfigError:
        return  # it can be read, and the contract would not have taken it
    except AssertionError:
        # only a spelling of modules that the contract does not take either: out of order, or one that has a bit
        assert split_modules(found.target_modules) and found.target_modules != lora.target_modules


@given(loras, st.integers(0, 600))
def test_a_payload_that_is_cut_off_or_goes_on_is_refused(lora: Lora, length: int) -> None:
    packed = encode_lora(lora)
    for wrong in (packed[: min(length, len(packed) - 1)], packed + b"\0"):
        with pytest.raises(FormatError):
            decode_lora(wrong)


@given(st.binary(max_size=400))
def test_hostile_bytes_are_a_format_error_and_no_crash(data: bytes) -> None:
    for read in (decode_lora, decode_record):
        try:
            read(data)
        except FormatError:
            continue


WRONG = [
    {"name": ""}, {"name": "A"}, {"name": "a" * 65}, {"name": "a/b"}, {"version": ""}, {"version": "1 0"},
    {"version": "a" * 33}, {"version": "latest"}, {"licence": ""}, {"licence": "a" * 65}, {"licence": "ä"},
    {"base_sha256": ""}, {"base_sha256": "00" * 32}, {"sha256": "00" * 32}, {"sha256": "AB" * 32},
    {"cid": cid.encode(cid.RAW, bytes(32))}, {"size_bytes": 0}, {"size_bytes": 500_000_001}, {"size_bytes": -1},
    {"rank": 0}, {"rank": 4097}, {"alpha_thousandths": 0}, {"alpha_thousandths": 2**32}, {"steps": -1},
    {"steps": 2**32}, {"target_modules": ()}, {"target_modules": ("",)}, {"target_modules": ("a,b",)},
    {"target_modules": ("a b",)}, {"target_modules": ("ä",)},
    {"target_modules": tuple(f"m{'x' * 60}{i}" for i in range(5))},
    {"training": Training(sha256_of("d"))}, {"training": Training(recipe=sha256_of("r"))},
    {"training": Training(proof_root=sha256_of("p"))}, {"training": Training(sha256_of("d"), sha256_of("r"), run_id=1)},
    {"training": Training(run_id=2**64)},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_what_the_contract_would_refuse_is_refused_here(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        encode_lora(replace(PLAIN, **wrong))  # type: ignore[arg-type]  # wrong on purpose
    assert error.value.hint and "\n" not in error.value.message


def test_the_weights_of_parents_are_packed_in_order() -> None:
    parents = [Parent("0x" + "22" * 32, 4_000), Parent("0x" + "11" * 32, 6_000)]
    packed = encode_parents(parents)
    assert packed == bytes.fromhex("11" * 32) + (6_000).to_bytes(2, "big") + bytes.fromhex("22" * 32) + (
        4_000
    ).to_bytes(2, "big")


def test_the_id_is_what_eth_abi_encodes() -> None:
    from eth_abi.abi import encode
    from eth_utils.crypto import keccak

    address = "0x" + "33" * 20
    expected = keccak(encode(["string", "address", "string", "string"], ["LoRA", address, "a-name", "1.0.0"]))
    assert lora_id(address, "a-name", "1.0.0") == "0x" + expected.hex()


# ------------------------------------------------------------------ against the contract


@pytest.mark.servers
@pytest.mark.xdist_group("anvil")
def test_the_contract_takes_every_packed_lora_and_reads_it_the_same(
    chain: Chain, publisher: Signer, stranger: Signer
) -> None:
    chain.publish(publisher, release_of(publisher.address))
    base = chain.resolve(publisher.address, "tiny", "1.0.0")
    where = {"from": stranger.address, "to": chain.addresses[LORA_REGISTRY]}

    @settings(max_examples=40, deadline=None)
    @given(loras)
    def taken(lora: Lora) -> None:
        lora = replace(lora, base=base.version_id, base_sha256=base.variants[0].sha256)
        call = encode_call("registerLoRA(address,bytes)", stranger.address, encode_lora(lora))
        answer = chain.rpc.call("eth_call", {**where, "data": "0x" + call.hex()}, "latest")
        assert answer == lora_id(stranger.address, lora.name, lora.version)

    taken()


@pytest.mark.servers
@pytest.mark.xdist_group("anvil")
def test_the_contract_refuses_what_is_refused_here(chain: Chain, publisher: Signer, stranger: Signer) -> None:
    """Where this side takes a changed payload as a LoRA, so does the contract, and nowhere else."""
    chain.publish(publisher, release_of(publisher.address))
    base = chain.resolve(publisher.address, "tiny", "1.0.0")
    packed = encode_lora(lora_of(base, training=Training(sha256_of("d"), sha256_of("r"), sha256_of("p"))))
    where = {"from": stranger.address, "to": chain.addresses[LORA_REGISTRY]}

    @settings(max_examples=150, deadline=None)
    @given(st.integers(64, len(packed) - 1), st.integers(1, 255))
    def same(place: int, change: int) -> None:
        changed = bytearray(packed)
        changed[place] ^= change
        call = encode_call("registerLoRA(address,bytes)", stranger.address, bytes(changed))
        outcome = chain.rpc.batch([("eth_call", [{**where, "data": "0x" + call.hex()}, "latest"])])[0]
        try:
            here = encode_lora(decode_lora(bytes(changed))) == bytes(changed)
        except CitrateError:
            here = False
        assert isinstance(outcome, str) == here, (place, change, outcome)

    same()
