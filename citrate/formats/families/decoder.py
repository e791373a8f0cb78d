"""What the decoders share that follow Llama: tensor names, shapes, metadata, and what a configuration must hold."""

from __future__ import annotations

from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.configuration import Config, number
from citrate.formats.families import rope
from citrate.formats.families.family import Metadata, Slot

_INTERMEDIATE_MAX = 1 << 19


def slots(config: Config, *, permuted: bool = False, biased: bool = False, head_norms: bool = False) -> dict[str, Slot]:
    """The tensors of a checkpoint.

    Args:
        config: the model's configuration.
        permuted: llama.cpp rotates neighbouring rows of queries and keys, transformers the two halves of a head.
        biased: queries, keys and values have a bias.
        head_norms: each head's queries and keys are normalised.
    """
    hidden, vocab = config.hidden_size, config.vocab_size
    found = {
        "model.embed_tokens.weight": Slot((vocab, hidden), "token_embd.weight"),
        "model.norm.weight": Slot((hidden,), "output_norm.weight"),
    }
    if not config.tied:
        found["lm_head.weight"] = Slot((vocab, hidden), "output.weight")
    for i in range(config.layers):
        layer = _layer(config, permuted, biased, head_norms)
        found |= {
            f"model.layers.{i}.{name}": Slot(slot.shape, f"blk.{i}.{slot.gguf_name}", slot.heads)
            for name, slot in layer.items()
        }
    return found


def _layer(config: Config, permuted: bool, biased: bool, head_norms: bool) -> dict[str, Slot]:
    hidden, inner, width = config.hidden_size, intermediate_size(config), config.head_dim
    heads = {"q": config.heads, "k": config.kv_heads, "v": config.kv_heads}
    rows = {part: count * width for part, count in heads.items()}
    moved = {"q": config.heads, "k": config.kv_heads, "v": 0} if permuted else dict.fromkeys(heads, 0)
    layer = {
        "input_layernorm.weight": Slot((hidden,), "attn_norm.weight"),
        "post_attention_layernorm.weight": Slot((hidden,), "ffn_norm.weight"),
        "self_attn.o_proj.weight": Slot((hidden, rows["q"]), "attn_output.weight"),
        "mlp.gate_proj.weight": Slot((inner, hidden), "ffn_gate.weight"),
        "mlp.up_proj.weight": Slot((inner, hidden), "ffn_up.weight"),
        "mlp.down_proj.weight": Slot((hidden, inner), "ffn_down.weight"),
    }
    for part in heads:
        layer[f"self_attn.{part}_proj.weight"] = Slot((rows[part], hidden), f"attn_{part}.weight", moved[part])
        if biased:
            layer[f"self_attn.{part}_proj.bias"] = Slot((rows[part],), f"attn_{part}.bias")
    if head_norms:
        layer |= {f"self_attn.{part}_norm.weight": Slot((width,), f"attn_{part}_norm.weight") for part in "qk"}
    return layer


def ignored(config: Config, name: str) -> bool:
    """Rotary frequencies, which every loader computes, and the output matrix of a model that ties it."""
    return name.endswith(".rotary_emb.inv_freq") or (config.tied and name == "lm_head.weight")


def unsupported(config: Config, model_type: str, *ropes: str) -> str:
    """What every decoder must be; empty where it is. ``ropes``: the rotary scalings that the family has."""
    document = config.document
    for key in ("attention_bias", "mlp_bias"):
        if document.get(key):
            return f"{key} is set, and llama.cpp has none for this family"
    if document.get("quantization_config") or document.get("quantization"):
        return "its weights are quantised already"
    if config.model_type != model_type:
        return f"its model_type is {config.model_type!r:.40}, not {model_type}"
    kinds = document.get("layer_types")
    if isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds):
        return "some of its layers do not attend to the whole text"
    if document.get("hidden_act", "silu") != "silu":
        return f"hidden_act is {document['hidden_act']!r:.40}, not silu"
    missing = why_incomplete(config)
    if missing:
        return missing
    counts = (config.heads, config.kv_heads, config.head_dim)
    if min(counts) < 1 or config.heads % config.kv_heads or config.head_dim % 2:
        return "its attention heads do not divide"
    return rope.unsupported(config, *ropes)


def why_incomplete(config: Config) -> str:
    """What config.json must say of every model that is converted, and does not; empty where it says all."""
    told = {
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
    }
    missing = next((key for key, value in told.items() if not value), "")
    return f"config.json does not say {missing}" if missing else ""


def metadata(config: Config, _: Path) -> dict[str, bool | int | float | str]:
    """The keys that every decoder has, in llama.cpp's order."""
    found: dict[str, bool | int | float | str] = {
        "block_count": config.layers,
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "feed_forward_length": intermediate_size(config),
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        **rope.metadata(config),
        "attention.layer_norm_rms_epsilon": number(config.document, "rms_norm_eps", 1e-6),
    }
    return found


def with_head_size(config: Config, root: Path) -> Metadata:
    """As ``metadata``, and the width of a head, which is not the hidden size over the heads in every model."""
    lengths = {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    return {**metadata(config, root), **lengths}


def as_llama(config: Config, root: Path) -> Metadata:
    """As ``with_head_size``, and what llama.cpp's Llama states besides."""
    more = {"vocab_size": config.vocab_size, "rope.dimension_count": config.head_dim}
    return {**with_head_size(config, root), **more}


def intermediate_size(config: Config) -> int:
    """The width of the feed-forward layers.

    Raises:
        FormatError: it is missing or not credible.
    """
    size = config.document.get("intermediate_size")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _INTERMEDIATE_MAX:
        raise FormatError(f"config.json: intermediate_size = {size!r:.40} is not credible")
    return size
