"""The bounded GGUF reader: hostile files are refused at once, and our own headers come back as written."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import FormatError
from citrate.formats.gguf_file import GgufValue, Kind, array, header_bytes, plan, read_header


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def head(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


HOSTILE = {
    "array of 2^63 items": head(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 4, 2**63),
    "string of 2^63 bytes": head(0, 1) + text(b"a") + struct.pack("<IQ", 8, 2**63),
    "2^63 keys": head(0, 2**63),
    "2^40 tensors": head(2**40, 0),
    "an alignment of 1 GiB": head(0, 1) + text(b"general.alignment") + struct.pack("<II", 4, 2**30),
    "an alignment of 0": head(0, 1) + text(b"general.alignment") + struct.pack("<II", 4, 0),
    "nested arrays": head(0, 1) + text(b"a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 20000,
    "no such value type": head(0, 1) + text(b"a") + struct.pack("<I", 77),
    "a key twice": head(0, 2) + (text(b"a") + struct.pack("<II", 4, 1)) * 2,
    "version 9": head(0, 0, 9),
    "a tensor of 2^60 columns": head(1, 0) + text(b"t") + struct.pack("<IQIQ", 1, 2**60, 0, 0),
    "a tensor past the end": head(1, 0) + text(b"t") + struct.pack("<IQIQ", 1, 1024, 0, 0),
    "nine dimensions": head(1, 0) + text(b"t") + struct.pack("<I", 9),
    "a type that is none": head(1, 0) + text(b"t") + struct.pack("<IQIQ", 1, 32, 99, 0),
    "tensors that overlap": head(2, 0) + b"".join(text(n) + struct.pack("<IQIQ", 1, 8, 0, 0) for n in (b"a", b"b")),
    "only the magic": b"GGUF",
    "something else": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[name] + bytes(64))
    started = time.process_time()
    with pytest.raises(FormatError):
        read_header(path)
    assert time.process_time() - started < 5


@settings(max_examples=150)
@given(data=st.data())
def test_a_mutated_header_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    tensors = plan([("a", (32, 4), "F16"), ("b", (256,), "Q4_K")])
    metadata = {"general.name": GgufValue(Kind.STRING, "x"), "n": array(Kind.INT32, [1, 2, 3])}
    raw = bytearray(header_bytes(metadata, tensors) + bytes(1024))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated.gguf"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        header = read_header(path)
    except FormatError:
        return
    assert all(t.offset + t.size_bytes <= path.stat().st_size for t in header.tensors)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    metadata = {
        "general.name": GgufValue(Kind.STRING, "ü"),
        "count": GgufValue(Kind.UINT32, 7),
        "rate": GgufValue(Kind.FLOAT32, 0.5),
        "flag": GgufValue(Kind.BOOL, True),
        "words": array(Kind.STRING, ["a", "", "c"]),
    }
    tensors = plan([("a", (32, 3), "Q8_0"), ("b", (8,), "F32")])
    path = tmp_path / "x.gguf"
    start = header_bytes(metadata, tensors)
    path.write_bytes(start + bytes(128 + 32))
    header = read_header(path)
    assert header.metadata == metadata
    assert [(t.name, t.shape, t.offset) for t in header.tensors] == [
        ("a", (32, 3), len(start)),
        ("b", (8,), len(start) + 128),
    ]


def test_the_reference_reader_agrees_with_ours(tmp_path: Path) -> None:
    from gguf import GGUFReader

    tensors = plan([("a", (32, 3), "Q8_0"), ("b", (8,), "F32")])
    path = tmp_path / "x.gguf"
    path.write_bytes(header_bytes({"general.architecture": GgufValue(Kind.STRING, "llama")}, tensors) + bytes(160))
    theirs = {t.name: (tuple(int(n) for n in t.shape), t.data_offset) for t in GGUFReader(path).tensors}
    assert theirs == {t.name: (t.shape, t.offset) for t in read_header(path).tensors}
