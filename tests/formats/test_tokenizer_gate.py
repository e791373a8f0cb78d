"""The corpus, and tokenizers that know every character of it: llama.cpp agrees with the source, or what is told."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import family_models
import pytest
from tiny_models import Convert

from citrate.core.records import Check, Variant
from citrate.formats import check, open_model
from citrate.formats.checks import tokens
from citrate.formats.checks.corpus import committed, lines_for

KINDS = {
    "llama2": (family_models.llama2, {}),
    "llama3": (family_models.llama3, {}),
    "mistral": (family_models.mistral, {"tokens: spaces in front": 59}),
    "qwen2": (family_models.qwen2, {"tokens: letters in parts": 6}),
    "bert": (
        family_models.minilm,
        {"tokens: vowel signs, Korean syllables and words of over 100 characters": 29},
    ),
    "xlm-roberta": (family_models.bge_m3, {"tokens: letters in parts and rare spaces": 6}),
}
"""What a tokenizer is built by, and the lines that llama.cpp cannot cut as it does, at most."""


NO_SCRIPTS = {
    *("FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "ALEF", "PLANCK", "MICRO", "IDEOGRAPHIC", "KATAKANA-HIRAGANA"),
}
"""First words in the names of letters that stand for no script of their own."""


def test_the_corpus_has_what_tokenizers_disagree_on() -> None:
    lines = committed()
    assert len(lines) >= 200
    assert len({line.text for line in lines}) == len(lines)
    scripts = Counter(
        unicodedata.name(character, "").split(" ")[0]
        for line in lines
        for character in line.text
        if character.isalpha()
    )
    wanted = "LATIN GREEK CYRILLIC ARABIC HEBREW DEVANAGARI THAI CJK HIRAGANA KATAKANA HANGUL BENGALI TAMIL GEORGIAN"
    assert set(wanted.split()) <= scripts.keys()
    kinds = {line.kind for line in lines}
    assert {"emoji", "code", "maths", "spaces", "zero width", "control", "chat", "repeats", "numbers"} <= kinds
    whole = "".join(line.text for line in lines)
    assert all(character in whole for character in "\u00a0\t\r\n\u200b\u200d\u200c\ufeff\u0000\u007f\u3000\U0001f1e9")


def test_the_docs_say_in_how_many_scripts_the_corpus_is() -> None:
    letters = {character for line in committed() for character in line.text if character.isalpha()}
    found = {unicodedata.name(character, "").split(" ")[0] for character in letters} - NO_SCRIPTS
    assert f"{len(found)} scripts" in (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def test_added_tokens_come_with_text_spaces_and_each_other_around_them(llama: Path) -> None:
    texts = [line.text for line in lines_for(llama) if line.kind in ("added token", "chat turns")]
    for token in ("<|begin|>", "<|end|>", "<|start|>"):
        assert {token, f" {token} ", f"before {token} after", f"before{token}after", f"{token}{token}"} <= set(texts)
    assert any("user\n" in text and text.startswith("<|begin|>") for text in texts)


def test_an_added_token_of_many_pages_is_not_spelled_ten_times(tmp_path: Path) -> None:
    contents = ["x" * 1_000_000, "<a>", "<b>"]
    added = [{"id": place, "content": content} for place, content in enumerate(contents)]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    texts = [line.text for line in lines_for(tmp_path)]
    assert "before <b> after" in texts and max(map(len, texts)) < 100_000


def test_what_a_tokenizer_was_saved_to_cut_and_fill_up_to_is_no_part_of_it(llama: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "The ferry leaves at seven, unless the fog stays."
    assert tokens.tokenize(tmp_path, [text]) == tokens.tokenize(llama, [text])


@pytest.mark.models
@pytest.mark.parametrize("kind", KINDS)
def test_every_line_is_cut_as_by_the_source_or_as_is_told(
    kind: str, tmp_path: Path, converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, told = KINDS[kind]
    texts = [line.text.replace("\0", " ").replace("\n", " ") for line in committed()]
    monkeypatch.setattr(family_models, "EXTRA", texts * 3)
    monkeypatch.setattr(family_models, "SIZE", 2900)
    source = tmp_path / "source"
    source.mkdir()
    build(source)
    model = open_model(source)
    path, _ = converted(model, "gguf:Q8_0")
    results = {result.name: result for result in check(model, Variant.parse("gguf:Q8_0"), path, level="tensors")}
    assert results["tokens"] == Check("tokens", True, "0", "0")
    found = {name: int(result.value) for name, result in results.items() if name.startswith("tokens: ")}
    assert found.keys() == told.keys()
    assert all(0 < found[name] <= told[name] for name in told)
    known = tokens.tokenize(source, texts)
    words = {token for ids in known for token in ids}
    assert len(words) > 1000  # what is compared are words of every script, not one unknown token
