"""XLM-RoBERTa as an embedding model: BGE-M3. Its positions start behind the padding token's, so GGUF has fewer rows."""

from __future__ import annotations

from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.configuration import Config
from citrate.formats.families import encoder
from citrate.formats.families.family import Family, Layout, Metadata, Output, Slot


def slots(config: Config) -> dict[str, Slot]:
    """The tensors of a checkpoint."""
    return encoder.slots(config, _offset(config))


def metadata(config: Config, root: Path) -> Metadata:
    """The keys of an encoder with as many positions as tokens can have."""
    return encoder.metadata(config, root, _offset(config))


def _offset(config: Config) -> int:
    """How many positions stand before that of the first token."""
    padding = config.document.get("pad_token_id", 1)
    if not isinstance(padding, int) or isinstance(padding, bool) or not 0 <= padding < config.context_length - 1:
        raise FormatError(f"config.json: pad_token_id = {padding!r:.40} leaves no positions")
    return padding + 1


FAMILY = Family(
    name="xlm-roberta",
    models="XLM-RoBERTa embedding models: BGE-M3 (dense vectors)",
    class_names=("XLMRobertaModel",),
    output=Output.EMBEDDING,
    layout=Layout(
        gguf_architecture="bert",
        slots=slots,
        ignored=encoder.ignored,
        unsupported=lambda config: encoder.unsupported(config, "xlm-roberta"),
        gguf_metadata=metadata,
    ),
    refusals=encoder.REFUSALS,
)
