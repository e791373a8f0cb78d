"""`citrate deploy-contracts`: put the contracts on a chain."""

from __future__ import annotations

from citrate.cli import context

app = context.new_app()


@app.command()
def deploy_contracts() -> None:
    """Deploy what the chain lacks, at the addresses the contracts have on every chain; twice is once.

    Example: citrate deploy-contracts --network base
    """
    contracts = dict(context.registry().deploy_contracts())
    context.emit({"contracts": contracts}, lambda: context.table(list(contracts.items())))
