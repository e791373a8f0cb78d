"""What a publisher sends is what the registry keeps, and every limit of the contract is met before anything is sent.

The packer here is written from the interface's text and checks nothing, so that the contract's own answer to a bad
payload can be compared with ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import CitrateError, ConfigError, FormatError
from citrate.core.records import Format, Variant, VariantRecord
from citrate.registry import cid
from citrate.registry.abi_codec import encode_call
from citrate.registry.chain import Chain
from citrate.registry.contract import refused
from citrate.registry.payload import (
    MAX_SIZE_BYTES,
    AdditionPayload,
    ReleasePayload,
    decode_price,
    decode_record,
    encode_price,
)
from citrate.registry.rpc import RpcError, unhex
from citrate.registry.signer import Signer
from tests.fixtures_anvil import release_of, sha256_of, signer_of, variant_record

PUBLISHER = signer_of("publisher").address
OWN_PROCESS = settings(max_examples=60)

digests = st.binary(min_size=32, max_size=32).filter(any)
labels = st.from_regex(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,14})?", fullmatch=True)
variants = st.builds(
    VariantRecord,
    st.builds(Variant, st.sampled_from(Format), labels, labels),
    st.builds(cid.encode, st.sampled_from([cid.RAW, cid.DAG_PB]), digests),
    digests.map(bytes.hex),
    st.integers(1, MAX_SIZE_BYTES),
)
prices = st.builds(lambda mantissa, exponent: mantissa * 10**exponent, st.integers(0, 2**24 - 1), st.integers(0, 60))
releases = st.builds(
    ReleasePayload,
    st.just(PUBLISHER),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,31}", fullmatch=True).filter(lambda version: version != "latest"),
    st.from_regex(r"[ -~]{1,64}", fullmatch=True),
    digests.map(bytes.hex),
    st.lists(variants, min_size=1, max_size=8, unique_by=lambda entry: entry.variant).map(tuple),
    prices,
)


def pack(release: ReleasePayload) -> bytes:
    """The packed release as the interface describes it, in the order given, with nothing checked."""

    def text(value: str) -> bytes:
        return bytes([len(value.encode("latin-1")) % 256]) + value.encode("latin-1")

    packed = text(release.name) + bytes.fromhex(release.manifest_sha256) + encode_price(release.price_wei)
    packed += text(release.version) + text(release.licence)
    for entry in release.variants:
        q, t = entry.variant.quantization.encode("latin-1"), entry.variant.target.encode("latin-1")
        codec, digest = cid.decode(entry.cid)
        packed += bytes([entry.variant.format.number, (len(q) << 4 | len(t)) % 256]) + q + t
        packed += bytes([codec]) + entry.size_bytes.to_bytes(6, "big") + digest + bytes.fromhex(entry.sha256)
    return packed


def refused_by_contract(chain: Chain, payload: bytes) -> bool:
    call = encode_call("publish(address,bytes,string)", PUBLISHER, payload, "")
    where: Any = {"from": PUBLISHER, "to": chain.registry_address, "data": "0x" + call.hex()}
    try:
        chain.rpc.call("eth_call", where, "latest")
    except RpcError as error:
        assert not isinstance(refused(error), RpcError), f"not a custom error: {error}"
        return True
    return False


@pytest.mark.servers
@OWN_PROCESS
@given(release=releases)
def test_any_valid_release_reads_back_exactly(chain: Chain, release: ReleasePayload) -> None:
    snapshot = chain.rpc.call("evm_snapshot")
    chain.publish(signer_of("publisher"), release)
    found = chain.resolve(PUBLISHER, release.name, release.version)
    assert (found.publisher, found.name, found.version) == (PUBLISHER, release.name, release.version)
    assert (found.licence, found.manifest_sha256, found.price_wei) == (
        release.licence,
        release.manifest_sha256,
        release.price_wei,
    )
    assert set(found.variants) == set(release.variants) and len(found.variants) == len(release.variants)
    code = unhex(chain.rpc.call("eth_getCode", chain.head().record, "latest"))
    record = decode_record(code)
    assert (record.kind, record.name, record.version, record.licence) == (
        1,
        release.name,
        release.version,
        release.licence,
    )
    assert (record.link, record.sender, record.price_wei) == (PUBLISHER.lower(), "", release.price_wei)
    assert record.variants == found.variants and record.created_at == found.created_at
    chain.rpc.call("evm_revert", snapshot)


BAD: list[tuple[str, dict[str, Any]]] = [
    *[("name", {"name": name}) for name in ("", "Tiny", "-tiny", ".", "ti ny", "tiny+", "t/y", "é", "a" * 65)],
    *[("version", {"version": version}) for version in ("", "latest", "V1", "+1", "1/0", "1 0", "a" * 33)],
    *[("licence", {"licence": licence}) for licence in ("", "a" * 65, "mit\n", "mit\x7f", "é")],
    ("manifest", {"manifest_sha256": "0" * 64}),
    ("variants", {"variants": ()}),
    ("variants", {"variants": tuple(variant_record(f"gguf:Q{i}") for i in range(65))}),
    ("variant", {"variants": (variant_record("gguf"), variant_record("gguf", "other"))}),
    ("label", {"variants": (replace(variant_record("gguf"), variant=Variant(Format.GGUF, "-Q")),)}),
    ("label", {"variants": (replace(variant_record("gguf"), variant=Variant(Format.GGUF, "Q/4")),)}),
    ("label", {"variants": (replace(variant_record("gguf"), variant=Variant(Format.GGUF, "Q", "s m")),)}),
    ("size", {"variants": (variant_record("gguf", size_bytes=0),)}),
    ("digest", {"variants": (replace(variant_record("gguf"), sha256="0" * 64),)}),
    ("cid", {"variants": (replace(variant_record("gguf"), cid=cid.encode(cid.RAW, bytes(32))),)}),
]


@pytest.mark.servers
@pytest.mark.parametrize(("what", "change"), BAD)
def test_each_limit_of_the_contract_is_met_here_first(chain: Chain, what: str, change: dict[str, Any]) -> None:
    good = release_of(PUBLISHER)
    assert not refused_by_contract(
        chain, pack(replace(good, variants=tuple(sorted(good.variants, key=lambda v: v.variant.format.number))))
    )
    bad = replace(good, variants=good.variants[:1], **({} if "variants" in change else change))
    bad = replace(bad, **change)
    assert refused_by_contract(chain, pack(bad)), "the contract allows it: then so should we"
    with pytest.raises(ConfigError) as error:
        bad.encode()
    assert error.value.hint


@pytest.mark.servers
@OWN_PROCESS
@given(release=releases, data=st.data())
def test_a_mutated_payload_is_refused_or_is_what_it_says(
    chain: Chain, release: ReleasePayload, data: st.DataObject
) -> None:
    payload = bytearray(release.encode())
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    if refused_by_contract(chain, bytes(payload)):
        return
    header = bytes([0, 1]) + bytes(5) + bytes(20) + bytes.fromhex(PUBLISHER[2:])
    read = decode_record(header + bytes(payload))
    again = ReleasePayload(
        PUBLISHER, read.name, read.version, read.licence, read.manifest_sha256, read.variants, read.price_wei
    )
    if again.encode()[: len(payload)] != bytes(payload):  # the price has several spellings
        assert decode_price(encode_price(read.price_wei)) == read.price_wei
        assert len(again.encode()) == len(payload)


@given(releases)
def test_variants_are_packed_in_the_contracts_order_whatever_the_callers(release: ReleasePayload) -> None:
    assert replace(release, variants=release.variants[::-1]).encode() == release.encode()


@given(st.lists(variants, min_size=1, max_size=4, unique_by=lambda entry: entry.variant).map(tuple))
def test_an_addition_is_a_manifest_and_variants(added: tuple[VariantRecord, ...]) -> None:
    header = bytes([0, 3]) + (7).to_bytes(5, "big") + bytes(40)
    record = decode_record(header + AdditionPayload(sha256_of("m"), added).encode())
    assert (record.kind, record.created_at, record.manifest_sha256) == (3, 7, sha256_of("m"))
    assert set(record.variants) == set(added)


@given(prices)
def test_a_representable_price_is_kept_to_the_wei(price_wei: int) -> None:
    assert decode_price(encode_price(price_wei)) == price_wei
    assert len(encode_price(price_wei)) == 4


@given(st.integers(0, 10**30))
def test_any_other_price_is_refused_with_its_neighbours(price_wei: int) -> None:
    try:
        assert decode_price(encode_price(price_wei)) == price_wei
    except ConfigError as error:
        below, above = (int(word) for word in error.hint.split() if word.isdigit())
        assert below < price_wei < above
        for near in (below, above):
            assert decode_price(encode_price(near)) == near


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="negative"):
        encode_price(-1)


@given(st.binary(max_size=400))
def test_the_record_decoder_survives_any_bytes(code: bytes) -> None:
    for candidate in (code, b"\0\1" + code, b"\0\x82" + code, b"\0\3" + code):
        try:
            decode_record(candidate)
        except FormatError:
            continue


@pytest.mark.servers
def test_64_variants_with_the_longest_texts_read_back(chain: Chain, publisher: Signer) -> None:
    many = tuple(replace(variant_record(f"gguf:{i:015d}@{'t' * 15}", size_bytes=MAX_SIZE_BYTES - i)) for i in range(64))
    release = ReleasePayload(PUBLISHER, "n" * 64, "v" * 32, "l" * 64, sha256_of("m"), many, (2**24 - 1) * 10**60)
    chain.publish(publisher, release, "a" * 32)
    found = chain.resolve(PUBLISHER, "n" * 64, "a" * 32)
    assert found.variants == many and found.price_wei == release.price_wei


@pytest.mark.servers
def test_errors_name_what_is_wrong(chain: Chain, publisher: Signer) -> None:
    with pytest.raises(CitrateError, match="'Tiny' cannot be a name"):
        chain.publish(publisher, replace(release_of(PUBLISHER), name="Tiny"))
    with pytest.raises(ConfigError, match="cannot be an alias"):
        chain.publish(publisher, release_of(PUBLISHER), "latest")
