"""BERT as an embedding model: all-MiniLM, BGE small, base and large."""

from __future__ import annotations

from functools import partial

from citrate.formats.families import encoder
from citrate.formats.families.family import Family, Layout, Output

FAMILY = Family(
    name="bert",
    models="BERT embedding models: all-MiniLM, BGE v1.5",
    class_names=("BertModel",),
    output=Output.EMBEDDING,
    layout=Layout(
        gguf_architecture="bert",
        slots=encoder.slots,
        ignored=encoder.ignored,
        unsupported=partial(encoder.unsupported, model_type="bert"),
        gguf_metadata=encoder.metadata,
    ),
    refusals=encoder.REFUSALS,
)
