"""Make the sample model, or prove that this checkout still makes the one that is committed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from examples.make_tiny_llama.build_tokenizer import as_transformers, build
from examples.make_tiny_llama.corpus import BOS, EOS, EOT, HELD_OUT, documents
from examples.make_tiny_llama.train import CONTEXT_LENGTH, ROPE_THETA, Plan, new_model, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

COMMITTED = Path(__file__).parent.parent / "tiny-llama"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.make_tiny_llama", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=COMMITTED, help="where the model goes (default: examples/tiny-llama)"
    )
    parser.add_argument("--check", action="store_true", help="train nothing: compare the tokenizer, repeat a few steps")
    arguments = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    return check() if arguments.check else make(arguments.out)


def make(out: Path) -> int:
    """Train the model and write it to ``out`` as an ordinary Hugging Face directory; takes about six minutes."""
    import torch

    tokenizer, plan, started = build(), Plan(), time.monotonic()
    model = fresh_model(tokenizer, plan)

    def report(step: int, loss: float) -> None:
        if step % 50 == 0 or step == plan.steps - 1:
            print(f"step {step:4d}  loss {loss:.4f}  {time.monotonic() - started:4.0f} s", flush=True)

    train(model, tokenizer, plan, report)
    probability = top1_probability(model, tokenizer)
    print(f"held-out text: mean top-1 probability {probability:.3f}")
    save(model.to(torch.bfloat16), tokenizer, out)
    print(out)
    return 0


def check() -> int:
    """Compare the committed tokenizer with a fresh one, byte for byte, and the losses of two short trainings."""
    tokenizer = build()
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder))
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (Path(folder) / name).read_bytes() != (COMMITTED / name).read_bytes():
                print(f"{name} differs from the committed one", file=sys.stderr)
                return 1
    losses: list[list[float]] = [[], []]
    for run in losses:
        plan = Plan(steps=4, rows=2, row_tokens=64)
        train(fresh_model(tokenizer, plan), tokenizer, plan, lambda _, loss, run=run: run.append(loss))  # type: ignore[misc]
    if losses[0] != losses[1]:
        print(f"training does not repeat: {losses}", file=sys.stderr)
        return 1
    print(f"tokenizer identical; losses repeat: {losses[0]}")
    return 0


def fresh_model(tokenizer: Tokenizer, plan: Plan) -> LlamaForCausalLM:
    """The untrained model that fits ``tokenizer``."""
    ids = tokenizer.token_to_id
    return new_model(tokenizer.get_vocab_size(), ids(BOS), (ids(EOT), ids(EOS)), plan.seed)


def top1_probability(model: LlamaForCausalLM, tokenizer: Tokenizer, count: int = 200) -> float:
    """The mean, over the tokens of held-out documents, of the probability of the model's first choice."""
    import torch

    total, tokens = 0.0, 0
    with torch.no_grad():
        for document in islice(documents(HELD_OUT, seed=2), count):
            ids = tokenizer.encode(document, add_special_tokens=False).ids
            best = model(input_ids=torch.tensor([ids[:-1]])).logits.float().softmax(-1).max(-1).values
            total += best.sum().item()
            tokens += best.numel()
    return total / tokens


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write weights, configuration and tokenizer; the card and the licence beside them are kept by hand."""
    out.mkdir(parents=True, exist_ok=True)
    ids = tokenizer.token_to_id
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    generation = {"bos_token_id": ids(BOS), "do_sample": False, "eos_token_id": [ids(EOT), ids(EOS)]}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    _amend(out / "config.json", {"rope_theta": ROPE_THETA, "eos_token_id": [ids(EOT), ids(EOS)]})
    save_tokenizer(tokenizer, out)


def save_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template."""
    as_transformers(tokenizer, CONTEXT_LENGTH).save_pretrained(out)
    _amend(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "backend": None})


def _amend(path: Path, changes: Mapping[str, object]) -> None:
    """Set keys (None removes one) so that transformers 4, llama.cpp and mlx-lm read the file as transformers 5 does."""
    document = {**json.loads(path.read_text()), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
