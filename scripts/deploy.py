"""Put the contracts on a chain: `python scripts/deploy.py [--rpc-url URL] [--chain-id N] [--authority A] [--home DIR]`.

The addresses follow from the contracts' code and from who governs them, and deploying twice sends nothing the second
time. The key that pays is CITRATE_PRIVATE_KEY, or the home's active key (CITRATE_KEY_PASSWORD_FILE holds its
password). Prints the JSON that belongs into citrate/registry/deployments/<chain_id>.json, and every address;
without a URL that is all it does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from citrate.core.errors import CitrateError
from citrate.core.settings import Settings
from citrate.registry.deployers import deploy_with_key
from citrate.registry.keys import Keys
from citrate.registry.stack import check_authority, stack


def main() -> int:
    """Parse the arguments, deploy, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpc-url", default="", help="the chain; without it nothing is deployed")
    parser.add_argument("--chain-id", type=int, default=0, help="refuse any other chain")
    parser.add_argument("--authority", help="who governs (default: CITRATE_AUTHORITY)")
    parser.add_argument("--home", type=Path, help="whose key pays (default: CITRATE_HOME)")
    given = parser.parse_args()
    flags = {"home": given.home, "rpc_url": given.rpc_url or None, "chain_id": given.chain_id or None}
    try:
        settings = Settings.load({**flags, "authority": given.authority})
        if not given.rpc_url:
            print_stack(check_authority(settings.authority))
            return 0
        done = deploy_with_key(given.rpc_url, settings, Keys(settings.home), told=_say)
    except CitrateError as error:
        _say(f"error: {error.message}\nhint: {error.hint}")
        return error.exit_code
    for call in done.pending:
        _say(f"pending: {call.sender} must send {call.to} the data 0x{call.data.hex()}; {call.why}")
    print_stack(done.authority)
    return 0


def print_stack(authority: str) -> None:
    """Print the authority and the addresses that follow from it."""
    print(json.dumps({"authority": authority, **stack(authority)}, indent=2))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
