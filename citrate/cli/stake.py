"""`citrate stake`: the stake that votes on reported cases."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context, times
from citrate.core import amounts
from citrate.registry.moderation import Moderation

app = context.new_app(no_args_is_help=True)

At = Annotated[str, typer.Option("--at", metavar="ADDRESS", help="A former moderation contract.")]


@app.callback()
def stake() -> None:
    """The stake that votes on reported cases. It votes in those that are reported after it was added."""


@app.command()
def add(amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as 1ether.")]) -> None:
    """Stake an amount.

    Example: citrate stake add 1ether
    """
    registry = context.registry()
    receipt = registry.moderation.stake(amounts.parse(amount, "amount"))
    _show(registry.moderation, registry.address_of("me"), **context.receipt_document(receipt))


@app.command()
def withdraw(amount: Annotated[str, typer.Argument(metavar="AMOUNT|all", help="Such as 1ether.")], at: At = "") -> None:
    """Take stake back; not before the deadline of every case that it voted in.

    Example: citrate stake withdraw all
    """
    registry = context.registry()
    moderation = Moderation(registry, at)
    account = registry.address_of("me")
    wei = moderation.stake_of(account).amount_wei if amount == "all" else amounts.parse(amount, "amount")
    receipt = moderation.unstake(wei)
    _show(moderation, account, **context.receipt_document(receipt))


@app.command()
def show(
    account: Annotated[str, typer.Option(help="An address or a name; default: the active key.")] = "me", at: At = ""
) -> None:
    """Print what an account has staked, until when it cannot leave, and what it is owed.

    Example: citrate stake show
    """
    registry = context.registry()
    whose = registry.address_of(account)
    _show(Moderation(registry, at), whose, sales_wei=registry.access.credit_of(whose))


def _show(moderation: Moderation, account: str, **more: object) -> None:
    stake, bonds_wei, now = moderation.stake_of(account), moderation.credit_of(account), moderation.now()
    locked = stake.locked_until >= now
    document: dict[str, object] = {
        "account": account,
        "stake_wei": stake.amount_wei,
        "locked_until": stake.locked_until if locked else None,
        "bonds_wei": bonds_wei,
        **more,
    }

    def human() -> None:
        rows = [("account", account), ("stake", amounts.ether(stake.amount_wei))]
        if locked:
            until = f"{times.utc(stake.locked_until)}, {times.span(stake.locked_until - now)} left"
            rows.append(("locked until", until))
        if bonds_wei:
            rows.append(("owed of bonds", f"{amounts.ether(bonds_wei)}: citrate case withdraw"))
        sales_wei = more.get("sales_wei")
        if isinstance(sales_wei, int) and sales_wei:
            rows.append(("owed for sales", f"{amounts.ether(sales_wei)}: citrate access withdraw"))
        context.table(rows)

    context.emit(document, human)
