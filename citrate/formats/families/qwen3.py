"""Qwen 3: heads have a width of their own, and each head's queries and keys are normalised."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from citrate.formats.configuration import Config
from citrate.formats.families import decoder, pooling, qwen2
from citrate.formats.families.family import Family, Layout, Metadata, Output


def metadata(config: Config, root: Path) -> Metadata:
    """A decoder's keys, and how a text becomes one vector where the model was tuned for that."""
    return {**decoder.with_head_size(config, root), **pooling.metadata(root)}


FAMILY = Family(
    name="qwen3",
    models="Qwen 3 (dense), Qwen 3 Embedding",
    class_names=("Qwen3ForCausalLM",),
    output=Output.LOGITS,
    layout=Layout(
        gguf_architecture="qwen3",
        slots=partial(decoder.slots, head_norms=True),
        ignored=decoder.ignored,
        unsupported=partial(qwen2.unsupported, model_type="qwen3"),
        gguf_metadata=metadata,
    ),
)
