"""Tiny models and adapters that PEFT trains on them, and what PEFT makes of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_models import FolderSink

from citrate.formats import open_model
from citrate.formats.dtypes import to_float32
from citrate.formats.merging import How, Method
from citrate.formats.merging_adapters import AdapterMerge, open_for_merging
from citrate.formats.merging_writing import Output, write_merged
from citrate.formats.streaming import read_bytes

NUMBERS = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 64,
}  # fmt: skip
WORDS = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 160, "n_positions": 64}


def make(root: Path, kind: str = "Llama", dtype: str = "bfloat16", seed: int = 0, **changes: Any) -> Path:
    """A random model of one of transformers' classes, without a tokenizer."""
    import torch
    import transformers

    torch.manual_seed(seed)
    numbers = WORDS if kind == "GPT2" else {**NUMBERS, "tie_word_embeddings": False}
    config = getattr(transformers, f"{kind}Config")(**{**numbers, **changes})
    name = f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.to(getattr(torch, dtype)).save_pretrained(root)
    return root


def trained(base: Path, root: Path, dtype: str = "", seed: int = 1, **settings: Any) -> Path:
    """An adapter on ``base`` as PEFT saves it after a training; ``dtype`` is that of its factors."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(loaded(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.normal_(std=0.1)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    (model.to(getattr(torch, dtype)) if dtype else model).save_pretrained(str(root))
    return root


def loaded(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype="auto")


def merged_by_peft(base: Path, adapters: Sequence[Path], out: Path, weights: Sequence[float] = (), **how: Any) -> Path:
    """``merge_and_unload`` of one adapter, or of what ``add_weighted_adapter`` makes of several."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(loaded(base), adapters[0], adapter_name="0")
    if weights:
        for place, adapter in enumerate(adapters[1:], start=1):
            model.load_adapter(adapter, adapter_name=str(place))
        names = [str(place) for place in range(len(adapters))]
        model.add_weighted_adapter(names, list(weights), "merged", **how)
        model.set_adapter("merged")
    model.merge_and_unload().save_pretrained(out)
    return out


def merged(base: Path, adapters: Sequence[Path], out: Path, weights: Sequence[float] = (1.0,), **how: Any) -> Path:
    """The same by us."""
    model = open_model(base)
    opened = [open_for_merging(adapter, model, adapter.name) for adapter in adapters]
    settings = How(**{"method": Method.CAT, **how})
    write_merged(model, AdapterMerge(model, opened, weights, settings), Output(FolderSink(out), {}))
    return out


def values(root: Path) -> Mapping[str, NDArray[np.float32]]:
    """All weights of a model directory in float32."""
    tensors = open_model(root).tensors
    return {t.name: to_float32(read_bytes(t, 0, t.size_bytes), t.dtype).reshape(t.shape) for t in tensors}


def types(root: Path) -> set[str]:
    return {tensor.dtype for tensor in open_model(root).tensors}


def differing(one: Path, other: Path) -> int:
    """How many weights differ in any bit."""
    mine, yours = values(one), values(other)
    assert mine.keys() == yours.keys()
    return sum(int((mine[name].view(np.uint32) != yours[name].view(np.uint32)).sum()) for name in mine)


def largest(one: Path, other: Path) -> float:
    """The largest difference, relative to the largest weight of its tensor."""
    mine, yours = values(one), values(other)
    assert mine.keys() == yours.keys()
    return max(float(np.abs(mine[n] - yours[n]).max() / np.abs(mine[n]).max()) for n in mine)
