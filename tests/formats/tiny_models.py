"""Tiny random Llamas, made by transformers itself, and a sink that is a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from citrate.core.records import FileEntry
from citrate.core.sink import Buffer
from citrate.formats import Conversion

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Convert = Callable[..., tuple[Path, Conversion]]
"""Model, variant (and threads) -> the artifact (a file if it is bare) and the report."""

TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
SPECIALS = ["<|begin|>", "<|end|>", "<|start|>"]


class FolderFile:
    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name, self._file, self._hash, self._size = name, path.open("wb"), hashlib.sha256(), 0

    def write(self, data: Buffer) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += memoryview(data).nbytes

    def close(self) -> FileEntry:
        self._file.close()
        return FileEntry(self._name, self._size, self._hash.hexdigest(), cid="")


class FolderSink:
    """Writes into a folder; remembers what was promised, to compare with what came."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.promised: dict[str, int | None] = {}

    def open(self, path: str, size_bytes: int | None = None) -> FolderFile:
        assert path not in self.promised
        self.promised[path] = size_bytes
        return FolderFile(self.root / path, path)

    def sizes_kept(self) -> bool:
        return all(size in (None, (self.root / name).stat().st_size) for name, size in self.promised.items())


def make_llama(
    root: Path,
    *,
    hidden: int = 256,
    layers: int = 2,
    tied: bool = False,
    dtype: str = "bfloat16",
    rope: dict[str, object] | None = None,
    shard: str = "5GB",
    vocab: int = 600,
    seed: int = 0,
) -> Path:
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=False))
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [(Path(__file__).parents[2] / "citrate/core/errors.py").read_text()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab - 3, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        rope_parameters=rope or {"rope_type": "default", "rope_theta": 50000.0},
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(root, max_shard_size=shard)
    fast.save_pretrained(root)
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A random Llama for tests\n")
    return root


def make_sentencepiece(root: Path, *, scheme: str = "") -> Path:
    """Give the model at ``root`` a tokenizer as Llama 2 has it: byte fallback, spaces as pieces, every merge of a
    piece; the space in front comes from a normalizer, or with ``scheme`` from the Metaspace cutter."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    trainer = trainers.BpeTrainer(vocab_size=330, show_progress=False)
    tokenizer.train_from_iterator([(Path(__file__).parents[2] / "citrate/core/errors.py").read_text()], trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [token for token in trained["vocab"] if token not in pieces]
    vocabulary = {token: index for index, token in enumerate(pieces[:597])}
    merges = [
        [token[:cut], token[cut:]]
        for token in vocabulary
        for cut in range(1, len(token))
        if not token.startswith("<") and token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    document = json.loads((root / "tokenizer.json").read_text())
    document["model"] |= {"vocab": vocabulary, "merges": merges, "byte_fallback": True, "fuse_unk": True}
    document["model"] |= {"unk_token": "<unk>", "ignore_merges": False}
    blank = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] = [{"id": index, "content": pieces[index], **blank} for index in range(3)]
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    prefix, replace = normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([prefix, replace])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme or "always", split=False)
    made = json.loads(tokenizer.to_str())
    document["normalizer"] = None if scheme else made["normalizer"]
    document["pre_tokenizer"] = made["pre_tokenizer"] if scheme else None
    (root / "tokenizer.json").write_text(json.dumps(document))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (root / "tokenizer_config.json").write_text(json.dumps(settings))
    return root
