"""Whatever bytes a stranger sends to the parsers: a value, or one error of ours, in bounded time."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citrate.core.errors import CitrateError, FormatError
from citrate.registry import cid as cids
from citrate.registry import dagcbor, dagpb, ipld
from citrate.registry.carfile import CarFile
from citrate.registry.cid import Cid

SEEDS = [
    bytes.fromhex("a2616182d82a4500015500006161f6"),
    dagcbor.car_header([Cid.of(cids.RAW, b"x")]),
    dagpb.encode([dagpb.Link(Cid.of(cids.RAW, b"x").binary, b"name", 5)], dagpb.file_data([1, 2, 3])),
    dagpb.shard_data((1 << 200) - 1, 256),
    json.dumps({"a": {"/": str(Cid.of(cids.RAW, b"x"))}, "b": {"/": {"bytes": "AQI"}}, "c": [1.5, None]}).encode(),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Bytes that were something once."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
        data = data or bytearray(b"\0")
    return bytes(data)


def codec(number: int) -> Callable[[bytes], object]:
    return lambda data: ipld.links(Cid(1, number, cids.SHA2_256, bytes(32)), data)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "dag-cbor": dagcbor.decode,
    "dag-pb": dagpb.decode,
    "unixfs": dagpb.decode_unixfs,
    "cid": Cid.decode,
    "text of a cid": lambda data: Cid.parse(data.decode("latin-1")),
    "car": lambda data: list(CarFile(io.BytesIO(data)).blocks()),
    "links of dag-pb": codec(cids.DAG_PB),
    "links of dag-cbor": codec(cids.DAG_CBOR),
    "links of dag-json": codec(cids.DAG_JSON),
    "json": lambda data: ipld.decode(Cid(1, cids.JSON, cids.SHA2_256, bytes(32)), data),
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.one_of(st.binary(max_size=200), mutated()))
def test_any_bytes_are_a_value_or_one_error(name: str, data: bytes) -> None:
    with contextlib.suppress(CitrateError):
        PARSERS[name](data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("dag-cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),  # a list of 2^64 items
        ("dag-cbor", b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("dag-cbor", b"\x81" * 100_000),
        ("dag-cbor", b"\x9f\xff"),  # of indefinite length
        ("dag-cbor", b"\xc1\x00"),  # a tag that is no link's
        ("dag-cbor", b"\xa2\x61a\x00\x61a\x00"),  # a key twice
        ("dag-cbor", b"\xa1\x00\x00"),  # a key that is no text
        ("dag-cbor", b"\x00\x00"),
        ("dag-cbor", b"\xf7"),  # undefined
        ("dag-cbor", b""),
        ("json", b"[" * 100_000),
        ("json", b'{"a":1,"a":2}'),
        ("json", b'"\\ud800"'),
        ("json", b"1" * 5000),
        ("links of dag-json", b'{"/": "no cid"}'),
        ("links of dag-json", b'{"/": 5}'),
        ("links of dag-json", b'{"/": {"bytes": "*"}}'),
        ("links of dag-json", b"[" * 300 + b"]" * 300),
        ("dag-pb", b"\x0a\x00\x12\x00\x0a\x00"),  # data twice
        ("dag-pb", b"\x12\x02\x18\x01"),  # a link to nothing
        ("dag-pb", bytes(dagpb.BLOCK_MAX_BYTES + 1)),
        ("unixfs", b"\x08\x09"),
        ("unixfs", b"\x0d\x00\x00\x00\x00"),
        ("cid", b"\x01\x55\x12\x20" + bytes(31)),
        ("cid", b"\x01\x55\x12\x05" + bytes(5)),  # a digest too short to trust
        ("cid", b"\x01\x55\x00\xff\x01" + bytes(255)),  # too much inline
        ("cid", b"\x02\x55\x12\x20" + bytes(32)),
        ("text of a cid", b"z" + b"z" * 100_000),
        ("text of a cid", b"Qm" + b"0" * 44),
        ("text of a cid", b"f01 5500 00"),
        ("text of a cid", b""),
    ],
)
def test_known_tricks_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        PARSERS[name](data)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "text",
    [
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        "BAFKREIFZJUT3TE2NHYEKKLSS27NH3K72YSCO7Y32KOAO5EEI66WOF36N5E",
        "zb2rhj7crUKTQYRGCRATFaQ6YFLTde2YzdqbbhAASkL9uRDXn",
        "k2cwued9o1pvrt3q271rrqbo49x30tbxwpoeaq75z14e5ui2rzygpbe1",
        "f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "mAVUSILlNJ7mTTT4IpS5S19p9q/rEhO/jelOA7pCI96zi783p",
        "uAVUSILlNJ7mTTT4IpS5S19p9q_rEhO_jelOA7pCI96zi783p",
    ],
)
def test_a_cid_is_read_in_every_usual_alphabet(text: str) -> None:
    assert str(Cid.parse(text)) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
