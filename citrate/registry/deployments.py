"""Where the contracts are: ``deployments/<chain_id>.json`` in the package, else the address that their code gives.

The second is the rule, on a devnet too: no list has to be kept in step with the code.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping

from citrate.core.errors import CitrateError
from citrate.registry import artifacts


def on(chain_id: int) -> Mapping[str, str]:
    """Contract name -> address, of the contracts that are known on a chain; empty for an unlisted one."""
    try:
        text = _folder().joinpath(f"{chain_id}.json").read_text("utf-8")
    except FileNotFoundError:
        return {}
    try:
        return {str(name): str(address) for name, address in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise CitrateError(f"deployments/{chain_id}.json cannot be read: {error}", hint="reinstall citrate") from error


def registry_on(chain_id: int) -> str:
    """The ModelRegistry's address; it has the same one on every chain unless the package says otherwise."""
    return on(chain_id).get(artifacts.MODEL_REGISTRY) or artifacts.load(artifacts.MODEL_REGISTRY).address


def _folder() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("citrate.registry").joinpath("deployments")
