"""A tiny random model of every family: transformers' own classes, and a tokenizer of the kind that family has."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tiny_models import LLAMA3, TEMPLATE

from citrate.formats.sentencepiece_file import UNIGRAM_NAME

ROOT = Path(__file__).parents[2]
CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\ntags:\n- tiny\n---\n# A random model for tests\n"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
Builder = Callable[[Path], None]
SIZE = 600
"""Tokens of a vocabulary."""
EXTRA: list[str] = []
"""More text to train tokenizers on, whose every character they then know."""


def corpus() -> list[str]:
    texts = [path.read_text() for path in sorted((ROOT / "citrate" / "core").glob("*.py"))]
    return [
        *(ROOT / "README.md").read_text().splitlines(),
        *texts,
        "Ångström naïve café, Привет мир, 你好世界 123 4567",
        *EXTRA,
    ]


def build(root: Path, config: Any, kind: Any, *, scale: float = 3.0, dtype: str = "bfloat16") -> None:
    """Save a random model whose predictions are not flat."""
    import torch

    torch.manual_seed(0)
    network = kind(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.normal_(mean=1, std=0.1)
    network.to(getattr(torch, dtype)).save_pretrained(root)
    (root / "README.md").write_text(CARD)


def decoder(**changes: Any) -> dict[str, Any]:
    """What the decoders' configurations have in common."""
    numbers = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "max_position_embeddings": 512}
    return {**numbers, "num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": False, **changes}


def byte_level(root: Path, expression: str, *, begin: str, end: str, nfc: bool, whole_words: bool) -> int:
    """A byte-level BPE as Llama 3 and Qwen have it; returns its size."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import trainers as training
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = training.BpeTrainer(vocab_size=SIZE - 100, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([token for token in (begin, end, "<|start|>", "<|endoftext|>") if token])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
    steps: list[Any] = [processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)]
    if begin:
        index = tokenizer.token_to_id(begin)
        pair = f"{begin}:0 $A:0 {begin}:1 $B:1"
        steps.append(processors.TemplateProcessing(single=f"{begin} $A", pair=pair, special_tokens=[(begin, index)]))
    tokenizer.post_processor = processors.Sequence(steps) if begin else steps[0]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin or None, eos_token=end, pad_token="<|endoftext|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(root)
    return len(fast)


def sentencepiece_bpe(root: Path, *, controls: tuple[str, ...] = (), scheme: str = "") -> int:
    """tokenizer.model as Llama 2 and Mistral have it, and the tokenizer.json that transformers makes of it: by its
    first port, or with Metaspace's ``scheme``."""
    import sentencepiece

    trained = root / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(corpus()).splitlines()),
        model_prefix=str(trained),
        vocab_size=SIZE,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        control_symbols=list(controls),
        character_coverage=0.999 if EXTRA else 0.99,
        num_threads=1,
        minloglevel=2,
    )
    (root / "tokenizer.vocab").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(root / "tokenizer.model"))
    vocabulary = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in vocabulary.values()}
    halves = [
        (token[:cut], token[cut:])
        for token, index in vocabulary.items()
        if not (pieces.is_control(index) or pieces.is_unknown(index) or pieces.is_byte(index))
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    merges = sorted(halves, key=lambda pair: (scores[pair[0] + pair[1]], len(pair[0]), len(pair[1])), reverse=True)
    _save_llama_tokenizer(root, vocabulary, merges, ("<unk>", "<s>", "</s>", *controls), scheme)
    return len(vocabulary)


def _save_llama_tokenizer(
    root: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], added: tuple[str, ...], scheme: str
) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    bpe = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    tokenizer = Tokenizer(bpe)
    if scheme:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(root / "tokenizer.json"))
    entry = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": True,
        "added_tokens_decoder": {str(vocabulary[token]): {"content": token, **entry} for token in added},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": TEMPLATE,
    }
    (root / "tokenizer_config.json").write_text(json.dumps(settings))


def llama2(root: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = sentencepiece_bpe(root)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    build(root, LlamaConfig(vocab_size=size, rope_parameters=rope, **decoder(num_key_value_heads=8)), LlamaForCausalLM)


def llama3(root: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = byte_level(root, LLAMA3, begin="<|begin|>", end="<|end|>", nfc=False, whole_words=True)
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    build(root, LlamaConfig(vocab_size=size, rope_parameters=rope, **decoder()), LlamaForCausalLM)


def llama31(root: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = byte_level(root, LLAMA3, begin="<|begin|>", end="<|end|>", nfc=False, whole_words=True)
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 512, "tie_word_embeddings": True}
    config = LlamaConfig(vocab_size=size, rope_parameters=rope, **decoder(**heads))
    build(root, config, LlamaForCausalLM, scale=2.0)


def mistral(root: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    size = sentencepiece_bpe(root, controls=("[INST]", "[/INST]", "[TOOL_CALLS]"), scheme="first")
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    config = MistralConfig(vocab_size=size, sliding_window=None, rope_parameters=rope, **decoder(rms_norm_eps=1e-5))
    build(root, config, MistralForCausalLM)


def qwen2(root: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    size = byte_level(root, QWEN2, begin="", end="<|im_end|>", nfc=True, whole_words=False)
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    tied = decoder(tie_word_embeddings=True)
    build(root, Qwen2Config(vocab_size=size + 27, rope_parameters=rope, bos_token_id=3, **tied), Qwen2ForCausalLM)


def qwen25(root: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    size = byte_level(root, QWEN2, begin="", end="<|im_end|>", nfc=True, whole_words=False)
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "rope_theta": 1000000.0}
    config = Qwen2Config(vocab_size=size, rope_parameters=rope, **decoder(max_position_embeddings=1024))
    build(root, config, Qwen2ForCausalLM)


def qwen3(root: Path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = byte_level(root, QWEN2, begin="", end="<|im_end|>", nfc=True, whole_words=False)
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    build(root, Qwen3Config(vocab_size=size, head_dim=64, rope_parameters=rope, **decoder()), Qwen3ForCausalLM)


def encoder_settings(root: Path, mode: str, normalize: bool = True) -> None:
    """What sentence-transformers keeps beside an embedding model."""
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (root / "modules.json").write_text(json.dumps(modules))
    (root / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 96, "pooling_mode_cls_token": mode == "cls"}
    pooling |= {"pooling_mode_mean_tokens": mode == "mean", "pooling_mode_lasttoken": mode == "lasttoken"}
    (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (root / "2_Normalize").mkdir()


def wordpiece(root: Path) -> int:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    bert = BertTokenizer(vocab=tokenizer.get_vocab())
    bert.save_pretrained(root)
    return len(bert)


def unigram(root: Path, *, own_file: bool = False) -> int:
    """A SentencePiece unigram as XLM-RoBERTa has it; with ``own_file`` SentencePiece's own file lies beside."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    from transformers import XLMRobertaTokenizer

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(corpus()).splitlines()),
        model_writer=written,
        vocab_size=SIZE,
        model_type="unigram",
        character_coverage=1.0 if EXTRA else 0.9995,
        num_threads=1,
        minloglevel=2,
    )
    trained = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    if own_file:
        (root / UNIGRAM_NAME).write_bytes(written.getvalue())
    pieces = [(piece.piece, piece.score) for piece in trained.pieces][3:]
    specials = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    table = trained.normalizer_spec.precompiled_charsmap
    vocabulary = [*specials, *pieces, ("<mask>", 0.0)]
    made = XLMRobertaTokenizer(vocabulary, _spm_precompiled_charsmap=table, clean_up_tokenization_spaces=True)
    made.save_pretrained(root)
    return len(made)


def minilm(root: Path) -> None:
    from transformers import BertConfig, BertModel

    size = wordpiece(root)
    encoder_settings(root, "mean")
    shape = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
    build(root, BertConfig(vocab_size=size, **shape), BertModel, scale=2.0, dtype="float32")


def bge_m3(root: Path, *, own_file: bool = False) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    size = unigram(root, own_file=own_file)
    encoder_settings(root, "cls")
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    shape |= {"max_position_embeddings": 514, "type_vocab_size": 1}
    config = XLMRobertaConfig(vocab_size=size, pad_token_id=1, bos_token_id=0, layer_norm_eps=1e-5, **shape)
    build(root, config, XLMRobertaModel, scale=2.0)


ENCODERS: dict[str, tuple[Builder, str]] = {
    "minilm": (minilm, "jina-v2-en"),
    "bge-m3": (bge_m3, ""),
    "bge-m3-as-published": (partial(bge_m3, own_file=True), ""),
}


def qwen3_embedding(root: Path) -> None:
    qwen3(root)
    encoder_settings(root, "lasttoken")


DECODERS: dict[str, tuple[Builder, str]] = {
    # name -> how it is built, and llama.cpp's name of how its text is cut first
    "llama2": (llama2, ""),
    "llama3": (llama3, "llama-bpe"),
    "llama31": (llama31, "llama-bpe"),
    "mistral": (mistral, ""),
    "qwen2": (qwen2, "qwen2"),
    "qwen25": (qwen25, "qwen2"),
    "qwen3": (qwen3, "qwen2"),
    "qwen3-embedding": (qwen3_embedding, "qwen2"),
}
