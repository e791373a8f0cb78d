"""Hashes and ids made without an Ethereum library equal those made with one."""

from __future__ import annotations

import eth_utils
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from citrate.registry.ids import checksum, keccak, model_id, version_id

addresses = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=64)


@given(st.binary(max_size=700))
def test_keccak_equals_the_library(data: bytes) -> None:
    assert keccak(data) == eth_utils.keccak(data)


def test_keccak_equals_the_library_around_its_block_size() -> None:
    for size in (0, 1, 135, 136, 137, 271, 272, 273):
        assert keccak(bytes(size)) == eth_utils.keccak(bytes(size))


@given(addresses)
def test_checksum_equals_the_library(address: str) -> None:
    assert checksum(address) == checksum(address.upper().replace("0X", "0x")) == eth_utils.to_checksum_address(address)


@given(addresses, names, names)
def test_ids_are_the_hash_of_the_abi_encoding(publisher: str, name: str, version: str) -> None:
    model = eth_utils.keccak(encode(["address", "string"], [publisher, name]))
    assert model_id(publisher, name) == "0x" + model.hex()
    assert version_id(model_id(publisher, name), version) == (
        "0x" + eth_utils.keccak(encode(["bytes32", "string"], [model, version])).hex()
    )
