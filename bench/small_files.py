"""100,000 small files in 100 folders: adding, hashing, verifying, exporting and listing them, against ``cp`` and Kubo.

    python bench/small_files.py [--files 100000] [--rounds 3]

Files of 1 to 4 KB. Every contestant is a process of its own, with an empty home or repository for what adds. ``cp`` is
``cp -r`` and ``sync`` of the file system; Kubo's ``add`` pins, as ours does, and syncs as its ``test`` profile says.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from add import ipfs_repository
from harness import Contestant, Timing, race, report, version_of

CITRATE = [sys.executable, "-m", "citrate.cli.main"]
FOLDERS = 100
PROFILE = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder, ipfs_repository() as (ipfs, _):
        source = Path(folder) / "model"
        generate(source, options.files)
        os.sync()
        compare(source, ipfs, options.files, options.rounds)


def generate(source: Path, files: int) -> None:
    seeded = random.Random(5)
    for number in range(FOLDERS):
        (source / f"folder-{number:02}").mkdir(parents=True)
    for number in range(files):
        path = source / f"folder-{number % FOLDERS:02}" / f"record-{number:06}.json"
        path.write_bytes(seeded.randbytes(seeded.randint(1000, 4000)))


def compare(source: Path, ipfs: str, files: int, rounds: int) -> None:
    home, repository, copied = (source.parent / name for name in ("home", "repository", "copied"))
    settings = {"CITRATE_HOME": str(home), "IPFS_PATH": str(repository)}

    def fresh() -> None:
        for folder in (home, repository, copied):
            shutil.rmtree(folder, ignore_errors=True)
        said([ipfs, "init", "--profile=test,unixfs-v1-2025"], settings)

    def command(name: str, *words: str | Path) -> Contestant:
        return Contestant(name, command=list(map(str, words)), environment=settings, after=fresh)

    fresh()
    added = race(
        [
            command("cp + sync", "sh", "-c", 'cp -r "$0" "$1" && sync -f "$1"', source, copied),
            command("ipfs add", ipfs, "add", "-r", "-Q", "--hidden", *PROFILE, source),
            command("citrate add", *CITRATE, "add", source),
        ],
        rounds,
    )
    hashed = race(
        [
            command("ipfs add -n", ipfs, "add", "-r", "-n", "-Q", "--hidden", *PROFILE, source),
            command("add --only-hash", *CITRATE, "add", "--only-hash", source),
            command("add --cid-only", *CITRATE, "add", "--cid-only", source),
        ],
        rounds,
    )
    cid = said([*CITRATE, "add", str(source)], settings)
    assert cid == said([ipfs, "add", "-r", "-n", "-Q", "--hidden", *PROFILE, str(source)], settings)
    later = [
        ("store verify", [*CITRATE, "store", "verify"]),
        ("store where", [*CITRATE, "store", "where", cid]),
        ("store export", [*CITRATE, "store", "export", cid, "--out", str(source.parent / "out.car")]),
        ("store ls", [*CITRATE, "store", "ls"]),
    ]
    stored = race([Contestant(name, command=words, environment=settings) for name, words in later], rounds)
    title = f"{files:,} files of 1 to 4 KB"
    report(f"add {title}", added, added[0], [version_of(ipfs, "version")])
    report(f"hash {title}", hashed, hashed[0])
    report(f"an object of {title}", [*stored, listed(cid, settings, rounds)], stored[0])


def listed(cid: str, settings: dict[str, str], rounds: int) -> Timing:
    """Our gateway's page of one of the folders and of the root."""
    process = subprocess.Popen(
        [*CITRATE, "gateway", "--port", "0"], env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        timing = Timing("gateway: two lists")
        for _ in range(rounds):
            started = time.perf_counter()
            for path in ("", "folder-07/"):
                with urllib.request.urlopen(f"{url}/ipfs/{cid}/{path}") as answer:
                    assert answer.read()
            timing.seconds.append(time.perf_counter() - started)
            timing.cpu_s.append(0.0)
        return timing
    finally:
        process.terminate()
        process.wait()


def said(command: list[str], settings: dict[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
