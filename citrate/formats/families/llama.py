"""Llama 2, 3 and 3.1: queries and keys are reordered for llama.cpp; 3.1 scales its rotary frequencies."""

from __future__ import annotations

from functools import partial

from citrate.formats.families import decoder, rope
from citrate.formats.families.family import Family, Layout, Output

FAMILY = Family(
    name="llama",
    models="Llama 2, 3, 3.1, and what has their shape",
    class_names=("LlamaForCausalLM",),
    output=Output.LOGITS,
    layout=Layout(
        gguf_architecture="llama",
        slots=partial(decoder.slots, permuted=True),
        ignored=decoder.ignored,
        unsupported=lambda config: decoder.unsupported(config, "llama", "default", "linear", "llama3", "yarn"),
        gguf_metadata=decoder.as_llama,
        rope_factors=rope.factors,
    ),
)
