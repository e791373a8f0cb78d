"""A model with one layer, made where it is wanted: training it costs next to nothing."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from tests.training.runs import EXAMPLES

_COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make(folder: Path) -> Path:
    """Write a Llama of one layer, of random weights that are always the same, with the sample model's tokenizer."""
    folder.mkdir(parents=True)
    _model().save_pretrained(folder)
    for name in _COMPANIONS:
        shutil.copyfile(EXAMPLES / "tiny-llama" / name, folder / name)
    return folder


@cache
def _model():  # type: ignore[no-untyped-def]  # transformers' class, which is not imported here
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1024,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            bos_token_id=1019,
            eos_token_id=[1023, 1020],
        )
    )
