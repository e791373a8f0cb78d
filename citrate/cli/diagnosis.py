"""What `citrate doctor` looks at. Nothing is started, installed or changed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from citrate.core.errors import CitrateError, StoreError
from citrate.registry import anvil, artifacts
from citrate.registry.session import Session

_EXTRAS = (
    ("gguf", ("numba", "llama_cpp")),
    ("mlx", ("mlx", "mlx_lm", "numba")),
    ("training", ("torch", "transformers")),
)

_NO_AUTHORITY = (
    "write who governs the chain's contracts into citrate.toml: authority = ADDRESS; if nobody has deployed them: "
    "citrate deploy-contracts --authority ADDRESS"
)


@dataclass(frozen=True)
class Finding:
    """One check. ``required``: nothing works without it."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    required: bool = False


def diagnose(session: Session) -> list[Finding]:
    """Look at the installation, the home, the chain and the sources."""
    return [*_python(), *_extras(), *_home(session), *_chain(session), *_sources(session), *_runtime()]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding("python", fits, version, "citrate needs Python 3.11 to 3.13", required=True)


def _extras() -> Iterator[Finding]:
    for extra, modules in _EXTRAS:
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        detail = f"missing {', '.join(absent)}" if absent else ", ".join(modules)
        yield Finding(f"citrate[{extra}]", not absent, detail, f"pip install 'citrate[{extra}]'")


def _home(session: Session) -> Iterator[Finding]:
    home = session.settings.home
    at = next(path for path in (home, *home.parents) if path.exists())
    writable = os.access(at, os.W_OK)
    detail = f"{home}, {shutil.disk_usage(at).free / 1e9:.0f} GB free"
    if not writable:
        detail = f"{at} may not be written"
    yield Finding("home", writable, detail, "mend its permissions, or choose another --home", required=True)
    yield _asked("key", lambda: session.keys.find(session.settings.key).address)


def _chain(session: Session) -> Iterator[Finding]:
    binary = anvil.find(session.settings.home)
    if session.settings.is_devnet:
        yield Finding("anvil", binary is not None, str(binary or "not found"), "citrate devnet up installs it")
    if not session.chain_is_up():
        yield Finding("chain", False, "the local chain is down", "citrate devnet up (a first register-model does it)")
        return

    def connected() -> str:
        chain = session.chain
        return f"chain {chain.chain_id} at {session.rpc_url}, ModelRegistry {chain.registry_address}"

    # a chain that the settings name must be there; the local one starts by itself
    found = _asked("chain", connected, required=not session.settings.is_devnet)
    yield found
    if found.ok:
        yield _contracts(session)


def _contracts(session: Session) -> Finding:
    """Which contracts of the stack stand; models are registered and fetched without the others."""
    chain = session.chain
    try:
        chain.require_governed()
        there = {name: bool(chain.find(name)) for name in artifacts.shipped()}
    except CitrateError as error:
        return Finding("contracts", False, error.message, error.hint)
    listed = ", ".join(name for name, stands in there.items() if stands)
    absent = [name for name, stands in there.items() if not stands]
    unknown = [name for name in absent if name not in chain.addresses]
    if unknown:
        detail = f"{listed}; not looked at, since no authority is set for chain {chain.chain_id}: {', '.join(unknown)}"
        return Finding("contracts", False, detail, _NO_AUTHORITY)
    detail = f"{listed}; missing: {', '.join(absent)}" if absent else listed
    return Finding("contracts", not absent, detail, "citrate deploy-contracts")


def _sources(session: Session) -> Iterator[Finding]:
    from citrate.registry.kubo import Kubo

    if session.settings.kubo_api:
        kubo = Kubo(session.settings.kubo_api)
        yield _asked("kubo", lambda: f"{kubo.version()} at {kubo.name}")
    for url in session.settings.gateways:
        yield _asked("gateway", partial(_reachable, url))


def _reachable(url: str) -> str:
    """Ask a gateway for the empty block, which every one has; the question says nothing of what is wanted."""
    import httpx

    try:
        httpx.get(f"{url}/ipfs/bafkqaaa?format=raw", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        raise StoreError(f"{url} does not answer: {error}", hint="citrate config show, for where it is set") from error
    return url


def _runtime() -> Iterator[Finding]:
    from citrate.inference.device import probe

    def machine() -> str:
        device = probe()
        return f"{device.kind} {device.arch} {device.name}, {device.memory_bytes / 1e9:.1f} GB for a model".replace(
            "  ", " "
        )

    yield _asked("device", machine)


def _asked(name: str, ask: Callable[[], str], *, required: bool = False) -> Finding:
    try:
        return Finding(name, True, ask(), required=required)
    except CitrateError as error:
        return Finding(name, False, error.message, error.hint, required)
