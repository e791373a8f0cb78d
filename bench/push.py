"""To a Kubo node, and from one by CID.

    python bench/push.py [--gib 1] [--rounds 3]

``push`` against ``ipfs add`` and ``ipfs dag import``; ``cat`` and ``store fetch`` against ``curl`` and ``ipfs dag
export``. One random file, a running daemon on this machine, which forgets the file after every push. ``cat`` compares
every block with its CID before it prints it; ``store fetch`` ends with a plain file and its SHA-256.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from add import ipfs_repository, random_file
from harness import Contestant, race, report, version_of

CITRATE = [sys.executable, "-m", "citrate.cli.main"]


@contextmanager
def daemon() -> Iterator[tuple[list[str], str, str]]:
    """A running Kubo: the words that call it, its RPC's address, its gateway's URL."""
    with ipfs_repository() as (ipfs, extra):
        process = subprocess.Popen(
            [ipfs, "daemon", "--offline"], env={**os.environ, **extra}, stdout=subprocess.DEVNULL
        )
        api, gateway = Path(extra["IPFS_PATH"], "api"), Path(extra["IPFS_PATH"], "gateway")
        while not all(path.exists() and path.read_text() for path in (api, gateway)):
            time.sleep(0.05)
        try:
            yield ["env", f"IPFS_PATH={extra['IPFS_PATH']}", ipfs], api.read_text().strip(), gateway.read_text().strip()
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with random_file(options.gib) as path, daemon() as (ipfs, api, gateway), tempfile.TemporaryDirectory() as home:
        own = {"CITRATE_HOME": home}
        done = subprocess.run(
            [*CITRATE, "add", str(path)], env={**os.environ, **own}, check=True, capture_output=True, text=True
        )
        cid = done.stdout.strip()
        _push(ipfs, api, path, cid, own, options.rounds)
        subprocess.run([*CITRATE, "push", cid, "--to", api], env={**os.environ, **own}, check=True, capture_output=True)
        _by_cid(ipfs, gateway, cid, options.rounds)


def _push(ipfs: list[str], api: str, path: Path, cid: str, own: dict[str, str], rounds: int) -> None:
    car = path.with_suffix(".car")
    subprocess.run([*CITRATE, "store", "export", cid, "--out", str(car)], env={**os.environ, **own}, check=True)

    def forget() -> None:
        subprocess.run([*ipfs, "pin", "rm", cid], check=True, capture_output=True)
        subprocess.run([*ipfs, "repo", "gc", "--quiet"], check=True, capture_output=True)

    found = race(
        [
            Contestant("ipfs add", command=[*ipfs, "add", "-Q", str(path)], after=forget),
            Contestant("ipfs dag import", command=[*ipfs, "dag", "import", str(car)], after=forget),
            Contestant("citrate push", command=[*CITRATE, "push", cid, "--to", api], environment=own, after=forget),
        ],
        rounds,
    )
    car.unlink()
    report(f"a file of {path.stat().st_size / 2**30:.2f} GiB to a Kubo node", found, found[0], [_version(ipfs)])


def _by_cid(ipfs: list[str], gateway: str, cid: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fresh = {"CITRATE_HOME": folder}
        found = race(
            [
                Contestant("curl, not verified", command=["curl", "-sf", f"{gateway}/ipfs/{cid}"]),
                Contestant("ipfs dag export", command=[*ipfs, "dag", "export", "--progress=false", cid]),
                Contestant("citrate cat", command=[*CITRATE, "cat", cid, "--from", gateway], environment=fresh),
                Contestant(
                    "citrate store fetch",
                    command=[*CITRATE, "store", "fetch", cid, "--from", gateway],
                    environment=fresh,
                    after=lambda: shutil.rmtree(Path(folder) / "store"),
                ),
            ],
            rounds,
        )
    report("the same file by its CID, from Kubo's gateway", found, found[0], [_version(ipfs)])


def _version(ipfs: list[str]) -> str:
    return version_of(ipfs[-1], "version")


if __name__ == "__main__":
    main()
