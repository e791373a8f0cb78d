"""Convert a generated 2.2 GB Llama into its variants: each stage against its reference tool, in alternating runs.

    python bench/convert.py [--rounds 5] [--layers 16] [--checks]

Every contestant is a process of its own, from start to end, so imports count and memory is that of the stage alone.
The references are given an advantage: llama.cpp quantises from a GGUF that lies ready, in one step. ``copy`` is
``cp`` and ``sync`` of the source. The GGUF files are also made together, from one read, and the 4-bit MLX directory is
decoded again. Files are written to a folder and synced, not hashed; ``register-model`` has its
own benchmark. ``--checks`` measures the logit check, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import big_llama
from harness import Contestant, race, report, version_of

from citrate.core.records import FileEntry, Variant
from citrate.core.sink import Buffer
from citrate.formats import check, convert_all, is_bare, open_model

VARIANTS = ("safetensors", "gguf:F16", "gguf:Q8_0", "gguf:Q4_K_M", "mlx:4bit", "mlx:8bit")
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


class PlainFile:
    def __init__(self, path: Path) -> None:
        self._file, self._path, self._size = path.open("wb", buffering=0), path, 0

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._size += view.nbytes
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> FileEntry:
        os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(self._path.name, self._size, "", "")


class PlainFolder:
    """Writes files and syncs them; no hashes, so that the stage is what is timed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True)

    def open(self, path: str, size_bytes: int | None = None) -> PlainFile:  # noqa: ARG002 - a sink's
        return PlainFile(self._root / path)


def one(source: Path, target: Path, variants: str, checks: bool) -> None:
    """The body of a contestant; several variants are separated by commas."""
    model, wanted = open_model(source), [Variant.parse(text) for text in variants.split(",")]
    if checks:
        path = next(target.iterdir()) if is_bare(wanted[0]) else target
        print(check(model, wanted[0], path), file=sys.stderr)
        return
    folder = PlainFolder(target)
    convert_all(model, dict.fromkeys(wanted, folder))  # several GGUF files have names of their own


def contestants(source: Path, work: Path) -> list[Contestant]:
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
    for quantization, number in (("F16", 1), ("Q8_0", 7), ("Q4_K_M", 15)):
        name = f"reference-{quantization}"
        command = [sys.executable, "-c", _QUANTIZE, ready, str(work / name), str(number), threads]
        found.append(Contestant(f"llama.cpp BF16 to {quantization}", command=command, after=remove(name)))
    for title, origin, bits in (("4bit", source, "4"), ("8bit", source, "8"), ("--dequantize", mlx, "0")):
        command = [sys.executable, "-c", _MLX, str(origin), str(work / "reference-mlx"), bits]
        found.append(Contestant(f"mlx_lm.convert {title}", command=command, after=remove("reference-mlx")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=big_llama.LAYERS)
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[1]), Path(options.one[2]), options.one[0], options.checks)
        return
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder:
        work = Path(folder)
        source = big_llama.make(work / "source", options.layers)
        size = sum(path.stat().st_size for path in source.iterdir())
        timings = race(contestants(source, work), rounds=options.rounds)
        notes = [f"source: {size / 1e6:.0f} MB, bfloat16, two shards", *_versions()]
        report(f"converting a Llama of {size / 1e9:.1f} GB", timings, timings[0], notes)
        if options.checks:
            measure_checks(source, work, options.rounds)


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
