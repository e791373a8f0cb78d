"""Where the contracts of a chain are: what ``deployments/<chain_id>.json`` in the package says, else what follows.

An address follows from the contract's code and, for those that depend on it, from the authority. So a file holds at
most ``{"authority": "0x..."}``, and names a contract only where it stands elsewhere (one of another build). Nothing
has to be kept in step with the code.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from citrate.core.errors import CitrateError, ConfigError
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import artifacts
from citrate.registry.rpc import is_loopback
from citrate.registry.stack import ANVIL_ACCOUNT, check_authority, stack


@dataclass(frozen=True)
class Deployment:
    """What the package knows of a chain."""

    authority: str = ""
    contracts: Mapping[str, str] = field(default_factory=dict)
    """Contract name -> address, where it is not the one that follows."""


def on(chain_id: int) -> Deployment:
    """What the package knows of a chain; nothing of an unlisted one.

    Raises:
        CitrateError: the package is damaged.
    """
    try:
        text = _folder().joinpath(f"{chain_id}.json").read_text("utf-8")
    except FileNotFoundError:
        return Deployment()
    try:
        known = {str(name): str(address) for name, address in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise CitrateError(f"deployments/{chain_id}.json cannot be read: {error}", hint="reinstall citrate") from error
    return Deployment(known.pop(artifacts.AUTHORITY, ""), known)


def registry_on(chain_id: int) -> str:
    """The ModelRegistry's address; it has the same one on every chain unless the package says otherwise."""
    return on(chain_id).contracts.get(artifacts.MODEL_REGISTRY) or artifacts.load(artifacts.MODEL_REGISTRY).address


def authority_on(chain_id: int, rpc_url: str, setting: str = "") -> str:
    """Who governs the contracts of a chain: the setting, what the package knows, Anvil's first account on a devnet.

    Returns:
        An address, or an empty text where nobody is known.

    Raises:
        ConfigError: it is no address, or everybody has its key.
    """
    local = chain_id == DEVNET_CHAIN_ID and is_loopback(rpc_url)
    found = setting or on(chain_id).authority or (ANVIL_ACCOUNT if local else "")
    if not found:
        return ""
    authority = check_authority(found)
    if authority == ANVIL_ACCOUNT and not local:
        raise ConfigError(
            f"everybody has the key of {authority}: it governs nothing on chain {chain_id}",
            hint="name a key or a multi-signature wallet of your own: --authority ADDRESS",
        )
    return authority


def addresses_on(chain_id: int, authority: str = "", model_registry: str = "") -> Mapping[str, str]:
    """Contract name -> address on a chain, in the order of deployment; without an authority those that need none.

    Args:
        chain_id: the chain.
        authority: who governs (`authority_on`).
        model_registry: where the ModelRegistry is, if the settings say so.
    """
    given = {artifacts.MODEL_REGISTRY: model_registry} if model_registry else {}
    return stack(authority, {**on(chain_id).contracts, **given})


def governed(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the contracts whose address follows from the authority."""
    return tuple(name for name in names if name != artifacts.MODEL_REGISTRY and not artifacts.load(name).address)


def _folder() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("citrate.registry").joinpath("deployments")
