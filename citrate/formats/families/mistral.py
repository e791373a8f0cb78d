"""Mistral 7B v0.3: in GGUF a Llama. Releases with a sliding window are refused, since llama.cpp ignores it."""

from __future__ import annotations

from functools import partial

from citrate.formats.configuration import Config
from citrate.formats.families import decoder
from citrate.formats.families.family import Family, Layout, Output


def unsupported(config: Config) -> str:
    """Why this Mistral cannot be converted; empty where it can."""
    window = config.document.get("sliding_window")
    if isinstance(window, int) and window < (config.context_length or window):
        return f"it attends to a sliding window of {window} tokens, which llama.cpp and mlx-lm would ignore"
    return decoder.unsupported(config, "mistral", "default", "linear", "yarn")


FAMILY = Family(
    name="mistral",
    models="Mistral 7B v0.2, v0.3",
    class_names=("MistralForCausalLM",),
    output=Output.LOGITS,
    layout=Layout(
        gguf_architecture="llama",
        slots=partial(decoder.slots, permuted=True),
        ignored=decoder.ignored,
        unsupported=unsupported,
        gguf_metadata=decoder.as_llama,
    ),
)
