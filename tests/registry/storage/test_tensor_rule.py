"""Where `citrate-tensor-v1` cuts: the rule itself, against a slow reference, and against hostile headers."""

from __future__ import annotations

import json
import random
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.registry.cutting import GivenCuts, TensorCuts
from citrate.registry.tensor_headers import BLOCKS, HEADER_MAX_BYTES, TENSORS_MAX
from tests.registry.storage.tensor_files import MIB, ends_of, fixed, gguf, reference_ends, safetensors, text, value

DECISION = Path(__file__).parents[3] / "docs/decisions/tensor-profile.md"
A, B, C = bytes(range(200)), bytes(5 * MIB // 2), b"c" * 62


def cuts(data: bytes, pieces: Iterable[int] = ()) -> list[int]:
    """The ends that the cutter tells when a file comes in pieces of these lengths, then the rest at once."""
    cutter, found, at = TensorCuts(), list[int](), 0
    for length in [*pieces, len(data)]:
        found += cutter.feed(memoryview(data)[at : at + length])
        at = min(len(data), at + length)
    return found if found and found[-1] == len(data) else [*found, len(data)]


def offsets(ranges: Mapping[str, tuple[int, int]], size: int) -> bytes:
    """A SafeTensors file with these ``data_offsets``, whatever they are."""
    header = {name: {"dtype": "BF16", "shape": [1], "data_offsets": list(pair)} for name, pair in ranges.items()}
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(size)


def raw(header: bytes, size: int = 3 * MIB) -> bytes:
    """A file with this header, whatever it is."""
    return struct.pack("<Q", len(header)) + header + bytes(size)


def test_safetensors_are_cut_behind_the_header_and_behind_every_tensor() -> None:
    data = safetensors({"a": A, "b": B, "c": C})
    head = len(data) - len(A + B + C)
    b, c = head + len(A), head + len(A + B)
    assert cuts(data) == [head, b, b + MIB, b + 2 * MIB, c, len(data)]


def test_gguf_has_its_padding_in_leaves_of_its_own() -> None:
    data = gguf({"a": A, "c": C, "b": B})
    head = len(data) - 224 - 64 - len(B)
    assert cuts(data) == [
        head,
        head + 200,
        head + 224,
        head + 286,
        head + 288,
        *range(head + 288 + MIB, len(data), MIB),
        len(data),
    ]


def test_a_tensor_has_the_same_leaves_in_both_containers() -> None:
    tensors = {"a": A, "b": B, "c": C}

    def pieces(data: bytes) -> set[bytes]:
        ends = cuts(data)
        return {data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)}

    shared = pieces(safetensors(tensors)) & pieces(gguf(tensors))
    assert shared == {A, C, B[:MIB], B[2 * MIB :]}


@pytest.mark.parametrize(
    "data",
    [
        offsets({}, 3 * MIB),
        offsets({"a": (0, 0), "b": (0, 3 * MIB), "c": (3 * MIB, 3 * MIB)}, 3 * MIB),
        offsets({"b": (2 * MIB, 3 * MIB), "a": (0, 2 * MIB)}, 3 * MIB),
        offsets({"a": (0, 2 * MIB)}, 3 * MIB),
        offsets({"a": (0, 5 * MIB), "b": (5 * MIB, 1 << 40)}, 3 * MIB),
        raw(b'{ "__metadata__" :\t{ } ,\r\n"\\u00e9\\n\xff":{"shape":[ ],"data_offsets":[0,7],"dtype":""} }  \n'),
        raw(b'{"a":{"data_offsets":[0,999999999999999999],"dtype":"X","shape":[0,1,2]}}'),
        raw(b'{"__metadata__": null ,"a":{"data_offsets":[0,7],"dtype":"X","shape":[7]}}'),
        gguf({}) + bytes(2 * MIB),
        gguf({"a": A, "b": B}, alignment=4096),
        gguf({"a": A, "b": B}, {"l": value(9, struct.pack("<IQ", 8, 2) + text(b"x") + text(b""))}),
    ],
    ids=lambda _: "file",
)  # fmt: skip
def test_headers_of_the_form_are_followed(data: bytes) -> None:
    assert cuts(data) == reference_ends(data) != fixed(len(data))


def test_what_others_write_is_of_the_form(tmp_path: Path) -> None:
    import gguf as gguf_py
    import mlx.core as mx
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {f"layer.{n}.wéight": np.full((n + 1, 9), n, np.float16) for n in range(4)}
    arrays["long"] = np.zeros(MIB, np.float32)
    for metadata in (None, {"format": "pt"}):
        save_file(arrays, tmp_path / "a.safetensors", metadata)
        mx.save_safetensors(str(tmp_path / "b.safetensors"), {k: mx.array(v) for k, v in arrays.items()}, metadata)
        writer = gguf_py.GGUFWriter(tmp_path / "c.gguf", "llama")
        writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
        for name, values in arrays.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for name in ("a.safetensors", "b.safetensors", "c.gguf"):
            data = (tmp_path / name).read_bytes()
            found = cuts(data)
            leaves = {data[begin:end] for begin, end in zip([0, *found], found, strict=False)}
            assert leaves >= {values.tobytes() for values in arrays.values() if values.nbytes <= MIB}
            assert bytes(MIB) in leaves


@pytest.mark.parametrize(
    "data",
    [
        offsets({"a": (0, MIB), "b": (MIB - 1, 3 * MIB)}, 3 * MIB),
        offsets({"a": (0, MIB), "b": (MIB + 1, 3 * MIB)}, 3 * MIB),
        offsets({"a": (1, 3 * MIB)}, 3 * MIB),
        offsets({"a": (0, 2), "b": (2, 1)}, 3 * MIB),
        offsets({"a": (-1, 2)}, 3 * MIB),
        offsets({"a": (0, 10**18)}, 3 * MIB),
        raw(b'{"a":{"data_offsets":[00,7],"dtype":"X","shape":[]}}'),
        raw(b'{"a":{"data_offsets":[0,7.0],"dtype":"X","shape":[]}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X","shape":[],"more":1}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X"}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X","dtype":"X"}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":null,"shape":[]}}'),
        raw(b'{"a":{"data_offsets":[0,7,9],"dtype":"X","shape":[]}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X","shape":[[]]}}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X","shape":[]},}'),
        raw(b'{"a":{"data_offsets":[0,7],"dtype":"X","shape":[]}} x'),
        raw(b'{"a\n":{"data_offsets":[0,7],"dtype":"X","shape":[]}}'),
        raw(b'{"a\\x":{"data_offsets":[0,7],"dtype":"X","shape":[]}}'),
        raw(b'{"__metadata__":{"a":1}}'),
        raw(b'{"__metadata__":{},"__metadata__":{}}'),
        raw(b'{"__metadata__":nul}'),
        raw(b'{"__metadata__":[]}'),
        raw(b" {}"),
        raw(b"{"),
        raw(b"[]"),
        raw(b""),
        struct.pack("<Q", 1 << 63) + b"{}" + bytes(2 * MIB),
        b"",
        b"GGU",
        b"GGUF" + bytes(2 * MIB),
        gguf({"a": A}).replace(struct.pack("<IQQ", 3, 1, 1), struct.pack("<IQQ", 1, 1, 1), 1),
        gguf({"a": A, "b": B}, {"l": value(9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 0))}),
        gguf({"a": A, "b": B}, {"general.alignment": value(4, struct.pack("<I", 12))}),
        gguf({"a": A, "b": B}, {"general.alignment": value(5, struct.pack("<I", 32))}),
        gguf({"a": A, "b": B}, {"x": value(13, b"")}),
        gguf({"a": A, "b": B}).replace(struct.pack("<IQ", 30, 224), struct.pack("<IQ", 30, 256)),
        gguf({"a": A, "b": B}).replace(struct.pack("<IQ", 30, 224), struct.pack("<IQ", 30, 192)),
        gguf({"a": A, "b": B})[:100],
    ],
    ids=lambda _: "file",
)
def test_headers_of_another_form_leave_the_usual_leaves(data: bytes) -> None:
    assert cuts(data) == reference_ends(data) == fixed(len(data))


def test_a_type_that_the_rule_does_not_know_ends_where_the_next_tensor_begins() -> None:
    known = gguf({"a": A, "b": B})
    unknown = known.replace(struct.pack("<IQ", 30, 0), struct.pack("<IQ", 99, 0))
    head = len(known) - 224 - len(B)
    assert cuts(unknown) == ends_of([head, head + 224], len(unknown))
    assert head + 200 in cuts(known)


def test_a_header_is_followed_up_to_64_mib_and_no_further() -> None:
    frame = b'{"__metadata__":{"a":"%s"},"t":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}'
    for extra in (0, 1):
        filled = frame % (b"x" * (HEADER_MAX_BYTES - 8 - len(frame) + 2 + extra))
        data = raw(filled, 2 * MIB)
        followed = HEADER_MAX_BYTES + 5 in cuts(data)
        assert followed is (extra == 0)
        assert cuts(data, [MIB] * 66) == cuts(data)


def test_as_many_tensors_as_the_rule_allows_and_no_more() -> None:
    for extra in (0, 1):
        one = b'"":{"dtype":"","shape":[],"data_offsets":[%d,%d]}'
        header = b"{" + b",".join(one % (n, n + 1) for n in range(TENSORS_MAX + extra)) + b"}"
        found = cuts(raw(header, 4 * MIB))
        assert (len(found) > TENSORS_MAX) is (extra == 0)


KEY = b"GGUF" + struct.pack("<IQQ", 3, 1 << 17, 1 << 16)
FULL = HEADER_MAX_BYTES
PART = FULL // 4
HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty texts": lambda: KEY + text(b"k") + value(9, struct.pack("<IQ", 8, 1 << 60)) + bytes(FULL),
    "as many texts as may be": lambda: KEY + text(b"k") + value(9, struct.pack("<IQ", 8, 1 << 22)) + bytes(FULL),
    "empty keys": lambda: KEY + bytes(FULL),
    "a huge array": lambda: KEY + text(b"k") + value(9, struct.pack("<IQ", 12, 1 << 61)) + bytes(FULL),
    "a huge key": lambda: KEY + struct.pack("<Q", 1 << 62) + bytes(FULL),
    "an open string": lambda: raw(b'{"' + b"a" * (FULL - 10), 0),
    "backslashes": lambda: raw(b'{"' + b"\\\\" * (PART // 2 - 10), 0),
    "many metadata": lambda: raw(b'{"__metadata__":{' + b'"":"",' * (PART // 6 - 10), 0),
    "open brackets": lambda: raw(b'{"a":{"shape":' + b"[" * (PART - 30), 0),
    "numbers": lambda: raw(b'{"a":{"shape":[' + b"0," * (PART // 2 - 30), 0),
    "spaces": lambda: raw(b"{" + b" " * (PART - 30), 0),
    "commas": lambda: raw(b'{"a":{"shape":[0]' + b"," * (PART - 30), 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_header_takes_long(name: str) -> None:
    data, cutter, began = HOSTILE[name](), TensorCuts(), time.process_time()
    found = [end for at in range(0, len(data), MIB) for end in cutter.feed(memoryview(data)[at : at + MIB])]
    assert found == list(range(MIB, len(data) + 1, MIB))
    assert time.process_time() - began < 20


@pytest.mark.parametrize("name", ["an open string", "a huge array"])
def test_no_header_takes_much_memory(name: str) -> None:
    data, cutter = HOSTILE[name](), TensorCuts()
    tracemalloc.start()
    try:
        for at in range(0, len(data), MIB):
            cutter.feed(memoryview(data)[at : at + MIB])
        assert tracemalloc.get_traced_memory()[1] < 2 * HEADER_MAX_BYTES + 16 * MIB
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()


_TENSORS = st.dictionaries(st.text('ab\x00é"\\', max_size=3), st.integers(0, 99), max_size=5)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A small file of either container, with some bytes changed, cut out or put in."""
    sizes = draw(_TENSORS)
    tensors = {name: bytes([n % 256]) * 2 * n for n, (name, n) in enumerate(sizes.items())}
    made = draw(st.sampled_from([safetensors, gguf]))
    data = bytearray(made({**tensors, "big": bytes(draw(st.sampled_from([0, 2 * MIB, MIB + 7])))}))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, min(len(data) - 1, 400)))
        gone = draw(st.integers(0, 2))
        data[at : at + gone] = draw(st.binary(max_size=2) | st.sampled_from([b"0", b"1", b",", b"}", b" ", b"[", b'"']))
    return bytes(data)


@settings(max_examples=200, deadline=None)
@given(_damaged(), st.lists(st.integers(0, 700) | st.integers(0, 3 * MIB), max_size=12))
def test_any_bytes_in_any_pieces_are_cut_as_the_reference_says(data: bytes, pieces: list[int]) -> None:
    found = cuts(data, pieces)
    if b"\\u" not in data[:400]:  # a name spelt in escapes: the rule does not undo them, the reference's parser does
        assert found == reference_ends(data)
    assert found == cuts(data)
    lengths = [end - begin for begin, end in zip([0, *found], found, strict=False)]
    assert all(0 < length <= MIB for length in lengths) or not data


@given(st.sets(st.integers(1, 10_000), min_size=1), st.lists(st.integers(0, 3000), max_size=20), st.integers(0, 9999))
def test_given_cuts_are_told_in_any_pieces(ends: set[int], pieces: list[int], start: int) -> None:
    ordered = sorted(ends)
    cutter, found, at = GivenCuts(ordered, start), list[int](), start
    for length in [*pieces, 20_000]:
        found += cutter.feed(memoryview(bytes(length)))
        at += length
    assert found == [end for end in ordered if end > start]


def vectors() -> list[dict[str, object]]:
    """The vectors of the decision page, which another implementation is checked with."""
    (block,) = re.findall(r"```json\n(.*?)```", DECISION.read_text("utf-8"), re.DOTALL)
    return list(json.loads(block))


def vector_file(vector: dict[str, object]) -> bytes:
    """The file that a vector describes."""
    head, size = bytes.fromhex(str(vector["head"])), int(str(vector["size"]))
    return head + random_bytes(size - len(head))


def random_bytes(size: int) -> bytes:
    """What follows a vector's head: byte ``i`` is the low byte of ``i * i >> 8``."""
    return bytes(i * i >> 8 & 255 for i in range(size))


def test_the_types_of_the_decision_are_those_of_the_rule() -> None:
    listed = re.findall(r"\b(\d+): (\d+)/(\d+)", DECISION.read_text("utf-8"))
    assert {int(kind): (int(weights), int(size)) for kind, weights, size in listed} == BLOCKS


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["what"]))
def test_the_vectors_of_the_decision_are_cut_so(vector: dict[str, object]) -> None:
    data = vector_file(vector)
    assert cuts(data, random.Random(1).choices(range(1, 5000), k=40)) == vector["ends"] == reference_ends(data)
