"""The whole `citrate verify-training` of one segment, a fresh process each time, for segments of several lengths.

    python bench/verify_training.py [--rounds 5] [--lengths 3,6,12] [--hidden 512] [--layers 6] [--rank 16] [--rows 8]
                                    [--tokens 128]

A run is to be verified at what its replayed steps cost, and little besides. So a line is put through the lengths: what
the command costs before its first step, and what each step costs it, beside what `citrate train` pays for one. Each run
has two segments, so that all have as many checkpoints, and the second is replayed, which begins at one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Contestant, Timing, race, report
from train import make_base, make_rows

from citrate.training.proof import choose

CITRATE = [sys.executable, "-m", "citrate.cli.main"]


@dataclass(frozen=True)
class Line:
    """What a command costs whatever it does, and what each step costs it; seconds."""

    fixed_s: float
    step_s: float

    @classmethod
    def through(cls, seconds: Mapping[int, float]) -> Line:
        """The least squares through seconds by steps."""
        slope, intercept = statistics.linear_regression(list(seconds), list(seconds.values()))
        return cls(intercept, slope)

    def at(self, steps: int) -> float:
        """What so many steps would cost."""
        return self.fixed_s + steps * self.step_s

    def __str__(self) -> str:
        return f"{self.fixed_s:.2f} s and {self.step_s:.3f} s a step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="3,6,12", help="steps of a segment, two lengths or more")
    for name, default in (("rounds", 5), ("hidden", 512), ("layers", 6), ("rank", 16), ("rows", 8), ("tokens", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    lengths = sorted({int(length) for length in options.lengths.split(",")})
    if len(lengths) < 2 or lengths[0] < 1:
        parser.error("--lengths takes two lengths or more, such as 3,6,12")
    with tempfile.TemporaryDirectory() as scratch:
        _measure(Path(scratch), lengths, options)


def _measure(scratch: Path, lengths: list[int], options: argparse.Namespace) -> None:
    base, rows = make_base(scratch / "base", options.hidden, options.layers), make_rows(scratch / "rows")
    environment = {"CITRATE_HOME": str(scratch / "home"), "OMP_NUM_THREADS": "1"}
    trained = {2 * length: _train(scratch, length, options, environment) for length in lengths}
    asked = ["--segments", "1", "--seed", _seed(), "--base", str(base), "--dataset", str(rows)]
    runs = [scratch / f"run-{length}" for length in lengths]
    _require_replayed(runs[0], asked, environment)
    timings = race(
        [
            Contestant(f"segment of {length}", command=[*CITRATE, "verify-training", str(run), *asked],
                       environment=environment)
            for length, run in zip(lengths, runs, strict=True)
        ],
        rounds=options.rounds,
    )  # fmt: skip
    title = (
        f"verify-training of one segment: {options.rows} x {options.tokens} tokens, hidden {options.hidden}, "
        f"{options.layers} layers, rank {options.rank}"
    )
    report(title, timings, timings[0], ["a fresh process each, one thread; the run's other half is not replayed"])
    _tell(dict(zip(lengths, timings, strict=True)), trained)


def _tell(timings: Mapping[int, Timing], trained: Mapping[int, float]) -> None:
    """The lines, how far the medians are from theirs, and what a replayed step costs beside a trained one."""
    medians = {length: timing.median_s for length, timing in timings.items()}
    verifying, training = Line.through(medians), Line.through(trained)
    off = max(abs(verifying.at(length) - median) for length, median in medians.items())
    print(f"verify-training: {verifying}; no median is more than {off:.2f} s off that line")
    print(f"citrate train (once each): {training}")
    print(f"a replayed step costs {verifying.step_s / training.step_s:.2f} of a trained one")
    line = {
        "fixed_s": round(verifying.fixed_s, 3), "step_s": round(verifying.step_s, 4), "off_s": round(off, 3),
        "train_fixed_s": round(training.fixed_s, 3), "train_step_s": round(training.step_s, 4),
    }  # fmt: skip
    print(json.dumps({"benchmark": "verify-training, a line through the lengths", **line}))


def _train(scratch: Path, length: int, options: argparse.Namespace, environment: Mapping[str, str]) -> float:
    """Train a run of two segments; returns its seconds."""
    recipe = {
        "schema": "citrate.recipe/1", "base": "./base", "method": "sft", "dataset": "./rows", "steps": 2 * length,
        "batch_size": options.rows, "max_length": options.tokens, "lora": {"rank": options.rank},
        "checkpoint_every": length, "determinism": "citrate/cpu",
    }  # fmt: skip
    path = scratch / f"recipe-{length}.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    started = time.perf_counter()
    _run([*CITRATE, "train", str(path), "--out", str(scratch / f"run-{length}"), "--json"], environment)
    return time.perf_counter() - started


def _seed() -> str:
    """A seed by which the second of two segments is chosen."""
    return next(seed for seed in (f"{number:04x}" for number in count()) if choose(seed, 2, 1) == (1,))


def _require_replayed(run: Path, asked: list[str], environment: Mapping[str, str]) -> None:
    """What is timed replays the second segment, and every hash of it is equal."""
    found = json.loads(_run([*CITRATE, "verify-training", str(run), *asked, "--json"], environment))
    steps = [(each["first_step"] > 1, each["exact"]) for each in found["segments"]]
    if steps != [(True, True)]:
        raise SystemExit(f"the replay is not that of one second segment, bit for bit: {found['segments']}")


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
