"""Merkle trees against the definition of RFC 6962 and its published example."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.training import merkle

LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
"""Roots over the first leaves: the test vectors that implementations of Certificate Transparency share."""


def defined(leaves: list[bytes]) -> bytes:
    """Section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined(leaves[:split]) + defined(leaves[split:])).digest()


@pytest.mark.parametrize("count", ROOTS)
def test_the_shared_vectors(count: int) -> None:
    assert merkle.root(LEAVES[:count]).hex() == ROOTS[count]


@given(st.lists(st.binary(max_size=3), max_size=70))
def test_the_root_is_as_defined(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == defined(leaves)


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=40), st.data())
def test_every_leaf_is_proved_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    place = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.path(hashes, place)
    assert merkle.leads_to(hashes[place], place, len(leaves), proof) == merkle.root(leaves)
    assert merkle.leads_to(merkle.leaf_hash(b"other"), place, len(leaves), proof) != merkle.root(leaves)
    assert merkle.leads_to(hashes[place], place, len(leaves), (*proof, b"\0" * 32)) is None
    for other in range(len(leaves)):
        if leaves[other] != leaves[place]:
            assert merkle.leads_to(hashes[place], other, len(leaves), proof) != merkle.root(leaves)


def test_a_place_outside_the_tree() -> None:
    assert merkle.leads_to(merkle.leaf_hash(b"a"), 1, 1, ()) is None
    with pytest.raises(IndexError):
        merkle.path([merkle.leaf_hash(b"a")], 1)
