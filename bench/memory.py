"""Private memory of each command on one very large file; the goal is 256 MB, whatever the file's size.

    python bench/memory.py [--gb 20]

The file is sparse, with a number of its own at the start of each MiB, so that no two leaves are the same. What is
watched is the process tree's private resident memory. The fetched copy takes the file's whole size on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import machine, private_bytes, run_command

CITRATE = [sys.executable, "-m", "citrate.cli.main"]
GOAL_BYTES = 256 << 20
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as name:
        folder = Path(name)
        path = folder / "weights.bin"
        size = generate(path, int(options.gb * 1e9))
        if shutil.disk_usage(folder).free < 1.5 * size:
            raise SystemExit(f"{1.5 * size / 1e9:.0f} GB free are needed in {folder}")
        print(f"## Private memory on a file of {size / 1e9:g} GB\n{machine()}")
        rows = [*measure(folder, path)]
    worst = max(peak for _, _, peak in rows)
    print(f"largest: {worst / MIB:.0f} MiB (goal {GOAL_BYTES // MIB})")
    print(json.dumps({"benchmark": "memory", "machine": machine(), "size_bytes": size, "rows": rows}))


def generate(path: Path, size: int) -> int:
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            file.seek(offset)
            file.write(offset.to_bytes(16, "big"))
        file.truncate(size)
    return size


def measure(folder: Path, path: Path) -> Iterator[tuple[str, float, int]]:
    settings = {"CITRATE_HOME": str(folder / "home")}
    yield told("add --cid-only", [*CITRATE, "add", "--cid-only", str(path)], settings)
    yield told("add --only-hash", [*CITRATE, "add", "--only-hash", str(path)], settings)
    yield told("add", [*CITRATE, "add", str(path)], settings)
    yield told("store verify", [*CITRATE, "store", "verify"], settings)
    listing = subprocess.run([*CITRATE, "store", "ls", "--json"], env={**os.environ, **settings}, capture_output=True)
    (found,) = json.loads(listing.stdout)["objects"]
    export = [*CITRATE, "store", "export", found["cid"], "--out", "/dev/null"]
    yield told("store export", export, settings)
    with gateway(settings) as (process, url), watched(process.pid) as peak:
        yield told("(curl from our gateway)", ["curl", "-sf", "-o", "/dev/null", f"{url}/ipfs/{found['cid']}"], {})
        expected = {"path": found["cid"], **{key: found[key] for key in ("size_bytes", "sha256", "cid")}}
        script = str(Path(__file__).with_name("pull.py"))
        fetch = [sys.executable, script, "--fetch", url, json.dumps(expected), str(folder / "fetched")]
        yield told("pull from our gateway", fetch, {})
    print(f"{'our gateway, both times':28} {'':8} {peak[0] / MIB:6.0f} MiB")
    yield "our gateway", 0.0, peak[0]


def told(name: str, command: Sequence[str], settings: dict[str, str]) -> tuple[str, float, int]:
    started = time.perf_counter()
    peak = run_command(command, settings)
    seconds = time.perf_counter() - started
    print(f"{name:28} {seconds:6.1f} s {peak / MIB:6.0f} MiB", flush=True)
    return name, round(seconds, 1), peak


@contextlib.contextmanager
def gateway(settings: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*CITRATE, "gateway", "--port", "0"], env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The peak of a running process's memory, while the block goes on."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], private_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
