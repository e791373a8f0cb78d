"""Adding to the store against what bounds it: copying, and hashing alone.

    python bench/store_add.py [--gib 2] [--rounds 5]

One file, and a directory of eight files with as many bytes (shards of 256 MiB, by default). ``cp`` is ``cp -r`` and
``sync`` of the file system; ``file_digest`` is hashlib's SHA-256 of each file, on as many threads as there are cores
(one file: one thread). Ours ends with the object in the store, both hashes of every file in the index, and all of it
durable. The bound is the slower of the other two in the same round. ``address`` is ours without storing
(``add --only-hash``): SHA-256 and CID, against ``file_digest``, which is the SHA-256 alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from add import random_file
from harness import Contestant, Timing, race, ratio, report

from citrate.registry.store import Store
from citrate.registry.unixfs import address, available_cores

PARTS = 8
GOAL = 1.05
HASH_GOAL = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with random_file(options.gib) as path:
        compare(path, f"a file of {options.gib:g} GiB", options.rounds)
        folder = split(path)
        compare(folder, f"{PARTS} files of {options.gib / PARTS * 1024:g} MiB", options.rounds)


def split(path: Path) -> Path:
    """The same bytes as a directory of several files."""
    folder = path.parent / "model"
    folder.mkdir()
    size = path.stat().st_size // PARTS
    with path.open("rb") as whole:
        for number in range(PARTS):
            (folder / f"part-{number}").write_bytes(whole.read(size))
    path.unlink()
    os.sync()
    return folder


def digest_all(path: Path) -> list[str]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(digest, files))


def digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare(path: Path, what: str, rounds: int) -> None:
    copied, store = path.parent / "copied", path.parent / "store"

    def copy() -> None:
        subprocess.run(["cp", "-r", "--reflink=never", path, copied], check=True)
        subprocess.run(["sync", "-f", copied], check=True)

    def forget() -> None:
        copied.unlink() if copied.is_file() else shutil.rmtree(copied)

    timings = race(
        [
            Contestant("cp + sync", run=copy, after=forget),
            Contestant("file_digest", run=lambda: digest_all(path)),
            Contestant("address", run=lambda: address(path)),
            Contestant("store.add", run=lambda: Store(store).add(path), after=lambda: shutil.rmtree(store)),
        ],
        rounds,
    )
    copying, hashing, addressing, ours = timings
    both = zip(copying.seconds, hashing.seconds, strict=True)
    bound = Timing("slower of both", [max(pair) for pair in both], hashing.cpu_s)
    notes = [
        ssl.OPENSSL_VERSION,
        f"time in units of the slower of both: {ratio(ours, bound):.3f} (goal {GOAL})",
        f"speed of address in units of file_digest on {available_cores()} cores: "
        f"{1 / ratio(addressing, hashing):.3f} (goal {HASH_GOAL})",
    ]
    report(f"add {what} to the store", [*timings, bound], bound, notes)


if __name__ == "__main__":
    main()
