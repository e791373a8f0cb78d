"""A tokenizer.json that breaks the library that runs it breaks a child behind walls, and is one line here."""

from __future__ import annotations

import base64
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest

from citrate.core.confinement import child
from citrate.core.errors import FormatError
from citrate.formats.checks import llama, tokens
from citrate.formats.checks.corpus import committed

LINES = [line.text for line in committed()]
SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"


def written(root: Path, **changes: object) -> Path:
    """A folder with a tokenizer of three words, changed; ``model`` changes what is inside it."""
    inside = changes.pop("model", {})
    assert isinstance(inside, dict)
    words = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    document = {"version": "1.0", "added_tokens": [], "model": {**words, **inside}, **changes}
    (root / "tokenizer.json").write_text(json.dumps(document))
    return root


def charsmap(table: bytes) -> dict[str, object]:
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}}


PANICS: dict[str, dict[str, object]] = {
    "a table of characters that is too short": charsmap(b"\x04" + bytes(8)),
    "a table of characters that is none": charsmap(b""),
    "a template with a token that it does not have": {
        "post_processor": {
            "type": "TemplateProcessing", "special_tokens": {}, "pair": [],
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        }
    },
    "words of no letters": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a prefix longer than the words": {"model": {"continuing_subword_prefix": "abcdef"}},
    "more letters to strip than there are": {"decoder": {"type": "Strip", "content": "a", "start": 5, "stop": 5}},
}  # fmt: skip


@pytest.mark.parametrize("case", PANICS)
def test_what_makes_the_library_panic_is_one_line(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FormatError, match=r"^tokenizer\.json cannot (be loaded|cut text): .") as caught:
        tokens.tokenized(written(tmp_path, **PANICS[case]), LINES)
    assert "\n" not in caught.value.message and caught.value.hint
    assert capfd.readouterr() == ("", ""), "the child's traceback is nobody's business"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"model": {}}', '{"version": "1.0", "model": {"type": "BPE", "vocab": [], "merges": []}}']
)
def test_what_is_no_tokenizer_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(FormatError, match=r"^tokenizer\.json cannot be loaded: [^\n]+$"):
        tokens.tokenize(tmp_path, ["a"])


def test_a_tokenizer_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SECONDS", 1)
    slow = {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "NFKC"}] * 20_000}
    with pytest.raises(FormatError, match="more than 1 s of processor time"):
        tokens.tokenized(written(tmp_path, normalizer=slow), ["\u00e9" * 200_000])


def test_a_tokenizer_that_takes_all_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MEMORY_BYTES", 128 << 20)
    growing = {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 64} for _ in range(6)
    ]}  # fmt: skip
    with pytest.raises(FormatError, match="more memory than a tokenizer may"):
        tokens.tokenized(written(tmp_path, normalizer=growing), ["a" * 1000])


def test_one_request_serves_every_folder_with_the_same_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(*arguments: object, **named: object) -> bytearray:
        asked.append(len(named["documents"]))  # type: ignore[arg-type]  # a list of bytes
        return child.ask(*arguments, **named)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(tokens, "ask", counted)
    monkeypatch.setattr(tokens, "_remembered", OrderedDict())
    for name in ("source", "artifact"):
        (tmp_path / name).mkdir()
        shutil.copy(SAMPLE / "tokenizer.json", tmp_path / name)
    other = json.loads((SAMPLE / "tokenizer.json").read_text()) | {"post_processor": None}
    source, beside = tokens.tokenized_beside(tmp_path / "source", other, LINES)
    assert tokens.tokenized(tmp_path / "artifact", LINES) == source
    assert asked == [2]
    assert beside.plain == source.plain == beside.special != source.special
    assert tokens.tokenize(tmp_path / "source", LINES, special=True) == source.special
    assert source.decoded == LINES


@pytest.mark.parametrize(
    "said",
    ["7", "[]", "[[]]", "[[[], [], []]]", '[[[["a"]], [[]], [""]]]', "[[[[-1]], [[]], [7]]]", "[[7, 7, 7]]", "["],
)
def test_an_answer_is_not_believed(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "ask", lambda *_, **__: said.encode())
    with pytest.raises(FormatError, match="nonsense"):
        tokens.tokenized_by([b"{}"], ["one text"])


@pytest.mark.parametrize("said", [b"7", b"[]", b"[[[7]], [[7]]]", b'[[["a"]], [[7]], [""]]', b"[", b"\xff"])
def test_an_answer_of_llama_cpps_is_not_believed_either(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(llama, "ask", lambda *_, **__: bytearray(said))
    with pytest.raises(FormatError, match=r"x\.gguf makes its reader answer nonsense"):
        llama.tokenize(tmp_path / "x.gguf", ["one text"])
    with pytest.raises(FormatError, match="another vocabulary"):
        llama.logits(tmp_path / "x.gguf", [[7]], 100)
    with pytest.raises(FormatError, match="other vectors"):
        llama.vectors(tmp_path / "x.gguf", [[7]], 1, 100)
