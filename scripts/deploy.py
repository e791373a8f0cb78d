"""Put the contracts on a chain: `python scripts/deploy.py [--rpc-url URL] [--chain-id N] [--home DIR]`.

They have the same address on every chain, and deploying twice sends nothing the second time. The key that pays is
CITRATE_PRIVATE_KEY, or the home's active key (CITRATE_KEY_PASSWORD_FILE holds its password). Prints the addresses as
the JSON that belongs into citrate/registry/deployments/<chain_id>.json; without a URL that is all it does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from citrate.core.errors import CitrateError
from citrate.core.settings import Settings
from citrate.registry.deploy import addresses, deploy_with_key
from citrate.registry.keys import Keys
from citrate.registry.signer import Signer


def main() -> int:
    """Parse the arguments, deploy, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpc-url", default="", help="the chain; without it nothing is deployed")
    parser.add_argument("--chain-id", type=int, default=0, help="refuse any other chain")
    parser.add_argument("--home", type=Path, help="whose key pays (default: CITRATE_HOME)")
    given = parser.parse_args()
    if not given.rpc_url:
        print(json.dumps(dict(addresses()), indent=2))
        return 0
    settings = Settings.load({"home": given.home, "rpc_url": given.rpc_url})
    keys = Keys(settings.home)

    def unlock(chain_id: int) -> Signer:
        key = keys.for_writing(settings.key, chain_id=chain_id, rpc_url=given.rpc_url)
        return keys.unlock(key, chain_id=chain_id, rpc_url=given.rpc_url)

    try:
        deployed = deploy_with_key(given.rpc_url, given.chain_id, settings.home, unlock)
    except CitrateError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(dict(deployed), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
