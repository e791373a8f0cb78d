"""Our ABI codec writes and reads what the library does, and survives any answer."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import eth_utils
import pytest
from eth_abi.abi import encode as library_encode
from hypothesis import given
from hypothesis import strategies as st

from citrate.core.errors import ChainError
from citrate.registry import artifacts, views
from citrate.registry.abi_codec import Frame, encode_call, selector
from citrate.registry.ids import checksum

words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
ascii_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)

ITEM = "(address,uint8,bytes32,bytes32,address,string,string,uint64,bool)"
VERSION = "(bytes32,address,address,string,string,string,uint256,uint64,bool,bytes32,address,bytes32[],address[])"


def _signature(entry: dict[str, Any]) -> str:
    def spell(part: dict[str, Any]) -> str:
        if "components" not in part:
            return str(part["type"])
        return "(" + ",".join(map(spell, part["components"])) + ")" + part["type"][len("tuple") :]

    return f"{entry['name']}({','.join(map(spell, entry['inputs']))})"


def _outputs(name: str) -> list[str]:
    def spell(part: dict[str, Any]) -> str:
        if "components" not in part:
            return str(part["type"])
        return "(" + ",".join(map(spell, part["components"])) + ")" + part["type"][len("tuple") :]

    abi: Any = artifacts.load("ModelRegistry").abi
    return [spell(part) for entry in abi if entry.get("name") == name for part in entry["outputs"]]


def test_every_call_we_make_is_a_function_of_a_contract_of_ours() -> None:
    stack: list[Any] = [artifacts.load(name).abi for name in artifacts.shipped()]
    ours = {_signature(entry) for abi in stack for entry in abi if entry["type"] == "function"}
    source = "".join(path.read_text() for path in Path(views.__file__).parent.glob("*.py"))
    called = set(re.findall(r'encode_call\("([^"]+)"', source))
    assert called - {"isValidSignature(bytes32,bytes)"} <= ours
    assert len(called) >= 15


def test_the_layouts_that_our_views_read_are_those_of_the_contract() -> None:
    assert _outputs("getVersion") == [VERSION]
    assert _outputs("getVariants") == ["(string,string,string,string,bytes32,uint64)[]"]
    assert _outputs("records") == _outputs("versions") == [ITEM + "[]", "address"]
    assert _outputs("aliasOf") == ["bytes32", "string", "uint256", "uint256"]
    assert _outputs("head") == ["address", "uint256"]


@given(addresses, ascii_texts, st.binary(max_size=100), st.integers(0, 2**256 - 1))
def test_calls_are_encoded_as_the_library_does(address: str, text: str, data: bytes, number: int) -> None:
    ours = encode_call("f(address,bytes,string,uint256,bytes)", address, data, text, number, data)
    types = ["address", "bytes", "string", "uint256", "bytes"]
    assert ours[:4] == eth_utils.keccak(text=f"f({','.join(types)})")[:4] == selector(f"f({','.join(types)})")
    assert ours[4:] == library_encode(types, [address, data, text, number, data])


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,15}", fullmatch=True)
items = st.tuples(
    addresses, st.integers(1, 3), words, words, addresses, names, names, st.integers(0, 2**64 - 1), st.booleans()
)


@given(st.lists(items, max_size=5), addresses)
def test_a_page_is_read_as_it_was_written(rows: list[tuple[Any, ...]], cursor: str) -> None:
    page = views.records(cursor).decode(Frame(library_encode([ITEM + "[]", "address"], [rows, cursor])))
    assert page.next == cursor
    for row, item in zip(rows, page.items, strict=True):
        assert item.record == row[0] and item.publisher == checksum(row[4])
        assert (item.model_id, item.version_id) == ("0x" + row[2].hex(), "0x" + row[3].hex())
        assert (item.name, item.version, item.created_at, item.deprecated) == row[5:]


two_words, two_addresses = st.lists(words, min_size=2, max_size=2), st.lists(addresses, min_size=2, max_size=2)
versions = st.tuples(
    words, addresses, addresses, names, names, names, st.integers(0, 2**256 - 1), st.integers(0, 2**64 - 1),
    st.booleans(), words, addresses, two_words, two_addresses,
)  # fmt: skip


@given(versions)
def test_a_version_is_read_as_it_was_written(row: tuple[Any, ...]) -> None:
    read = views.get_version("0x" + "1" * 64).decode(Frame(library_encode([VERSION], [row])))
    assert (read.name, read.version, read.licence, read.price_wei, read.created_at, read.deprecated) == row[3:9]
    assert read.manifests == tuple(word.hex() for word in row[11])
    assert read.senders == tuple(checksum(sender) for sender in row[12])


@given(st.binary(max_size=600), st.data())
def test_no_answer_does_worse_than_a_chain_error(noise: bytes, data: st.DataObject) -> None:
    honest = library_encode(
        [ITEM + "[]", "address"],
        [[("0x" + "1" * 40, 1, b"a" * 32, b"b" * 32, "0x" + "2" * 40, "n", "v", 1, True)], "0x" + "0" * 40],
    )
    at = data.draw(st.integers(0, len(honest)))
    for answer in (noise, honest[:at], honest[:at] + noise + honest[at + len(noise) :]):
        for view in (
            views.records("0x" + "0" * 40),
            views.get_version("0x" + "1" * 64),
            views.get_variants("0x" + "1" * 64),
            views.head(),
        ):
            with contextlib.suppress(ChainError):
                view.decode(Frame(answer))


def test_a_huge_length_is_refused_before_it_is_read() -> None:
    answer = (32).to_bytes(32, "big") + (2**255).to_bytes(32, "big")
    with pytest.raises(ChainError, match="a length past its end"):
        views.get_variants("0x" + "1" * 64).decode(Frame(answer))


@pytest.mark.parametrize("name", ["../etc", "Tiny", "a" * 65, "\x1b[31m", ""])
def test_a_name_that_the_registry_cannot_hold_is_refused(name: str) -> None:
    row = ("0x" + "1" * 40, 1, b"a" * 32, b"b" * 32, "0x" + "2" * 40, name, "1.0.0", 1, False)
    with pytest.raises(ChainError, match="cannot hold"):
        views.records("0x" + "0" * 40).decode(Frame(library_encode([ITEM + "[]", "address"], [[row], "0x" + "0" * 40])))


def test_the_abi_is_json_without_machine_paths() -> None:
    text = json.dumps(artifacts.load("ModelRegistry").abi)
    assert "/work" not in text and "/home" not in text
