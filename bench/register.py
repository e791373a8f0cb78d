"""`register-model` of a generated 2.2 GB Llama with five variants: wall time by stage, bytes read, peak private memory.

    python bench/register.py [--layers 16] [--rounds 5] [--full]

Each round is a fresh home: a new devnet, a new key, nothing converted before; `cp -r` and `sync` of the source stand in
the same rounds as the unit. A stage is all that is made of one format, since its files are written side by side, and
what it read is told in units of the source's size. The goal is at most 1 GB of private memory without the logit check;
``--full`` runs one round more with it. What each conversion takes against its reference tool is `bench/convert.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import big_llama
from harness import Contestant, race, report

VARIANTS = "safetensors,gguf:F16,gguf:Q8_0,gguf:Q4_K_M,mlx:4bit"


def register(source: str, home: str, level: str, log: str) -> None:
    """The body of the contestant: publish, and note when each stage was first heard of, and what had been read."""
    from citrate import Registry

    started = time.perf_counter()
    heard: dict[str, list[float]] = {}

    def progress(stage: str, *_: object) -> None:
        name = stage.partition(":")[0]
        if name not in heard:
            heard[name] = [time.perf_counter() - started, bytes_read()]

    registry = Registry.open(home=home)
    registry.register_model(source, name="big", variants=VARIANTS, checks=level, progress=progress)
    heard["whole"] = [time.perf_counter() - started, bytes_read()]
    with Path(log).open("a") as file:
        file.write(json.dumps(heard) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=big_llama.LAYERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="one more round, with the logit check")
    parser.add_argument("--body", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.body:
        register(*options.body)
        return
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder:
        work = Path(folder)
        source = big_llama.make(work / "source", options.layers)
        size = sum(path.stat().st_size for path in source.iterdir())
        title = f"register-model of a Llama of {size / 1e9:.1f} GB, {VARIANTS}"
        compare(f"{title}, --checks tensors", work, source, size, "tensors", options.rounds)
        if options.full:
            compare(f"{title}, --checks full", work, source, size, "full", 1)


def compare(title: str, work: Path, source: Path, size: int, level: str, rounds: int) -> None:
    home, log = work / "home", work / f"{level}.log"
    body = [sys.executable, __file__, "--body", str(source), str(home), level, str(log)]
    copy = ["sh", "-c", f"cp -r {source} {work}/copy && sync"]
    timings = race(
        [
            Contestant("copy", command=copy, after=lambda: _remove(work / "copy")),
            Contestant("register-model", command=body, after=lambda: _forget(home)),
        ],
        rounds,
        warm_up=rounds > 1,
    )
    report(title, timings, timings[0], stages(log, size))


def stages(log: Path, size: int) -> list[str]:
    """The stages of the median round: seconds and bytes read from one's first sign to the next one's."""
    rounds = sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda heard: heard["whole"][0])
    heard = rounds[len(rounds) // 2]
    whole = heard.pop("whole")
    begins = sorted((first, read, stage) for stage, (first, read) in heard.items())
    ends = [(first, read) for first, read, _ in begins[1:]] + [tuple(whole)]
    told = [
        f"{stage} {end - first:.1f} s, reads {(end_read - read) / size:.2f}x"
        for (first, read, stage), (end, end_read) in zip(begins, ends, strict=True)
    ]
    return [f"stages of the median round: before the first {begins[0][0]:.1f} s; {'; '.join(told)}"]


def bytes_read() -> int:
    """What this process has asked the kernel to read; 0 where it does not count."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().partition("rchar:")[2].split()[0]) if counts.exists() else 0


def _forget(home: Path) -> None:
    subprocess.run([sys.executable, "-m", "citrate.cli.main", "--home", str(home), "devnet", "down"], check=True)
    _remove(home)


def _remove(path: Path) -> None:
    subprocess.run(["chmod", "-R", "u+w", str(path)], check=True)
    subprocess.run(["rm", "-rf", str(path)], check=True)


if __name__ == "__main__":
    main()
