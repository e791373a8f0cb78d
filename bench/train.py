"""Train one recipe with the proof and without it, in alternating runs; then replay one segment of it.

    python bench/train.py [--rounds 5] [--steps 24] [--hidden 512] [--layers 6] [--rank 16] [--rows 8] [--tokens 128]

``TRL`` is the same trainer, built from the same recipe, without commitments, checkpoints and journals; both save the
adapter. ``TRL with the proof`` is what `citrate train` does in its process, a checkpoint every quarter of the steps.
All in one process and one thread, so that imports do not count. A replay is to cost its share of the steps, and what
any run costs before its first; what the whole command costs around it is measured by ``verify_training.py``.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Contestant, race, report

from citrate.core.records import FileEntry
from citrate.core.sink import Buffer
from citrate.training import dataset, recipe, run, trainers
from citrate.training.proof import Record
from citrate.training.recipe import Bound
from citrate.training.replay import replay
from citrate.training.rows import Method
from citrate.training.stepping import Inputs

TOKENIZER = Path(__file__).parents[1] / "examples" / "tiny-llama"


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, _size_bytes: int | None = None) -> _File:
        return _File(self._root / path, path)


class _File:
    def __init__(self, path: Path, name: str) -> None:
        self._file, self._name = path.open("wb"), name

    def write(self, data: Buffer) -> None:
        self._file.write(data)

    def close(self) -> FileEntry:
        self._file.close()
        return FileEntry(self._name, 0, "", "")


def make_base(folder: Path, hidden: int, layers: int) -> Path:
    """Write a Llama of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    heads = hidden // 64
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1024, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), bos_token_id=1019, eos_token_id=1023,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TOKENIZER / name, folder / name)
    return folder


def make_rows(folder: Path) -> Path:
    """Write a dataset of rows that are longer than any ``--tokens``."""
    folder.mkdir()
    lines = [json.dumps({"text": f"{number} is a number and " * 200}) for number in range(256)]
    (folder / "in.jsonl").write_text("\n".join(lines))
    dataset.write(folder / "in.jsonl", Method.SFT, "apache-2.0", _Folder(folder))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("rounds", 5),
        ("steps", 24),
        ("hidden", 512),
        ("layers", 6),
        ("rank", 16),
        ("rows", 8),
        ("tokens", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        _measure(Path(scratch), options)


def _measure(scratch: Path, options: argparse.Namespace) -> None:
    base, rows = make_base(scratch / "base", options.hidden, options.layers), make_rows(scratch / "rows")
    wanted = recipe.Recipe.model_validate(
        {
            "schema": "citrate.recipe/1", "base": "-", "method": "sft", "dataset": "-", "steps": options.steps,
            "batch_size": options.rows, "max_length": options.tokens, "lora": {"rank": options.rank},
            "checkpoint_every": max(1, options.steps // 4), "determinism": "citrate/cpu",
        }
    )  # fmt: skip
    bound = recipe.bind(wanted, base_sha256="b" * 64, dataset_root=dataset.read(rows).root)
    inputs, kept = Inputs(base, rows), scratch / "kept"
    run.train(bound, inputs, kept, lambda _: None)
    plain, out, work = scratch / "plain", scratch / "out", scratch / "work"
    timings = race(
        [
            Contestant("TRL", lambda: _plain(bound, inputs, plain), after=_gone(plain)),
            Contestant("TRL with the proof", lambda: _proved(bound, inputs, out), after=_gone(out)),
            Contestant("replay of a quarter", lambda: _replayed(kept, inputs, work), after=_gone(work)),
        ],
        rounds=options.rounds,
    )
    title = (
        f"train: {options.steps} steps, {options.rows} x {options.tokens} tokens, hidden {options.hidden}, "
        f"{options.layers} layers, rank {options.rank}"
    )
    report(title, timings, timings[0], [f"trl {version('trl')}, torch {version('torch')}, one thread"])


def _plain(bound: Bound, inputs: Inputs, work: Path) -> None:
    trainer = trainers.build(bound.recipe, inputs, work, trainers.trainer_of(bound.recipe.method))
    trainer.train()
    trainer.save_model(str(work / "adapter"))


def _proved(bound: Bound, inputs: Inputs, out: Path) -> None:
    run.train(bound, inputs, out, lambda _: None)


def _replayed(kept: Path, inputs: Inputs, work: Path) -> None:
    found = replay(Record(kept), 1, inputs, kept / "adapter", work)
    assert found.exact, found.differs


def _gone(folder: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
