"""Convert a generated 2.2 GB Llama into its variants: each stage against its reference tool, in alternating runs.

    python bench/convert.py [--rounds 5] [--layers 16] [--checks]

Every contestant is a process of its own, from start to end, so imports count and memory is that of the stage alone.
``copy`` is ``cp`` and ``sync`` of the source. llama.cpp makes a quantised GGUF in two steps, of which the second starts
from a BF16 GGUF that lies ready; both are timed, and added up. The GGUF files are also made together, from one read,
and the 4-bit MLX directory is decoded again. Files are written to a folder and synced, not hashed.

"five in the store" is what register-model publishes, hashed, addressed and durable in an empty store; it stands against
the sum of what makes the same with the reference tools. ``--checks`` measures the logit check, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parent))

import big_llama
from add import ipfs_repository
from harness import Contestant, Timing, race, ratio, report, version_of
from plain_folder import PlainFolder

from citrate.core.records import Variant
from citrate.formats import check, convert_all, is_bare, open_model

VARIANTS = ("safetensors", "gguf:F16", "gguf:Q8_0", "gguf:Q5_K_M", "gguf:Q4_K_M", "mlx:4bit", "mlx:8bit")
FIVE = ("safetensors", "gguf:F16", "gguf:Q8_0", "gguf:Q4_K_M", "mlx:4bit")
CONVERTER = "llama.cpp's converter, F16"
KEEPING = "sha256sum and ipfs add of the five"
TOGETHER = "gguf:F16,gguf:Q8_0,gguf:Q4_K_M"
_QUANTIZE = (
    "import ctypes, sys, llama_cpp as l\n"
    "p = l.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); p.nthread = int(sys.argv[4])\n"
    "rc = l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p))\n"
    "import os; os.sync(); sys.exit(rc)"
)
_MLX = (
    "import os, sys; os.environ['HF_HUB_OFFLINE'] = '1'\n"
    "from mlx_lm.convert import convert\n"
    "bits = int(sys.argv[3])\n"
    "how = dict(quantize=True, q_group_size=64, q_bits=bits) if bits else dict(dequantize=True)\n"
    "convert(sys.argv[1], mlx_path=sys.argv[2], **how); os.sync()"
)


def one(source: Path, target: Path, variants: str, checks: bool) -> None:
    """The body of a contestant; several variants are separated by commas."""
    model, wanted = open_model(source), [Variant.parse(text) for text in variants.split(",")]
    if checks:
        path = next(target.iterdir()) if is_bare(wanted[0]) else target
        print(check(model, wanted[0], path), file=sys.stderr)
        return
    folder = PlainFolder(target)
    convert_all(model, dict.fromkeys(wanted, folder))  # several GGUF files have names of their own
    os.sync()


def five(source: Path, root: Path) -> None:
    """The body of the contestant that keeps what it makes."""
    from citrate.registry.store import Store

    model, store, wanted = open_model(source), Store(root), [Variant.parse(text) for text in FIVE]
    for format_ in dict.fromkeys(variant.format for variant in wanted):
        with ExitStack() as stack:
            writers = {
                variant: stack.enter_context(store.writer(bare=is_bare(variant)))
                for variant in wanted
                if variant.format is format_
            }
            convert_all(model, writers)
            for writer in writers.values():
                writer.commit()


class Started(TypedDict):
    command: list[str]
    environment: dict[str, str]


def converter(source: Path, target: Path) -> Started:
    """llama.cpp's own, as the tests fetch and start it; its table of published tokenizers does not know ours."""
    tests = Path(__file__).resolve().parents[1] / "tests" / "formats"
    sys.path.insert(0, str(tests))
    from llama_cpp_reference import fetched

    folder, script = fetched(), tests / "llama_cpp_convert.py"
    told = {"source": str(source), "target": str(target), "outtype": "f16", "name": "big", "pre": "llama-bpe"}
    work = f"echo '{json.dumps(told)}' | {sys.executable} {script} | grep -qx done && sync"
    paths = {"PYTHONPATH": f"{folder / 'gguf-py'}:{folder}", "HF_HUB_OFFLINE": "1"}
    return {"command": ["sh", "-c", work], "environment": paths}


def contestants(source: Path, work: Path, ipfs: str, environment: dict[str, str]) -> list[Contestant]:
    threads = str(os.cpu_count())
    bf16 = work / "bf16"
    one(source, bf16, "gguf:BF16", checks=False)
    ready = str(next(bf16.iterdir()))

    def remove(name: str) -> Callable[[], None]:
        return lambda: shutil.rmtree(work / name, ignore_errors=True) or (work / name).unlink(missing_ok=True)

    found = [Contestant("copy", command=["sh", "-c", f"cp -r {source} {work}/copy && sync"], after=remove("copy"))]
    mlx = work / "mlx"
    one(source, mlx, "mlx:4bit", checks=False)
    own = [*((variant, variant, source) for variant in VARIANTS), ("GGUF together", TOGETHER, source)]
    for title, variants, origin in [*own, ("mlx:4bit to safetensors", "safetensors", mlx)]:
        name = title.replace(":", "-").replace(" ", "-")
        command = [sys.executable, __file__, "--one", variants, str(origin), str(work / name)]
        found.append(Contestant(title, command=command, after=remove(name)))
    command = [sys.executable, __file__, "--five", str(source), str(work / "store")]
    found.append(Contestant("five in the store", command=command, after=remove("store")))
    found.append(Contestant(CONVERTER, after=remove("reference-gguf"), **converter(source, work / "reference-gguf")))
    for quantization, number in (("Q8_0", 7), ("Q5_K_M", 17), ("Q4_K_M", 15)):
        name = f"reference-{quantization}"
        command = [sys.executable, "-c", _QUANTIZE, ready, str(work / name), str(number), threads]
        found.append(Contestant(f"llama.cpp BF16 to {quantization}", command=command, after=remove(name)))
    for title, origin, bits in (("4bit", source, "4"), ("8bit", source, "8"), ("--dequantize", mlx, "0")):
        command = [sys.executable, "-c", _MLX, str(origin), str(work / "reference-mlx"), bits]
        found.append(Contestant(f"mlx_lm.convert {title}", command=command, after=remove("reference-mlx")))
    ready_made = work / "ready"
    for variant in FIVE:
        one(source, ready_made / variant.replace(":", "-"), variant, checks=False)
    script = f"find {ready_made} -type f -exec sha256sum {{}} + && {ipfs} add -rQ --cid-version=1 {ready_made} && sync"

    def forget() -> None:
        for command in ([ipfs, "pin", "rm", *_pinned(ipfs, environment)], [ipfs, "repo", "gc", "-q"]):
            subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)

    command = ["sh", "-c", script]
    found.append(Contestant(KEEPING, command=command, environment=environment, after=forget))
    return found


def _pinned(ipfs: str, environment: dict[str, str]) -> list[str]:
    command = [ipfs, "pin", "ls", "-q", "--type=recursive"]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=big_llama.LAYERS)
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--five", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[1]), Path(options.one[2]), options.one[0], options.checks)
        return
    if options.five:
        five(Path(options.five[0]), Path(options.five[1]))
        return
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder, ipfs_repository() as (ipfs, environment):
        work = Path(folder)
        source = big_llama.make(work / "source", options.layers)
        size = sum(path.stat().st_size for path in source.iterdir())
        timings = race(contestants(source, work, ipfs, environment), rounds=options.rounds)
        notes = [f"source: {size / 1e6:.0f} MB, bfloat16, two shards", *_versions(), *goals(timings)]
        report(f"converting a Llama of {size / 1e9:.1f} GB", timings, timings[0], notes)
        if options.checks:
            measure_checks(source, work, options.rounds)


def goals(timings: list[Timing]) -> list[str]:
    """What is asked of the conversions, in the units it is asked in."""
    named = {timing.name: timing for timing in timings}

    def added(*names: str) -> Timing:
        return Timing(
            " + ".join(names), [sum(rounds) for rounds in zip(*(named[n].seconds for n in names), strict=True)]
        )

    quantize = {name: f"llama.cpp BF16 to {name}" for name in ("Q8_0", "Q5_K_M", "Q4_K_M")}
    told = [
        f"gguf:{name} in units of llama.cpp's convert and quantize: "
        f"{ratio(named[f'gguf:{name}'], added(CONVERTER, step)):.3f} (goal 0.167)"
        for name, step in quantize.items()
    ]
    sum_ = added("copy", CONVERTER, quantize["Q8_0"], quantize["Q4_K_M"], "mlx_lm.convert 4bit", KEEPING)
    kept = ratio(named["five in the store"], sum_)
    return [*told, f"five in the store in units of the reference tools' sum: {kept:.3f} (goal 0.2)"]


def measure_checks(source: Path, work: Path, rounds: int) -> None:
    """The full check of each variant, written once."""
    found = []
    for variant in VARIANTS:
        target = work / f"checked-{variant.replace(':', '-')}"
        one(source, target, variant, checks=False)
        command = [sys.executable, __file__, "--checks", "--one", variant, str(source), str(target)]
        found.append(Contestant(f"check {variant}", command=command))
    timings = race(found, rounds=rounds, warm_up=False)
    report("checking the written variants (logits)", timings, timings[0])


def _versions() -> list[str]:
    code = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in %r), sep=', ')"
    names = ("numba", "llama-cpp-python", "mlx-lm", "mlx")
    return [version_of(sys.executable, "-c", code % (names,)), f"threads: {os.cpu_count()}"]


if __name__ == "__main__":
    main()
