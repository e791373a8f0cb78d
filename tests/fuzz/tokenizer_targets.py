"""Targets that read tokenizers: ours, which make GGUF vocabularies of each kind, and the library as its child does."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from pathlib import Path

from mutations import mutated_json
from target import Target, in_place

from citrate.core.canonical import Json
from citrate.core.confinement import tokenizing_process
from citrate.formats import vocabulary
from citrate.formats.configuration import Config, read_config
from citrate.formats.sentencepiece_file import read_scores

_SPACE = "\u2581"
_TEXTS = ["", "a b", " ab\n\tba ", "é\u0301中\ufb01 \U0001f600 12", "<s>a</s>", "a" * 300, "\u2581\u00a0\u3000"]
_SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def tokenizer_targets(folder: Path) -> Mapping[str, Target]:
    """Each kind with a folder of its own below ``folder``."""
    kinds = {"wordpiece": _wordpiece(), "unigram": _unigram(), "spm": _spm()}
    found: dict[str, Target] = {}
    for kind, document in kinds.items():
        root = _folder(folder / kind, kind)
        seed = json.dumps(document).encode()
        (root / "tokenizer.json").write_bytes(seed)
        run = in_place(root, "tokenizer.json", _Read(read_config(root)))
        found[f"tokenizer-{kind}"] = Target(run, (seed,), mutate=mutated_json, inputs=250)
    root = folder / "spm"
    run = in_place(root, "tokenizer.model", _Read(read_config(root)))
    found["sentencepiece"] = Target(run, _sentencepiece(), inputs=400)
    documents = tuple(json.dumps(document).encode() for document in (*kinds.values(), *_others()))
    found["tokenizer-library"] = Target(_cut, documents, mutate=mutated_json, inputs=300)
    return found


class _Read:
    """Read a folder's tokenizer as conversion and check do."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, root: Path) -> None:
        vocabulary.read_vocabulary(root, self._config).metadata()
        vocabulary.deviation(root)
        read_scores(root)


def _cut(data: bytes) -> None:
    texts: list[Json] = list(_TEXTS)
    tokenizing_process.answer({"texts": texts}, [data])


def _folder(root: Path, kind: str) -> Path:
    root.mkdir()
    classes = {"wordpiece": "BertModel", "unigram": "XLMRobertaModel", "spm": "LlamaForCausalLM"}
    config = {"architectures": [classes[kind]], "vocab_size": 300, "type_vocab_size": 1, "bos_token_id": 1}
    (root / "config.json").write_text(json.dumps(config))
    (root / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return root


def _document(model: Mapping[str, object], specials: Mapping[str, int], **parts: object) -> dict[str, object]:
    added = [{"id": index, "content": content, **_SPECIAL} for content, index in specials.items()]
    first, *_, last = specials
    template = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    ends = {
        "type": "TemplateProcessing",
        "single": [*template, {"SpecialToken": {"id": last, "type_id": 0}}],
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [specials[name]], "tokens": [name]} for name in (first, last)},
    }
    plain = {"truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None, "decoder": None}
    return {"version": "1.0", "added_tokens": added, **plain, "post_processor": ends, "model": model, **parts}


def _wordpiece() -> dict[str, object]:
    words = ["[CLS]", "[UNK]", "[SEP]", "a", "b", "##a", "##b", "ab", "中", "##12"]
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    normalizer = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return _document(
        {**model, "max_input_chars_per_word": 100, "vocab": {word: index for index, word in enumerate(words)}},
        {"[CLS]": 0, "[UNK]": 1, "[SEP]": 2},
        normalizer={"type": "BertNormalizer", **normalizer},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )


def _unigram() -> dict[str, object]:
    pieces = [["<s>", 0.0], ["<unk>", 0.0], ["</s>", 0.0], [_SPACE, -1.0], ["a", -2.0], [f"{_SPACE}a", -2.5], ["b", -3]]
    table = struct.pack("<I", 2048) + bytes(2048) + b"a\0"
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
    return _document(
        {"type": "Unigram", "unk_id": 1, "vocab": pieces, "byte_fallback": False},
        {"<s>": 0, "<unk>": 1, "</s>": 2},
        normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        decoder=metaspace,
    )


def _spm() -> dict[str, object]:
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), _SPACE, "a", "b", "ab", f"{_SPACE}a"]
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    steps = [{"type": "Prepend", "prepend": _SPACE}, {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    vocab = {word: index for index, word in enumerate(words)}
    return _document(
        {**model, "vocab": vocab, "merges": [["a", "b"], [_SPACE, "a"]]},
        {"<s>": 1, "<unk>": 0, "</s>": 2},
        normalizer={"type": "Sequence", "normalizers": steps},
        decoder={"type": "Sequence", "decoders": decoders},
    )


def _others() -> tuple[dict[str, object], ...]:
    """What our readers refuse and the library takes, with parts that have broken it."""
    words = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    bare = {"version": "1.0", "added_tokens": []}
    level = {"type": "WordLevel", "vocab": {"a": 0, "u": 1}, "unk_token": "u"}
    split = {"type": "Split", "pattern": {"Regex": r"\s+|a(?=b)"}, "behavior": "Isolated", "invert": False}
    return (
        {**bare, "model": {**words, "continuing_subword_prefix": "b", "end_of_word_suffix": "a", "dropout": None}},
        {**bare, "model": words, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "Digits"}]}},
        {**bare, "model": words, "pre_tokenizer": {"type": "FixedLength", "length": 2}},
        {**bare, "model": words, "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 1}},
        {**bare, "model": level, "normalizer": {"type": "NFKC"}},
    )


def _sentencepiece() -> tuple[bytes, ...]:
    """tokenizer.model as the library writes it: pieces with score and type, then how it was trained and normalises."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    def piece(text: str, score: float, kind: int) -> bytes:
        return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))

    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    words = json.loads(json.dumps(_spm()["model"]))["vocab"]
    for word in words:
        kinds.setdefault(word, 6 if word.startswith("<0x") else 1)
    pieces = [piece(word, -float(index), kinds[word]) for word, index in words.items()]
    trained = field(2, field(1, b"corpus.txt") + bytes([0x18, 2, 0x20, 0xAC, 0x02]))
    normal = field(3, field(1, b"identity") + field(2, bytes(9)) + bytes([0x18, 1]))
    few = b"".join(b"\x0a\x08\x0a\x01%c\x15\x00\x00\x80?" % letter for letter in b"abc")
    return b"".join((*pieces[:3], *pieces[-5:], trained, normal)), b"".join(pieces), few
