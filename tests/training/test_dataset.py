"""Datasets: which rows are taken, what they become, and what is found of a forged one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from citrate.facade import Registry
from citrate.training import dataset, merkle
from citrate.training.rows import Method

TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
PAIR = {"chosen": "a", "rejected": "b"}
WORSE = [TALK[0], {"role": "assistant", "content": "go away"}]
GOOD: dict[str, list[dict[str, object]]] = {
    "sft": [
        {"text": "a"},
        {"prompt": "", "completion": "b"},
        {"prompt": TALK[:1], "completion": TALK[1:]},
        {"messages": TALK},
    ],
    "dpo": [PAIR, {"prompt": "p", **PAIR}, {"chosen": TALK, "rejected": WORSE}],
    "reward": [PAIR, {"prompt": "p", **PAIR}],
    "grpo": [{"prompt": "p"}, {"prompt": TALK[:1]}],
    "rloo": [{"prompt": "p"}],
}
JUDGED = [{"prompt": "p", "completion": "c", "label": True}, {"prompt": "p", "completion": "d", "label": False}]
CANONICAL = b'{"completion":"x","prompt":"\xc3\xa9"}'


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(home=tmp_path / "home")


def written(tmp_path: Path, *lines: bytes | str | object) -> Path:
    path = tmp_path / "rows.jsonl"
    encoded = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


@pytest.mark.parametrize(("method", "row"), [(method, row) for method, rows in GOOD.items() for row in rows])
def test_what_each_method_takes(registry: Registry, tmp_path: Path, method: str, row: object) -> None:
    card, artifact = registry.add_dataset(written(tmp_path, row), method=method, licence="mit")
    assert (card.rows, card.method, card.licence) == (1, Method(method), "MIT"), "as SPDX writes it"
    assert registry.dataset(artifact.cid)[0] == card
    assert registry.store.pins(artifact.cid) == ["dataset"]


def test_kto_takes_answers_of_both_kinds(registry: Registry, tmp_path: Path) -> None:
    card, artifact = registry.add_dataset(written(tmp_path, *JUDGED), method="kto", licence="mit")
    assert (card.rows, card.columns) == (2, ("completion", "label", "prompt"))
    assert registry.dataset(artifact.cid)[0] == card


@pytest.mark.parametrize(
    ("rows", "said", "hint"),
    [
        (JUDGED[:1], "its one row has the label true: kto learns good answers against bad ones", "train by sft"),
        (JUDGED[:1] * 2, "all 2 rows have the label true", "called bad belong to it"),
        (JUDGED[1:] * 3, "all 3 rows have the label false", "called good belong to it"),
    ],
)
def test_kto_is_not_trained_by_answers_of_one_kind(
    registry: Registry, tmp_path: Path, rows: list[object], said: str, hint: str
) -> None:
    with pytest.raises(FormatError, match=rf"^rows\.jsonl: {said}") as error:
        registry.add_dataset(written(tmp_path, *rows), method="kto", licence="mit")
    assert hint in error.value.hint and registry.store.ls() == []


def test_the_root_is_over_canonical_rows_and_spelling_does_not_count(registry: Registry, tmp_path: Path) -> None:
    plain = written(tmp_path, {"completion": "x", "prompt": "é"}, {"completion": "y", "prompt": "é"})
    card, artifact = registry.add_dataset(plain, method="sft", licence="mit")
    other = written(
        tmp_path,
        b'\xef\xbb\xbf{ "prompt": "\\u00e9",  "completion":"x" }\r',
        b"",
        b'{"prompt":"\xc3\xa9","completion":"y"}',
    )
    assert registry.add_dataset(other, method="sft", licence="mit") == (card, artifact)
    lines = (registry.store.get(artifact.cid) / "rows.jsonl").read_bytes().splitlines()
    assert lines[0] == CANONICAL and card.root == merkle.root(lines).hex()
    assert card.root == hashlib.sha256(b"\1" + b"".join(map(merkle.leaf_hash, lines))).hexdigest()
    swapped = written(tmp_path, {"completion": "y", "prompt": "é"}, {"completion": "x", "prompt": "é"})
    assert registry.add_dataset(swapped, method="sft", licence="mit")[0].root != card.root


BAD_ROWS = {
    "a column too many": ({"prompt": "a", "completion": "b", "id": 1}, "has completion + id + prompt"),
    "a column missing": ({"prompt": "a"}, "has prompt; sft wants"),
    "empty": ({"prompt": "a", "completion": ""}, "completion is empty"),
    "a number": ({"prompt": "a", "completion": 1}, "neither text nor a list"),
    "text and conversation": ({"prompt": "a", "completion": TALK}, "text in one column"),
    "no messages": ({"messages": []}, "has 0 messages"),
    "messages as text": ({"messages": "a"}, "messages is text"),
    "another role": ({"messages": [{"role": "root", "content": "a"}]}, "message 1: the role is one of"),
    "another key": ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "role and content, and nothing"),
    "content of parts": ({"messages": [{"role": "user", "content": []}]}, "the content is not text"),
    "a list": ([1], "is no JSON object"),
    "no JSON": (b"prompt,completion", "is no JSON"),
    "cut off": (b'{"prompt": "a", "comp', "is no JSON"),
    "a key twice": (b'{"text": "a", "text": "b"}', "a key stands twice"),
    "no UTF-8": (b'{"text": "\xff"}', "is not UTF-8"),
    "half a character": (b'{"text": "\\ud800"}', "canonical JSON"),
    "nested": (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    "too long": (b'{"text": "' + b"a" * (4 << 20) + b'"}', "longer than 4 MiB"),
}


NOTHING = {
    "an empty prompt": ("grpo", {"prompt": ""}, "prompt is empty"),
    "spaces": ("sft", {"text": " \n"}, "text is empty"),
    "no preference": ("dpo", {"chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
    "an empty question": ("rloo", {"prompt": [{"role": "user", "content": ""}]}, "prompt is empty"),
    "a silent conversation": ("sft", {"messages": [{**each, "content": ""} for each in TALK]}, "messages is empty"),
    "a silent answer": ("sft", {"prompt": TALK[:1], "completion": [{**TALK[1], "content": ""}]}, "completion is empty"),
}


ASKED = TALK[:1]
MUTE = [TALK[0], {"role": "assistant", "content": " "}]
UNANSWERED: dict[str, tuple[str, dict[str, object], str]] = {
    "a question alone": ("sft", {"messages": ASKED}, "messages"),
    "a silent answer": ("sft", {"messages": MUTE}, "messages"),
    "a system's words": ("sft", {"messages": [{"role": "system", "content": "Be kind."}, *ASKED]}, "messages"),
    "an answer by the user": ("sft", {"prompt": ASKED, "completion": ASKED}, "completion"),
    "nothing preferred": ("dpo", {"chosen": ASKED, "rejected": TALK}, "chosen"),
    "nothing rejected": ("reward", {"prompt": ASKED, "chosen": TALK[1:], "rejected": MUTE}, "rejected"),
    "nothing to judge": ("kto", {"prompt": ASKED, "completion": ASKED, "label": True}, "completion"),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_a_conversation_that_nobody_answers_is_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    method, row, column = UNANSWERED[name]
    with pytest.raises(FormatError, match=rf"^rows\.jsonl, line 1: {column} has no turn of the assistant that says"):
        registry.add_dataset(written(tmp_path, row), method=method, licence="mit")
    assert registry.store.ls() == []


@pytest.mark.parametrize("name", NOTHING)
def test_a_row_of_which_nothing_can_be_learned_is_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    method, row, said = NOTHING[name]
    with pytest.raises(FormatError, match=f"line 1: {said}"):
        registry.add_dataset(written(tmp_path, row), method=method, licence="mit")


@pytest.mark.parametrize("licence", ["", " ", "LicenseRef-" + "x" * 54, "LicenseRef-a\nb"])
def test_what_is_no_licence_is_refused(registry: Registry, tmp_path: Path, licence: str) -> None:
    with pytest.raises(ConfigError, match="licence"):
        registry.add_dataset(written(tmp_path, {"text": "a"}), method="sft", licence=licence)
    assert registry.store.ls() == []


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_wrong_row_is_named_by_its_line_and_nothing_is_kept(registry: Registry, tmp_path: Path, name: str) -> None:
    row, said = BAD_ROWS[name]
    with pytest.raises(FormatError, match=r"rows\.jsonl, line 2: ") as error:
        registry.add_dataset(written(tmp_path, {"text": "good"}, row), method="sft", licence="mit")
    assert said in error.value.message and "dataset add --help" in error.value.hint
    assert registry.store.ls() == []


def test_rows_of_two_shapes_are_told_with_both_lines(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 3: holds completion \+ prompt \(text\), and line 1 text \(text\)"):
        registry.add_dataset(written(tmp_path, {"text": "a"}, {"text": "b"}, {"prompt": "a", "completion": "b"}),
                             method="sft", licence="mit")  # fmt: skip


def test_files_that_are_no_dataset(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="has no rows"):
        registry.add_dataset(written(tmp_path, b"", b"  "), method="sft", licence="mit")
    with pytest.raises(FormatError, match="is not a file"):
        registry.add_dataset(tmp_path, method="sft", licence="mit")
    with pytest.raises(NotFoundError):
        registry.add_dataset(tmp_path / "none", method="sft", licence="mit")
    with pytest.raises(ConfigError, match="no training method 'ppo'"):
        registry.add_dataset(written(tmp_path, {"text": "a"}), method="ppo", licence="mit")
    with pytest.raises(NotFoundError, match="is not a dataset"):
        registry.dataset(tmp_path)


def forged(folder: Path, **changes: object) -> Path:
    card = json.loads((folder / "dataset.json").read_bytes()) | changes
    (folder / "dataset.json").write_text(json.dumps(card, sort_keys=True, separators=(",", ":")))
    return folder


def test_a_forged_dataset_is_found(registry: Registry, tmp_path: Path) -> None:
    _, artifact = registry.add_dataset(written(tmp_path, {"text": "a"}, {"text": "b"}), method="sft", licence="mit")

    def copy(name: str, rows: bytes = b'{"text":"a"}\n{"text":"b"}\n') -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_bytes(rows)
        (folder / "dataset.json").write_bytes((registry.store.get(artifact.cid) / "dataset.json").read_bytes())
        return folder

    assert dataset.read(copy("as it is")).rows == 2
    with pytest.raises(IntegrityError, match="the rows are not those") as error:
        dataset.read(copy("another row", b'{"text":"a"}\n{"text":"c"}\n'))
    assert "fetch the dataset by its CID" in error.value.hint and "--from" not in error.value.hint
    with pytest.raises(IntegrityError, match="the rows are not those"):
        dataset.read(copy("rows swapped", b'{"text":"b"}\n{"text":"a"}\n'))
    with pytest.raises(IntegrityError, match="number of rows"):
        dataset.read(copy("a row less", b'{"text":"a"}\n'))
    with pytest.raises(IntegrityError, match="number of rows"):
        dataset.read(forged(copy("another count"), rows=3))
    with pytest.raises(IntegrityError, match="line 1 is no row of this dataset"):
        dataset.read(forged(copy("another shape"), columns=["messages"], conversational=True))
    with pytest.raises(FormatError, match="card is wrong: rows is 0: more than 0 is wanted"):
        dataset.read(forged(copy("a false card"), rows=0))
    with pytest.raises(FormatError, match="larger than"):
        dataset.read(forged(copy("a big card"), licence="x" * (64 << 10)))
