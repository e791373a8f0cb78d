"""Where the contracts are: ``deployments/<chain_id>.json`` in the package, else the address that their code gives."""

from __future__ import annotations

import importlib.resources
import json
import re
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


def chains() -> tuple[int, ...]:
    """The chains that the package lists."""
    names = (re.fullmatch(r"(\d+)\.json", entry.name) for entry in _folder().iterdir())
    return tuple(sorted(int(match[1]) for match in names if match))


def _folder() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("citrate.registry").joinpath("deployments")
