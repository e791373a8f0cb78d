"""A verified pull of one large file from a real Kubo gateway, against ``curl`` of the same file and ``ipfs get``.

    python bench/pull.py [--gib 2] [--rounds 5]

Both start as processes of their own and end with the file on disk; ours has by then compared every block with its CID
and the whole with its SHA-256. Ours also waits until the bytes are durable (fsync); for that, curl stands there twice.
``ipfs get`` asks the same node over its RPC, which is the nearest it comes to a download with nothing fetched before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from add import ipfs_repository, random_file
from harness import Contestant, race, ratio, report, version_of

from citrate.core.records import Artifact, FileEntry


def fetch(gateway: str, expected: str, root: str) -> None:
    """What ``citrate pull`` does once it knows what to expect."""
    from citrate.registry.fetching import fetch_artifact
    from citrate.registry.sources import GatewaySource
    from citrate.registry.store import Store

    file = FileEntry(**json.loads(expected))
    artifact = Artifact(file.cid, file.sha256, file.size_bytes, (file,), bare=True)
    fetch_artifact(artifact, Store(Path(root)), [GatewaySource(gateway)])


@contextmanager
def kubo_gateway(path: Path) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """A running Kubo that holds the file: its gateway's URL, the file's CID, the binary, and what it needs set."""
    with ipfs_repository() as (ipfs, extra):
        environment = {**os.environ, **extra}
        done = subprocess.run([ipfs, "add", "-Q", path], env=environment, check=True, capture_output=True, text=True)
        daemon = subprocess.Popen([ipfs, "daemon", "--offline"], env=environment, stdout=subprocess.DEVNULL)
        address = Path(extra["IPFS_PATH"]) / "gateway"
        while not (address.exists() and address.read_text()):
            time.sleep(0.05)
        try:
            yield address.read_text().strip(), done.stdout.strip(), ipfs, extra
        finally:
            daemon.terminate()
            daemon.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fetch", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fetch:
        fetch(*options.fetch)
        return
    with random_file(options.gib) as path:
        compare(path, options.rounds)


def compare(path: Path, rounds: int) -> None:
    from citrate.registry.unixfs import address

    file = address(path).files[0]
    with kubo_gateway(path) as (gateway, cid, ipfs, extra), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        assert cid == file.cid
        path.unlink()
        out, store = Path(folder) / "out", Path(folder) / "store"
        curl = ["curl", "-sf", "-o", str(out), f"{gateway}/ipfs/{cid}"]
        ours = [sys.executable, __file__, "--fetch", gateway, json.dumps(asdict(file)), str(store)]
        timings = race(
            [
                Contestant("curl", command=curl, after=out.unlink),
                Contestant("curl + fsync", command=["sh", "-c", '"$@" && sync "$4"', "sh", *curl], after=out.unlink),
                Contestant("citrate", command=ours, after=lambda: shutil.rmtree(store)),
                Contestant("ipfs get", command=[ipfs, "get", "-o", str(out), cid], environment=extra, after=out.unlink),
            ],
            rounds,
        )
    report(
        f"verified pull of {file.size_bytes / 2**30:g} GiB from a Kubo gateway",
        timings,
        timings[0],
        [
            f"{version_of(ipfs, 'version')}, {version_of('curl', '--version').split(' (')[0]}",
            f"time in units of curl: {ratio(timings[2], timings[0]):.3f} (goal 1.1); "
            f"of curl + fsync: {ratio(timings[2], timings[1]):.3f}; "
            f"of ipfs get: {ratio(timings[2], timings[3]):.3f} (goal 0.5)",
        ],
    )


if __name__ == "__main__":
    main()
