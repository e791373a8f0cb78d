"""`citrate devnet`: the local chain, an Anvil whose state is kept."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context
from citrate.core.settings import DEVNET
from citrate.registry.devnet import Devnet, DevnetStatus, is_play_chain, top_up
from citrate.registry.rpc import JsonRpc

app = context.new_app(no_args_is_help=True)


@app.callback()
def devnet() -> None:
    """The local chain: Anvil, contracts deployed, state kept over restarts."""


@app.command()
def up() -> None:
    """Start the local chain; gets Anvil through npm where there is none.

    Example: citrate devnet up
    """
    _show(_devnet().up(install=True))


@app.command()
def status() -> None:
    """Say what runs.

    Example: citrate devnet status --json
    """
    _show(_devnet().status())


@app.command()
def down() -> None:
    """Stop the local chain; its state is kept.

    Example: citrate devnet down
    """
    ran = _devnet().down()
    state = _devnet().status()
    context.emit(_document(state), lambda: context.say("stopped" if ran else "it did not run"))


@app.command()
def reset() -> None:
    """Throw the local chain away and start a new one.

    Example: citrate devnet reset
    """
    _show(_devnet().reset())


@app.command()
def fund(address: Annotated[str, typer.Argument(help="The address that gets play money.")]) -> None:
    """Give an address play money on the local chain: the one at rpc_url, if that is one, or this home's own.

    Example: citrate devnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    balance = _fund(context.settings().rpc_url, address)
    context.emit(
        {"address": address, "balance_wei": balance}, lambda: context.say(f"{address} has {balance / 1e18:g} ether")
    )


def _fund(rpc_url: str, address: str) -> int:
    own = _devnet()
    if rpc_url and rpc_url != own.status().rpc_url and is_play_chain(rpc_url):
        return top_up(JsonRpc(rpc_url), address)[1]
    return own.fund(address)


def _devnet() -> Devnet:
    return Devnet(context.settings(network=DEVNET).home)


def _document(state: DevnetStatus) -> dict[str, object]:
    return {
        "rpc_url": state.rpc_url or None,
        "chain_id": state.chain_id,
        "contracts": dict(state.contracts),
        "pid": state.pid or None,
        "block": state.block,
    }


def _show(state: DevnetStatus) -> None:
    def human() -> None:
        rows = [("chain id", str(state.chain_id)), ("block", str(state.block)), ("pid", str(state.pid or "-"))]
        rows += list(state.contracts.items())
        context.table([*rows, ("rpc_url", state.rpc_url or "down (citrate devnet up)")])

    context.emit(_document(state), human)
