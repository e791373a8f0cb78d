"""Training of the sample model: plain PyTorch on one thread, so that one machine repeats it bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.make_tiny_llama.corpus import TRAINING, documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import LlamaForCausalLM

ROPE_THETA = 10_000.0
CONTEXT_LENGTH = 512


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. ``row_tokens`` is the longest text the model ever sees at once."""

    steps: int = 1500
    rows: int = 8
    row_tokens: int = 160
    peak_learning_rate: float = 2.5e-3
    warmup_steps: int = 40
    seed: int = 20261121


def new_model(vocab_size: int, bos: int, eos: tuple[int, ...], seed: int) -> LlamaForCausalLM:
    """A Llama of 2.3 million random parameters: 3 layers, 4 query heads over 2 key-value heads of 64."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=CONTEXT_LENGTH,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=bos,
            eos_token_id=eos[0],
            attn_implementation="sdpa",
        )
    )


def train(model: LlamaForCausalLM, tokenizer: Tokenizer, plan: Plan, report: Callable[[int, float], None]) -> float:
    """Train ``model`` in place; returns the loss of the last step (nats a token)."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.peak_learning_rate, betas=(0.9, 0.98))
    batches = _batches(tokenizer, plan)
    model.train()
    value = math.nan
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.peak_learning_rate * _schedule(step, plan)
        batch = next(batches)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        report(step, value)
    model.eval()
    return value


def _schedule(step: int, plan: Plan) -> float:
    """Linear warm-up, then a cosine to a fiftieth."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _batches(tokenizer: Tokenizer, plan: Plan) -> Iterator[Tensor]:
    """Yield ``[rows, row_tokens]`` token ids. Each row starts at the start of a document and is cut at its end."""
    import torch

    source = documents(TRAINING, plan.seed)
    while True:
        rows = []
        for _ in range(plan.rows):
            row: list[int] = []
            while len(row) < plan.row_tokens:
                row += tokenizer.encode(next(source), add_special_tokens=False).ids
            rows.append(row[: plan.row_tokens])
        yield torch.tensor(rows)
