"""Merge into a generated 2.2 GB Llama: ours against a copy of it, and against PEFT, in alternating runs.

    python bench/merge.py [--rounds 5] [--layers 16]

Contestants: one LoRA (rank 16 on every matrix), two by ``cat``, SLERP of two models, TIES of two with their base. Every
one is a process of its own, from start to end. ``copy`` is ``cp`` and ``sync`` of the model. Files are written to a
folder and synced, not hashed; the command line hashes parents and result besides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import big_llama
import numpy as np
from harness import Contestant, race, report
from plain_folder import PlainFolder

from citrate.formats import open_model
from citrate.formats.dtypes import to_bfloat16
from citrate.formats.merging import How, Method
from citrate.formats.merging_adapters import AdapterMerge, open_for_merging
from citrate.formats.merging_models import of_models
from citrate.formats.merging_writing import Merge, Output, write_merged
from citrate.formats.safetensors_file import Planned, header_bytes
from citrate.formats.source import SourceModel

RANK = 16
_PEFT = (
    "import os, sys; os.environ['HF_HUB_OFFLINE'] = '1'\n"
    "from transformers import AutoModelForCausalLM\n"
    "from peft import PeftModel\n"
    "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype='auto')\n"
    "PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload().save_pretrained(sys.argv[3]); os.sync()"
)


def make_adapter(base: SourceModel, root: Path, seed: int) -> Path:
    """A LoRA of every matrix of the layers, with random factors."""
    root.mkdir()
    planned, targets = [], set()
    for tensor in base.tensors:
        if ".layers." in tensor.name and len(tensor.shape) == 2:
            module = tensor.name.removesuffix(".weight")
            targets.add(module.rpartition(".")[2])
            out, in_ = tensor.shape
            stem = f"base_model.model.{module}.lora_"
            planned += [
                Planned(f"{stem}A.weight", "BF16", (RANK, in_)),
                Planned(f"{stem}B.weight", "BF16", (out, RANK)),
            ]
    random = np.random.default_rng(seed)
    with (root / "adapter_model.safetensors").open("wb") as file:
        file.write(header_bytes(planned, {"format": "pt"}))
        for each in planned:
            file.write(to_bfloat16(random.standard_normal(each.size_bytes // 2, np.float32) * np.float32(0.02)).data)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32, "bias": "none"}
    (root / "adapter_config.json").write_text(json.dumps({**config, "target_modules": sorted(targets)}))
    return root


def one(method: str, parents: list[Path], target: Path) -> None:
    """The body of a contestant: the base (or the first model) and what is merged with it."""
    models, how = [open_model(parents[0])], How(Method(method))
    work: Merge
    if how.method is Method.CAT:
        adapters = [open_for_merging(path, models[0], path.name) for path in parents[1:]]
        first, work = models[0], AdapterMerge(models[0], adapters, [1 / len(adapters)] * len(adapters), how)
    else:
        models += [open_model(path) for path in parents[1:]]
        base = models.pop(0) if how.method is Method.TIES else None
        first, work = of_models(models, [model.root.name for model in models], [0.5, 0.5], how, base)
    write_merged(first, work, Output(PlainFolder(target), {}))
    os.sync()


def contestants(folders: dict[str, Path], work: Path) -> list[Contestant]:
    def remove(name: str) -> None:
        shutil.rmtree(work / name, ignore_errors=True)

    base, a, b = folders["base"], folders["a"], folders["b"]
    found = [
        Contestant("copy", command=["sh", "-c", f"cp -r {base} {work}/copy && sync"], after=lambda: remove("copy"))
    ]
    for title, method, parents in (
        ("one LoRA", "cat", [base, a]),
        ("two LoRAs, cat", "cat", [base, a, b]),
        ("SLERP of two models", "slerp", [base, folders["first"]]),
        ("TIES of two models", "ties", [base, folders["first"], folders["second"]]),
    ):
        command = [sys.executable, __file__, "--one", method, str(work / "out"), *map(str, parents)]
        found.append(Contestant(title, command=command, after=lambda: remove("out")))
    peft = [sys.executable, "-c", _PEFT, str(base), str(a), str(work / "peft")]
    return [*found, Contestant("PEFT merge_and_unload, one LoRA", command=peft, after=lambda: remove("peft"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=big_llama.LAYERS)
    parser.add_argument("--one", nargs="+", metavar="ARGUMENT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        method, target, *parents = options.one
        one(method, [Path(parent) for parent in parents], Path(target))
        return
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder:
        work = Path(folder)
        folders = {"base": big_llama.make(work / "base", options.layers)}
        base = open_model(folders["base"])
        for seed, name in enumerate("ab"):
            folders[name] = make_adapter(base, work / name, seed)
        for name, adapter in (("first", "a"), ("second", "b")):
            folders[name] = work / name
            one("cat", [folders["base"], folders[adapter]], folders[name])
        timings = race(contestants(folders, work), rounds=options.rounds)
        notes = [f"model: {base.size_bytes / 1e6:.0f} MB, bfloat16; LoRA of rank {RANK}", f"threads: {os.cpu_count()}"]
        report(f"merging into a Llama of {base.size_bytes / 1e9:.1f} GB", timings, timings[0], notes)


if __name__ == "__main__":
    main()
