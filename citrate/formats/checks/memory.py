"""How much memory the comparison of outputs takes, reckoned before it starts."""

from __future__ import annotations

import psutil

from citrate.core.errors import UnavailableError
from citrate.formats.checks import reference
from citrate.formats.checks.network import LAYER
from citrate.formats.source import SourceModel

_WIDE = 4
"""Bytes of a weight or a logit while it is compared."""
_LIBRARIES = 1 << 30
"""What torch and transformers take by themselves, rounded up."""
_OUTPUTS_HELD = 3
"""The source's, the variant's, and the one that is just being made."""


def needed_bytes(model: SourceModel) -> int:
    """The memory of a full check: outputs, and the largest layer or embedding as float32 while it is read and used."""
    blocks: dict[str, int] = {}
    for tensor in model.tensors:
        layer = LAYER.fullmatch(tensor.name)
        block = layer[1] if layer else tensor.name
        blocks[block] = blocks.get(block, 0) + tensor.elements
    outputs = reference.most_positions(model.config) * max(model.config.vocab_size, model.config.hidden_size)
    return _WIDE * (2 * max(blocks.values(), default=0) + _OUTPUTS_HELD * outputs) + _LIBRARIES


def available_bytes() -> int:
    """The memory that this machine has left."""
    return int(psutil.virtual_memory().available)


def require(model: SourceModel) -> None:
    """Return if a full check of ``model`` fits.

    Raises:
        UnavailableError: it does not; nothing has been read.
    """
    needed, available = needed_bytes(model), available_bytes()
    if needed > available:
        raise UnavailableError(
            f"comparing outputs takes {needed / 1e9:.1f} GB of memory, there are {available / 1e9:.1f} GB",
            hint="use --checks tensors, which says in the manifest that logits were not run",
        )
