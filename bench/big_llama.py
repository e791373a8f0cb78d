"""A generated Llama of about 2.2 GB in bfloat16, two shards and a tokenizer: what conversion benchmarks read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from citrate.formats.dtypes import to_bfloat16
from citrate.formats.safetensors_file import Planned, header_bytes

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2048, 8192, 16, 32, 8, 64, 32000
_EXPRESSION = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make(root: Path, layers: int = LAYERS) -> Path:
    """Write the model into ``root``, with seeded random weights of standard deviation 0.02."""
    root.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }
    (root / "config.json").write_text(json.dumps(config))
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights for benchmarks.\n")
    (root / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    tensors = _tensors(layers)
    half = len(tensors) // 2
    weight_map: dict[str, str] = {}
    for number, part in enumerate((tensors[:half], tensors[half:]), start=1):
        name = f"model-{number:05d}-of-00002.safetensors"
        _write(root / name, part, seed=number)
        weight_map |= {tensor.name: name for tensor in part}
    (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return root


def _tensors(layers: int) -> list[Planned]:
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (VOCABULARY, HIDDEN),
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for i in range(layers):
        prefix = f"model.layers.{i}."
        shapes |= {
            prefix + "input_layernorm.weight": (HIDDEN,),
            prefix + "mlp.down_proj.weight": (HIDDEN, INNER),
            prefix + "mlp.gate_proj.weight": (INNER, HIDDEN),
            prefix + "mlp.up_proj.weight": (INNER, HIDDEN),
            prefix + "post_attention_layernorm.weight": (HIDDEN,),
            prefix + "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            prefix + "self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
        }
    return [Planned(name, "BF16", shape) for name, shape in shapes.items()]


def _write(path: Path, tensors: Sequence[Planned], seed: int) -> None:
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(header_bytes(tensors, {"format": "pt"}))
        for tensor in tensors:
            left = tensor.size_bytes // 2
            while left:
                count = min(left, 1 << 22)
                values = random.standard_normal(count, np.float32) * np.float32(0.02)
                file.write(to_bfloat16(values if len(tensor.shape) > 1 else np.ones(count, np.float32)).data)
                left -= count


def _tokenizer() -> dict[str, object]:
    """A byte-level BPE of the full size: 256 bytes, pairs of them, and two special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]
    pairs = [(a, b) for a in alphabet for b in alphabet][: VOCABULARY - 258]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in pairs)])}
    added = [
        {"id": VOCABULARY - 2 + i, "content": content, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for i, content in enumerate(("<|begin|>", "<|end|>"))
    ]
    split = {"type": "Split", "pattern": {"Regex": _EXPRESSION}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [f"{a} {b}" for a, b in pairs]},
    }
