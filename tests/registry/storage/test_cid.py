from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.core.errors import FormatError
from citrate.registry import cid, dagpb

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def test_the_cid_of_a_raw_block_holds_its_sha256() -> None:
    assert cid.of(cid.RAW, b"hello world") == HELLO
    assert cid.decode(HELLO) == (cid.RAW, hashlib.sha256(b"hello world").digest())


@given(st.sampled_from([cid.RAW, cid.DAG_PB]), st.binary(min_size=32, max_size=32))
def test_decode_inverts_encode(codec: int, digest: bytes) -> None:
    assert cid.decode(cid.encode(codec, digest)) == (codec, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        HELLO.upper(),
        HELLO[:-1],
        HELLO + "a",
        HELLO[:-1] + "f",  # a stray bit behind the last byte
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",  # version 0
        "z" + HELLO[1:],
        "bafyreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi",  # dag-cbor
        "bafk2bzacedcxvtsmpcfhvlwyxnhjvmrr3ojubgikcaeqowkmsbgf3xdpmlyj6",  # blake2b
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5\u00e9",
    ],
)
def test_decode_refuses_what_is_no_canonical_cid(text: str) -> None:
    with pytest.raises(FormatError):
        cid.decode(text)


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_varints_invert(number: int) -> None:
    encoded = dagpb.varint(number)
    assert dagpb.read_varint(encoded, 0) == (number, len(encoded))


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(block: bytes) -> None:
    try:
        node = dagpb.decode(block)
        dagpb.decode_unixfs(node.data)
    except FormatError:
        return


def test_a_block_past_two_mebibytes_is_refused() -> None:
    with pytest.raises(FormatError, match="more than"):
        dagpb.decode(b"\x0a" + bytes(dagpb.BLOCK_MAX_BYTES))


def test_a_number_that_is_not_in_its_shortest_form_is_refused() -> None:
    with pytest.raises(FormatError):
        dagpb.read_varint(b"\x80\x00", 0)
