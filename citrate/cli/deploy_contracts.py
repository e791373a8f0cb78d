"""`citrate deploy-contracts`: put the contracts on a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context
from citrate.core.settings import DEVNET

if TYPE_CHECKING:
    from citrate.registry.deploy import Deployed

app = context.new_app()


@app.command()
def deploy_contracts(
    authority: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who governs policy: moderation and the fee on sales.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
) -> None:
    """Deploy what the chain lacks, at the addresses that follow from code and authority; twice is once.

    Example: citrate deploy-contracts --network base --authority 0x8ba1f109551bD432803012645Ac136ddd64DBA72
    """
    deployed = context.registry(authority=authority).deploy_contracts(dry_run=dry_run)
    context.emit(_document(deployed, dry_run), lambda: _show(deployed, dry_run))
    if not dry_run and authority:
        _tell_setting(deployed.authority)


def _tell_setting(authority: str) -> None:
    """Say what the settings lack, without which no other command finds what was deployed."""
    from citrate.registry.deployments import on
    from citrate.registry.stack import ANVIL_ACCOUNT

    settings = context.settings()
    known = settings.authority or on(settings.chain_id).authority or (ANVIL_ACCOUNT if settings.is_devnet else "")
    if known.lower() != authority.lower():
        where = "" if settings.network == DEVNET else f" under [networks.{settings.network}]"
        context.talk(f"the other commands must know who governs; write into citrate.toml{where}:")
        context.talk(f'authority = "{authority}"')


def _document(deployed: Deployed, dry_run: bool) -> dict[str, object]:
    return {
        "contracts": dict(deployed.contracts),
        "authority": deployed.authority,
        "dry_run": dry_run,
        "transactions": [
            {"contract": sent.contract, "tx_hash": sent.tx_hash or None, "gas_used": sent.gas_used}
            for sent in deployed.transactions
        ],
        "pending": [
            {"to": call.to, "data": "0x" + call.data.hex(), "from": call.sender, "why": call.why}
            for call in deployed.pending
        ],
    }


def _show(deployed: Deployed, dry_run: bool) -> None:
    gas = {sent.contract: sent.gas_used for sent in deployed.transactions}
    rows = [("authority", deployed.authority, "")]
    for name, address in deployed.contracts.items():
        if name not in gas:
            rows.append((name, address, "stands"))
            continue
        rows.append((name, address, _step(gas[name], dry_run)))
    if "Policy.appoint" in gas:
        rows.append(("Policy.appoint", "Moderation", _step(gas["Policy.appoint"], dry_run)))
    context.table(rows)
    for call in deployed.pending:
        context.talk(f"pending: {call.sender} must send this; {call.why}")
        context.say(f"to {call.to} data 0x{call.data.hex()}")


def _step(gas: int | None, dry_run: bool) -> str:
    cost = "gas known once the steps ahead are taken" if gas is None else f"{gas:,} gas"
    return f"would be sent, {cost}" if dry_run else f"sent, {cost}"
