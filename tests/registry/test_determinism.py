"""The same model gives the same bytes, whatever the machine around it is like."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapter_dirs import write_adapter

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
VARIANTS = "safetensors,gguf:F16,gguf:Q8_0,gguf:Q6_K,gguf:Q5_K_M,gguf:Q4_K_M,mlx,mlx:4bit,mlx:8bit-g32"

CHILD = """
import hashlib, json, os, sys
from pathlib import Path
from citrate.core.records import Variant
from citrate.registry.conversions import Conversions
from citrate.registry.converting import convert_to_path
from citrate.registry.publish import Request, prepare
from citrate.registry.store import Store

source, adapter, work, variants, umask, cores = sys.argv[1:]
os.umask(int(umask, 8))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
work = Path(work)
wanted = tuple(map(Variant.parse, variants.split(",")))
request = Request(Path(source), "tiny", variants=wanted, checks="tensors")
release = prepare(request, Store(work / "store"), Conversions(work / "conversions"), lambda *_: None)
found = {"manifest": release.manifest.sha256()}
found |= {f"{entry.variant}/{file.path}": file.sha256 for entry in release.manifest.variants for file in entry.files}
back = convert_to_path(Store(work / "store").get(release.variants[-2].cid), Variant.parse("safetensors"), work / "back",
    "tensors", None)
found["mlx:4bit back"] = back.artifact.sha256
for to in ("safetensors", "mlx", "gguf:F16"):
    base = Path(source) if to.startswith("gguf") else None
    made = convert_to_path(Path(adapter), Variant.parse(to), work / f"adapter-{to[:3]}", None, None, base)
    found[f"adapter {to}"] = made.artifact.files[0].sha256 if made.artifact.bare else made.artifact.sha256
print(json.dumps(found))
"""


@pytest.mark.models
def test_two_runs_in_two_folders_make_the_same_bytes_of_every_format(tmp_path: Path) -> None:
    surroundings = [
        ("a", "022", "1", {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"}),
        ("Größe 2/nested", "077", "2", {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}),
    ]
    found = []
    for number, (name, umask, cores, settings) in enumerate(surroundings):
        work = tmp_path / name
        source = work / ("source" if number else "another name")
        source.mkdir(parents=True)
        for file in sorted(SAMPLE.iterdir(), reverse=bool(number)):
            shutil.copyfile(file, source / file.name)  # other times, modes and order in the folder
        adapter = write_adapter(work / "adapter" / "tuned", base_model_name_or_path=f"/home/user{number}/base")
        arguments = [str(source), str(adapter), str(work), VARIANTS, umask, cores]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            env={**os.environ, **settings}, cwd=work, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert len(found[0]) > 30
