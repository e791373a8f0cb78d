"""SHA-256 and CID of one large file: citrate against hashlib alone, and against ``ipfs add -n`` (CID alone).

    python bench/add.py [--gib 2] [--rounds 5]

The file is random and in the page cache. ``ipfs add -n`` starts as a process, in some 50 ms; ours run in this one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Contestant, race, ratio, report, version_of

from citrate.registry.cid_alone import cid_of
from citrate.registry.unixfs import address

CHECKOUT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def random_file(gib: float) -> Iterator[Path]:
    """A file of random bytes, read once so that it is in the page cache."""
    with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder:
        path = Path(folder) / "weights.bin"
        with path.open("wb") as file:
            for _ in range(int(gib * 64)):
                file.write(os.urandom(1 << 24))
        yield path


@contextlib.contextmanager
def ipfs_repository() -> Iterator[tuple[str, dict[str, str]]]:
    """The Kubo binary and the environment of an empty repository."""
    own = CHECKOUT / "bin" / "ipfs"
    binary = str(own) if own.exists() else shutil.which("ipfs")
    if binary is None:
        raise SystemExit("no Kubo: make setup builds bin/ipfs")
    with tempfile.TemporaryDirectory(prefix="citrate-bench-ipfs-") as folder:
        environment = {"IPFS_PATH": folder}
        command = [binary, "init", "--profile=test,unixfs-v1-2025"]
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
        yield binary, environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with random_file(options.gib) as path, ipfs_repository() as (ipfs, environment):
        hashing(path, ipfs, environment, options.rounds)


def hashing(path: Path, ipfs: str, environment: dict[str, str], rounds: int) -> None:
    def file_digest() -> str:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    assert address(path).sha256 == file_digest()
    add = [ipfs, "add", "--only-hash", "-Q", str(path)]
    shown = subprocess.run(add, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == address(path).cid == cid_of(path).cid
    timings = race(
        [
            Contestant("file_digest", run=file_digest),
            Contestant("citrate", run=lambda: address(path)),
            Contestant("citrate, CID alone", run=lambda: cid_of(path)),
            Contestant("ipfs add -n", command=add, environment=environment),
        ],
        rounds,
    )
    digest, ours, alone, kubo = timings
    report(
        f"SHA-256 + CID of {path.stat().st_size / 2**30:g} GiB",
        timings,
        digest,
        [
            f"{ssl.OPENSSL_VERSION}; {version_of(ipfs, 'version')}; profile unixfs-v1-2025",
            f"speed in units of file_digest: {1 / ratio(ours, digest):.3f} (goal 0.95)",
            f"time in units of ipfs add -n: {ratio(ours, kubo):.3f} (goal 0.8)",
            f"the CID alone: {1 / ratio(alone, kubo):.2f} times as fast as ipfs add -n (goal 2.5)",
        ],
    )


if __name__ == "__main__":
    main()
