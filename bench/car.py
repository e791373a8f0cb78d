"""CARs into the store and out of it: ``store import`` and ``export`` against ``ipfs dag import`` and ``export``.

    python bench/car.py [--gib 1] [--rounds 3]

One random file, once in Kubo's old profile (kept as blocks) and once in ours (written out as a plain file). Every run
starts with an empty home and an empty repository, and ends when the data is durable as far as each tool cares.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from add import ipfs_repository, random_file
from harness import Contestant, race, report, version_of

PROFILES = {
    "unixfs-v0-2015": ("--cid-version=0",),
    "unixfs-v1-2025": ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with ipfs_repository() as (ipfs, environment), random_file(arguments.gib) as weights:
        folder = weights.parent
        for profile, options in PROFILES.items():
            added = _output([ipfs, "add", "-Q", *options, str(weights)], environment)
            car = folder / f"{profile}.car"
            with car.open("wb") as file:
                subprocess.run([ipfs, "dag", "export", "--progress=false", added], env={**os.environ, **environment},
                               stdout=file, check=True)  # fmt: skip
            _compare(ipfs, folder, car, added, profile, arguments.rounds)


def _compare(ipfs: str, folder: Path, car: Path, root: str, profile: str, rounds: int) -> None:
    home, repository = folder / "home", folder / "repository"
    settings = {"CITRATE_HOME": str(home), "IPFS_PATH": str(repository)}
    citrate = [sys.executable, "-m", "citrate.cli.main", "store"]

    def fresh() -> None:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(repository, ignore_errors=True)
        _output([ipfs, "init", "--profile=test"], settings)

    fresh()
    theirs, ours = race(
        [
            Contestant("ipfs dag import", command=[ipfs, "dag", "import", str(car)], environment=settings, after=fresh),
            Contestant("store import", command=[*citrate, "import", str(car)], environment=settings, after=fresh),
        ],
        rounds,
    )
    _output([*citrate, "import", str(car)], settings)
    _output([ipfs, "dag", "import", str(car)], settings)
    out = [
        Contestant("ipfs dag export", command=["sh", "-c", f"{ipfs} dag export --progress=false {root} > {folder}/out"],
                   environment=settings),
        Contestant("store export", command=[*citrate, "export", root, "--out", str(folder / "out")],
                   environment=settings),
    ]  # fmt: skip
    exported = race(out, rounds)
    (folder / "out").unlink()
    size = f"{car.stat().st_size / 2**30:.2f} GiB, {profile}"
    report(f"import a CAR of {size}", [theirs, ours], theirs, [version_of(ipfs, "version")])
    report(f"export a CAR of {size}", exported, exported[0], [version_of(ipfs, "version")])


def _output(command: list[str], settings: dict[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
