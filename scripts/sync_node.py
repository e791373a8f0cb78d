"""Keep a validator's mirror: follow the registry from block 0, fetch by policy, verify, pin, survive restarts.

Run it from a service manager; it ends on SIGTERM between two variants at the latest, and the next start goes on where
this one stopped. The settings are citrate's own (CITRATE_HOME, CITRATE_RPC_URL, CITRATE_GATEWAYS, citrate.toml).

    python scripts/sync_node.py --formats gguf safetensors --max-total-gb 500
    python scripts/sync_node.py --once
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict

from citrate import Registry
from citrate.core.errors import CitrateError, UnavailableError
from citrate.core.records import Format
from citrate.registry.sync import Event, Mirror
from citrate.registry.sync_policy import Policy


def main() -> int:
    """Mirror until told to stop; returns the exit code of the last pass."""
    options = _options()
    policy = Policy(formats=frozenset(map(Format, options.formats)), max_total_gb=options.max_total_gb)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    mirror: Mirror | None = None
    while not stop.is_set():
        try:
            mirror = mirror or Mirror(Registry.open(), policy)
            done = mirror.run_once(_tell)
        except UnavailableError as error:  # the chain comes back; a mirror that runs for a year waits for it
            _print({"event": "waiting", "message": error.message})
            if options.once:
                return error.exit_code
        else:
            _print({"event": "pass", **asdict(done)})
            if options.once:
                return UnavailableError.exit_code if done.failed else 0
        stop.wait(options.every_s)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--formats", nargs="+", choices=list(Format), default=list(Format), help="these variants only")
    parser.add_argument("--max-total-gb", type=float, default=float("inf"), help="decimal GB of the mirror's objects")
    parser.add_argument("--every-s", type=float, default=12.0, help="seconds between passes")
    parser.add_argument("--once", action="store_true", help="one pass, then stop")
    return parser.parse_args()


def _tell(event: Event) -> None:
    _print({"event": "variant", **asdict(event)})


def _print(document: dict[str, object]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CitrateError as error:
        print(f"error: {error.message}\nhint:  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
