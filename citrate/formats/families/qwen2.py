"""Qwen 2 and 2.5: queries, keys and values have a bias; their rows stay as they are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from citrate.formats.configuration import Config
from citrate.formats.families import decoder, pooling
from citrate.formats.families.family import Family, Layout, Metadata, Output


def unsupported(config: Config, model_type: str = "qwen2") -> str:
    """Why this Qwen cannot be converted; empty where it can."""
    if config.document.get("use_sliding_window"):
        return "it attends to a sliding window, which llama.cpp and mlx-lm would ignore"
    return decoder.unsupported(config, model_type, "default", "linear", "yarn")


def metadata(config: Config, root: Path) -> Metadata:
    """A decoder's keys, and how a text becomes one vector where the model was tuned for that."""
    return {**decoder.metadata(config, root), **pooling.metadata(root)}


FAMILY = Family(
    name="qwen2",
    models="Qwen 2, 2.5",
    class_names=("Qwen2ForCausalLM",),
    output=Output.LOGITS,
    layout=Layout(
        gguf_architecture="qwen2",
        slots=partial(decoder.slots, biased=True),
        ignored=decoder.ignored,
        unsupported=unsupported,
        gguf_metadata=metadata,
    ),
)
