"""What the encoders share that follow BERT: tensor names, shapes and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.core.records import Format
from citrate.formats.configuration import Config, number
from citrate.formats.families import pooling
from citrate.formats.families.decoder import intermediate_size, why_incomplete
from citrate.formats.families.family import Metadata, Slot

REFUSALS: Mapping[Format, str] = {
    Format.MLX: "mlx-lm runs no encoders, so nothing could be checked against it",
    Format.TENSORRT_LLM: "citrate has ModelOpt quantise decoders only",
}

_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def slots(config: Config, positions_cut: int = 0) -> dict[str, Slot]:
    """The tensors of a checkpoint; ``positions_cut`` rows at the start of the positions stand for no token."""
    hidden, inner = config.hidden_size, intermediate_size(config)
    tables = {"word": "token_embd", "position": "position_embd", "token_type": "token_types"}
    rows = {"word": config.vocab_size, "position": config.context_length, "token_type": segments(config)}
    found = {
        f"embeddings.{table}_embeddings.weight": Slot((rows[table], hidden), f"{name}.weight")
        for table, name in tables.items()
    }
    positions = "embeddings.position_embeddings.weight"
    found[positions] = Slot(found[positions].shape, found[positions].gguf_name, rows_cut=positions_cut)
    widths = {"ffn_up": (inner, hidden), "ffn_down": (hidden, inner)}
    names = {"embeddings.LayerNorm": "token_embd_norm"}
    for i in range(config.layers):
        names |= {f"encoder.layer.{i}.{name}": f"blk.{i}.{gguf}" for name, gguf in _LAYER.items()}
    for name, gguf in names.items():
        matrix = widths.get(gguf.rpartition(".")[2], (hidden, hidden))
        found[f"{name}.weight"] = Slot(matrix[:1] if gguf.endswith("_norm") else matrix, f"{gguf}.weight")
        found[f"{name}.bias"] = Slot(matrix[:1], f"{gguf}.bias")
    return found


def ignored(_: Config, name: str) -> bool:
    """The pooler of BERT's first training task, which embeddings do not use, and numbers that every loader makes."""
    return name.startswith("pooler.") or name == "embeddings.position_ids"


def unsupported(config: Config, model_type: str) -> str:
    """What every encoder must be; empty where it is."""
    document = config.document
    if config.model_type != model_type:
        return f"its model_type is {config.model_type!r:.40}, not {model_type}"
    if document.get("hidden_act", "gelu") != "gelu":
        return f"hidden_act is {document['hidden_act']!r:.40}, not gelu"
    if document.get("position_embedding_type", "absolute") != "absolute":
        return "its positions are not absolute"
    if document.get("is_decoder") or document.get("add_cross_attention"):
        return "it is set up as a decoder"
    missing = why_incomplete(config)
    if missing:
        return missing
    if config.heads < 1 or config.hidden_size % config.heads:
        return "its attention heads do not divide"
    return ""


def metadata(config: Config, root: Path, positions_cut: int = 0) -> Metadata:
    """The keys of an encoder, in llama.cpp's order."""
    keys: dict[str, bool | int | float | str] = {
        "block_count": config.layers,
        "context_length": config.context_length - positions_cut,
        "embedding_length": config.hidden_size,
        "feed_forward_length": intermediate_size(config),
        "attention.head_count": config.heads,
        "attention.layer_norm_epsilon": number(config.document, "layer_norm_eps", 1e-12),
        "attention.causal": False,
    }
    return {**keys, **pooling.metadata(root)}


def segments(config: Config) -> int:
    """How many kinds of segments the model tells apart."""
    count = config.document.get("type_vocab_size", 2)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 256:
        raise FormatError(f"config.json: type_vocab_size = {count!r:.40} is not credible")
    return count
