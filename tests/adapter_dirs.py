"""Adapter directories for the tests, as PEFT writes them, but without torch."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

from citrate.formats.safetensors_file import Planned, header_bytes

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, INTERMEDIATE, VOCAB = 256, 4, 2, 64, 3, 512, 1024
FEATURES = {
    "q_proj": (HIDDEN, HEADS * HEAD_DIM),
    "k_proj": (HIDDEN, KV_HEADS * HEAD_DIM),
    "v_proj": (HIDDEN, KV_HEADS * HEAD_DIM),
    "o_proj": (HEADS * HEAD_DIM, HIDDEN),
    "gate_proj": (HIDDEN, INTERMEDIATE),
    "up_proj": (HIDDEN, INTERMEDIATE),
    "down_proj": (INTERMEDIATE, HIDDEN),
}
"""in and out features of the sample model's modules."""

_BELOW_TWO = bytes(byte & 0xBF for byte in range(256))
"""For a float32's highest byte: clears the exponent's first bit, so that random bytes are numbers, none above 2."""


def module_path(layer: int, kind: str) -> str:
    part = "mlp" if kind in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"model.layers.{layer}.{part}.{kind}"


def lora_tensors(
    rank: int = 8, modules: tuple[str, ...] = ("q_proj", "v_proj"), layers: int = LAYERS
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter's tensors for the sample model."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for kind in modules:
            inside, outside = FEATURES[kind]
            name = f"base_model.model.{module_path(layer, kind)}"
            shapes[f"{name}.lora_A.weight"] = (rank, inside)
            shapes[f"{name}.lora_B.weight"] = (outside, rank)
    return shapes


def write_adapter(
    folder: Path, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0, **config: object
) -> Path:
    """An adapter directory; ``config`` goes into adapter_config.json over PEFT's defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = lora_tensors() if shapes is None else shapes
    planned = [Planned(name, "F32", shape) for name, shape in sorted(shapes.items())]
    data = bytearray(random.Random(seed).randbytes(4 * sum(math.prod(each.shape) for each in planned)))
    data[3::4] = data[3::4].translate(_BELOW_TWO)
    (folder / "adapter_model.safetensors").write_bytes(header_bytes(planned, {"format": "pt"}) + data)
    document = {
        "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "bias": "none",
        "rank_pattern": {}, "modules_to_save": None, "base_model_name_or_path": "/home/somebody/models/base",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps({**document, **config}))
    return folder
