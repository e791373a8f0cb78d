"""Qwen 3: heads have a width of their own, and each head's queries and keys are normalised."""

from __future__ import annotations

from functools import partial

from citrate.formats.families import decoder, qwen2
from citrate.formats.families.family import Family, Layout, Output

FAMILY = Family(
    name="qwen3",
    models="Qwen 3 (dense)",
    class_names=("Qwen3ForCausalLM",),
    output=Output.LOGITS,
    layout=Layout(
        gguf_architecture="qwen3",
        slots=partial(decoder.slots, head_norms=True),
        ignored=decoder.ignored,
        unsupported=partial(qwen2.unsupported, model_type="qwen3"),
        gguf_metadata=decoder.with_head_size,
    ),
)
