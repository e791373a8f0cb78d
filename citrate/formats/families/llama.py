"""Llama 2, 3 and 3.1 (``LlamaForCausalLM``): tensor names, shapes, rotary scaling, and what llama.cpp expects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from citrate.core.errors import FormatError
from citrate.formats.configuration import Config, number
from citrate.formats.families.family import Family, Shapes

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INTERMEDIATE_MAX = 1 << 19


def shapes(config: Config) -> Shapes:
    """Every tensor of the checkpoint; a tied model has no ``lm_head.weight``."""
    hidden, vocab, inner = config.hidden_size, config.vocab_size, _intermediate(config)
    q_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
    expected: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tied:
        expected["lm_head.weight"] = (vocab, hidden)
    for i in range(config.layers):
        prefix = f"model.layers.{i}."
        expected |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (q_rows, hidden),
            prefix + "self_attn.k_proj.weight": (kv_rows, hidden),
            prefix + "self_attn.v_proj.weight": (kv_rows, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, q_rows),
            prefix + "mlp.gate_proj.weight": (inner, hidden),
            prefix + "mlp.up_proj.weight": (inner, hidden),
            prefix + "mlp.down_proj.weight": (hidden, inner),
        }
    return expected


def ignored(config: Config, name: str) -> bool:
    """Rotary frequencies, which every loader computes, and the output matrix of a model that ties it."""
    return name.endswith(".rotary_emb.inv_freq") or (config.tied and name == "lm_head.weight")


def gguf_name(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` -> ``blk.3.ffn_up.weight``."""
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    match = _LAYER.fullmatch(name)
    if not match or match[2] not in _LAYER_NAMES:
        raise FormatError(f"tensor {name!r} has no name in GGUF")
    return f"blk.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"


def permuted_heads(config: Config, name: str) -> int:
    """Queries and keys: llama.cpp rotates neighbouring rows, transformers the two halves of a head."""
    if name.endswith("self_attn.q_proj.weight"):
        return config.heads
    return config.kv_heads if name.endswith("self_attn.k_proj.weight") else 0


def unsupported(config: Config) -> str:
    """Why this Llama cannot be converted; empty where it can."""
    document = config.document
    for key in ("attention_bias", "mlp_bias"):
        if document.get(key):
            return f"{key} is set, and llama.cpp's Llama has none"
    if document.get("quantization_config") or document.get("quantization"):
        return "its weights are quantised already"
    if config.model_type != "llama":
        return f"its model_type is {config.model_type!r:.40}, not llama"
    if document.get("hidden_act", "silu") != "silu":
        return f"hidden_act is {document['hidden_act']!r:.40}, not silu"
    if config.heads < 1 or config.kv_heads < 1 or config.heads % config.kv_heads or config.head_dim % 2:
        return "its attention heads do not divide"
    kind = config.rope["rope_type"]
    return "" if kind in ("default", "linear", "llama3") else f"rope type {kind!r:.40} is not supported yet"


def gguf_metadata(config: Config) -> Mapping[str, int | float | str]:
    """The ``llama.*`` keys."""
    rope = config.rope
    metadata: dict[str, int | float | str] = {
        "block_count": config.layers,
        "context_length": config.context_length or 2048,  # transformers' default
        "embedding_length": config.hidden_size,
        "feed_forward_length": _intermediate(config),
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "rope.freq_base": number(rope, "rope_theta"),
        "attention.layer_norm_rms_epsilon": number(config.document, "rms_norm_eps", 1e-6),
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "vocab_size": config.vocab_size,
        "rope.dimension_count": config.head_dim,
    }
    if rope["rope_type"] == "linear":
        metadata["rope.scaling.type"] = "linear"
        metadata["rope.scaling.factor"] = number(rope, "factor")
    return metadata


def rope_factors(config: Config) -> tuple[float, ...]:
    """Llama 3.1's divisors of the rotary frequencies (arXiv:2407.21783, section 3.2; empty for other types).

    Long wavelengths are stretched by ``factor``, short ones kept, those between interpolated.
    """
    rope = config.rope
    if rope["rope_type"] != "llama3":
        return ()
    factor, old_context = number(rope, "factor"), number(rope, "original_max_position_embeddings", 8192.0)
    low, high = number(rope, "low_freq_factor", 1.0), number(rope, "high_freq_factor", 4.0)
    theta = number(rope, "rope_theta")
    if factor <= 0 or old_context <= 0 or low <= 0 or high <= low or theta <= 0:
        raise FormatError("config.json: the llama3 rope parameters are not credible")
    factors = []
    for i in range(0, config.head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / config.head_dim)
        if wavelength < old_context / high:
            factors.append(1.0)
        elif wavelength > old_context / low:
            factors.append(factor)
        else:
            smooth = (old_context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(factors)


def _intermediate(config: Config) -> int:
    size = config.document.get("intermediate_size")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _INTERMEDIATE_MAX:
        raise FormatError(f"config.json: intermediate_size = {size!r:.40} is not credible")
    return size


FAMILY = Family(
    name="llama",
    gguf_architecture="llama",
    shapes=shapes,
    ignored=ignored,
    gguf_name=gguf_name,
    permuted_heads=permuted_heads,
    unsupported=unsupported,
    gguf_metadata=gguf_metadata,
    rope_factors=rope_factors,
)
