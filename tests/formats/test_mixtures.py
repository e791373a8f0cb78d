"""Which tensors get more bits, where whole files of tiny models do not show it: a model of 80 layers."""

from __future__ import annotations

import pytest

from citrate.formats.configuration import Config
from citrate.formats.mixtures import MIXTURES, tensor_type


def config(model_type: str, kv_heads: int) -> Config:
    return Config({}, "XForCausalLM", model_type, 80, 8192, 64, kv_heads, 128, 32000, 4096)


@pytest.mark.parametrize(
    ("model_type", "kv_heads", "others"),
    [("llama", 8, "Q5_K"), ("llama", 64, "Q4_K"), ("qwen2", 8, "Q5_K"), ("qwen2", 64, "Q5_K"), ("qwen3", 8, "Q4_K")],
)
def test_the_values_of_a_70b(model_type: str, kv_heads: int, others: str) -> None:
    names = [f"blk.{i}.attn_v.weight" for i in range(80)]
    made = config(model_type, kv_heads)
    types = [tensor_type(MIXTURES["Q4_K_M"], made, name, (1024, 8192)) for name in names]
    assert types.count("Q6_K") == 40
    assert set(types) == {"Q6_K", others}
    fifth = [tensor_type(MIXTURES["Q5_K_M"], made, name, (1024, 8192)) for name in names]
    assert [kind == "Q6_K" for kind in fifth] == [kind == "Q6_K" for kind in types]
    assert set(fifth) == {"Q6_K", "Q5_K"}
    assert {tensor_type(MIXTURES["Q6_K"], made, name, (1024, 8192)) for name in names} == {"Q6_K"}


def test_what_keeps_every_digit() -> None:
    made = config("bert", 64)
    for name in ("position_embd.weight", "token_types.weight"):
        assert tensor_type(MIXTURES["Q4_K_M"], made, name, (512, 1024)) == "F32"
    assert tensor_type(MIXTURES["F16"], made, "blk.0.attn_q.bias", (1024,)) == "F32"
