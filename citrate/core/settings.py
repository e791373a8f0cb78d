"""Every setting: its value and where it came from. Flags > CITRATE_* > citrate.toml > defaults.

``citrate.toml`` is looked for from the working folder upwards, then in the home. Its top level holds the keys below,
``[networks.NAME]`` the keys of one network, ``[addresses]`` the address book::

    network = "base"
    gateways = ["https://gateway.example"]

    [networks.base]
    rpc_url = "https://rpc.example"
    chain_id = 8453
    authority = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"
    finality = "safe"

    [addresses]
    acme = "0x52908400098527886E0F7030069857D2E4169EE7"

Secrets never come from here: they are read from the environment or a file when a key is unlocked.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from citrate.core.bytesizes import parse_bytes
from citrate.core.errors import ConfigError
from citrate.core.records import ADDRESS_PATTERN

DEVNET = "devnet"
DEVNET_CHAIN_ID = 31337
FILE_NAME = "citrate.toml"
FINALITIES = ("latest", "safe", "finalized")
"""How sure a chain must be of a block: it has it; a reorganisation is unlikely; it cannot be reorganised."""
_NETWORK_KEYS = (
    "rpc_url", "chain_id", "model_registry", "authority", "confirmations", "finality", "max_fee_gwei"
)  # fmt: skip
_SECRETS = ("private_key", "key_password", "key_password_file")


@dataclass(frozen=True)
class Settings:
    """The settings of one run. ``origin`` says for each where its value came from."""

    home: Path
    network: str = DEVNET
    rpc_url: str = ""
    """Empty on the devnet: the address of the Anvil that runs under ``home``."""
    chain_id: int = 0
    """0: that of the network, or whatever the given ``rpc_url`` must answer as a devnet."""
    model_registry: str = ""
    authority: str = ""
    """Who governs the contracts, which their addresses follow from. Empty: who the package knows for the chain."""
    confirmations: int | None = None
    """Blocks that must follow that of a transaction. None: 0 for a node on this machine, 1 elsewhere."""
    finality: str = "latest"
    """One of ``FINALITIES``: what the chain must say of a transaction's block."""
    max_fee_gwei: float = 0.0
    """The most that is paid for a gas, in 10^9 wei. 0: no limit."""
    gateways: tuple[str, ...] = ()
    kubo_api: str = ""
    key: str = ""
    offline: bool = False
    cache_max_gb: float = 0.0
    """0: no limit."""
    max_rate: int = 0
    """Bytes a second that all sources together may give, as ``20MB`` or a number. 0: no limit."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_devnet(self) -> bool:
        """Whether the chain is this home's own Anvil."""
        return self.network == DEVNET and not self.rpc_url

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Settings:
        """Collect the settings.

        Args:
            flags: values given on the command line; ``None`` values are not given.
            environ: the environment (default: the process's own).
            folder: where the search for ``citrate.toml`` starts (default: the working folder).

        Raises:
            ConfigError: a value of the wrong kind, an unknown key, a secret in the file, an unknown network.
        """
        environ = os.environ if environ is None else environ
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        home, home_origin = _home(given, environ)
        _require_folder(home)
        found = _find_file(folder or Path.cwd(), home)
        table = _read_file(found) if found else {}
        layers: list[tuple[str, Mapping[str, object]]] = [
            ("flag", given),
            ("environment", _from_environment(environ)),
        ]
        base = _layer(table, str(found))
        layers.append((str(found), base))
        network, network_origin = _first("network", layers) or (DEVNET, "default")
        layers.append((f"{found} [networks.{network}]", _network(table, str(network), found)))
        values: dict[str, object] = {"home": home, "network": network}
        origin = {"home": home_origin, "network": network_origin}
        for name in _KEYS:
            if name == "network":
                continue
            value = _first(name, layers)
            origin[name] = value[1] if value else "default"
            if value:
                values[name] = _coerce(name, value[0], value[1])
        values["addresses"] = _addresses(table, found)
        return cls(**values, origin=origin)  # type: ignore[arg-type]  # each value was coerced by _coerce

    def shown(self) -> dict[str, tuple[str, str]]:
        """Name -> (value as text, origin), for ``config show``."""
        return {
            name: (_show(getattr(self, name)), self.origin.get(name, "default"))
            for name in (f.name for f in fields(self))
            if name not in ("addresses", "origin")
        }


_KEYS = tuple(f.name for f in fields(Settings) if f.name not in ("home", "addresses", "origin"))


def _show(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _home(given: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Path, str]:
    for value, origin in ((given.get("home"), "flag"), (environ.get("CITRATE_HOME"), "environment")):
        if value:
            return Path(str(value)).expanduser().absolute(), origin
    import platformdirs  # 25 ms that a given home saves

    return Path(platformdirs.user_data_dir("citrate")), "default"


def _require_folder(home: Path) -> None:
    """Refuse a home that is a file, or would be below one.

    Raises:
        ConfigError: it is.
    """
    stands = next(path for path in (home, *home.parents) if os.path.lexists(path))
    if not stands.is_dir():
        what = "is" if stands == home else f"is below {stands}, which is"
        raise ConfigError(f"the home {home} {what} no folder", hint="choose a folder with --home or CITRATE_HOME")


def _find_file(folder: Path, home: Path) -> Path | None:
    folder = folder.absolute()
    candidates = [parent / FILE_NAME for parent in (folder, *folder.parents)]
    return next((path for path in [*candidates, home / FILE_NAME] if path.is_file()), None)


def _read_file(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="mend the file, or move it away") from error


def _layer(table: Mapping[str, object], where: str) -> dict[str, object]:
    for name in table:
        if name in _SECRETS:
            raise ConfigError(f"{where} holds {name}", hint=f"secrets belong into CITRATE_{name.upper()}")
        if name not in (*_KEYS, "networks", "addresses"):
            raise ConfigError(f"{where}: unknown key {name!r}", hint=f"keys: {', '.join(_KEYS)}")
    return {name: value for name, value in table.items() if name in _KEYS}


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found = {name: environ.get(f"CITRATE_{name.upper()}", "") for name in _KEYS}
    return {name: value for name, value in found.items() if value}


def _network(table: Mapping[str, object], network: str, found: Path | None) -> dict[str, object]:
    networks = table.get("networks", {})
    if not isinstance(networks, dict):
        raise ConfigError(f"{found}: networks is not a table", hint="write [networks.NAME]")
    chosen = networks.get(network)
    if chosen is None:
        if network == DEVNET:
            return {}
        known = ", ".join([DEVNET, *networks])
        raise ConfigError(
            f"unknown network {network!r}", hint=f"known: {known}; others: [networks.{network}] in {FILE_NAME}"
        )
    if not isinstance(chosen, dict):
        raise ConfigError(f"{found}: networks.{network} is not a table", hint=f"write [networks.{network}]")
    unknown = [name for name in chosen if name not in (*_NETWORK_KEYS, "gateways", "kubo_api")]
    if unknown:
        raise ConfigError(
            f"{found}: unknown key {unknown[0]!r} in [networks.{network}]", hint="see citrate config show"
        )
    return chosen


def _addresses(table: Mapping[str, object], found: Path | None) -> dict[str, str]:
    book = table.get("addresses", {})
    if not isinstance(book, dict):
        raise ConfigError(f"{found}: addresses is not a table", hint="write [addresses]")
    for name, address in book.items():
        if not isinstance(address, str) or not ADDRESS_PATTERN.fullmatch(address):
            raise ConfigError(f"{found}: addresses.{name} is not an address", hint="an address is 0x and 40 hex digits")
    return book


def _first(name: str, layers: list[tuple[str, Mapping[str, object]]]) -> tuple[object, str] | None:
    return next(((layer[name], origin) for origin, layer in layers if name in layer), None)


def _coerce(name: str, value: object, origin: str) -> object:
    problem = ConfigError(f"{name} = {value!r} ({origin}) is not valid", hint="see citrate config show")
    if name == "gateways":
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise problem
        urls = tuple(part.strip().rstrip("/") for part in parts if part.strip())
        if not all(url.startswith(("http://", "https://")) for url in urls):
            raise problem
        return urls
    if name in ("chain_id", "confirmations"):
        if isinstance(value, bool) or not str(value).isdecimal():
            raise problem
        return int(str(value))
    if name in ("cache_max_gb", "max_fee_gwei"):
        return _not_negative(value, problem)
    if name == "max_rate":
        try:
            return parse_bytes(str(value))
        except ConfigError as error:
            problem.hint = error.hint
            raise problem from None
    if name == "finality":
        if value not in FINALITIES:
            problem.hint = f"one of {', '.join(FINALITIES)}"
            raise problem
        return value
    if name == "offline":
        text = str(value).lower()
        if text not in ("true", "false", "1", "0", "yes", "no"):
            raise problem
        return text in ("true", "1", "yes")
    address = name in ("model_registry", "authority")
    if not isinstance(value, str) or (address and not ADDRESS_PATTERN.fullmatch(value)):
        raise problem
    return value


def _not_negative(value: object, problem: ConfigError) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise problem from None
    if not 0 <= number < float("inf"):
        raise problem
    return number
