"""Whether an adapter fits a base model: the shape of each update against the model's numbers, or its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.core.records import Architecture
from citrate.formats.adapter import Adapter, LoraPair
from citrate.formats.documents import inside, names_in
from citrate.formats.safetensors_file import read_header
from citrate.formats.weights import SAFETENSORS

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d{1,6})\.")


def require_fits(adapter: Adapter, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that every update of an adapter has its place in a base model.

    Args:
        adapter: the adapter.
        architecture: the base's, from its manifest. A number of 0 is not known and not compared.
        shapes: the base's tensors by name, where they are here; else empty, and the architecture alone decides.

    Raises:
        FormatError: another base; the message says which tensor does not fit.
    """
    for pair in adapter.pairs:
        layer = _LAYER.search(f"{pair.module}.")
        if layer and architecture.layers and int(layer[1]) >= architecture.layers:
            raise _misfit(pair, f"the base has {architecture.layers} layers")
        if shapes:
            _require_tensor(pair, shapes)
        else:
            _require_numbers(pair, architecture)


def tensor_shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """The tensors of a model directory's safetensors files, by name.

    Raises:
        FormatError: a file is damaged.
    """
    shards = SAFETENSORS.shards(names_in(folder))
    return {tensor.name: tensor.shape for shard in shards for tensor in read_header(inside(folder, shard))}


def _require_tensor(pair: LoraPair, shapes: Mapping[str, tuple[int, ...]]) -> None:
    shape = shapes.get(f"{pair.module}.weight")
    if shape is None and pair.kind == "lm_head":
        return  # tied to the embedding, which is compared under its own name
    if shape is None:
        raise _misfit(pair, f"the base has no {pair.module}")
    if sorted(shape) != sorted((pair.in_features, pair.out_features)):  # a Conv1D is stored the other way round
        raise _misfit(pair, f"the base's {pair.module} is {' x '.join(map(str, shape))}")


def _require_numbers(pair: LoraPair, architecture: Architecture) -> None:
    hidden, heads = architecture.hidden_size, architecture.heads * architecture.head_dim
    shared = architecture.kv_heads * architecture.head_dim
    expected = {
        "q_proj": (hidden, heads),
        "k_proj": (hidden, shared),
        "v_proj": (hidden, shared),
        "o_proj": (heads, hidden),
        "qkv_proj": (hidden, heads + 2 * shared),
        "gate_proj": (hidden, 0),
        "up_proj": (hidden, 0),
        "gate_up_proj": (hidden, 0),
        "down_proj": (0, hidden),
        "query": (hidden, heads),
        "key": (hidden, shared),
        "value": (hidden, shared),
        "embed_tokens": (architecture.vocab_size, hidden),
        "lm_head": (hidden, architecture.vocab_size),
    }.get(pair.kind, (0, 0))
    for found, wanted, what in zip((pair.in_features, pair.out_features), expected, ("in", "out"), strict=True):
        if wanted and found != wanted:
            raise _misfit(pair, f"the base's {pair.kind} has {wanted} {what}")


def _misfit(pair: LoraPair, why: str) -> FormatError:
    return FormatError(
        f"the adapter does not fit this base: {pair.tensor} is an update of {pair.in_features} in, "
        f"{pair.out_features} out, and {why}",
        hint="name the version it was trained on: --base REF",
    )
