"""`citrate access`: what a model costs, buying it, and what sellers are owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context, times
from citrate.core import amounts
from citrate.core.errors import CitrateError, NotFoundError
from citrate.registry.access import Purchase, Terms
from citrate.registry.access_views import Quote

if TYPE_CHECKING:
    from citrate.facade import Registry

app = context.new_app(no_args_is_help=True)

Ref = Annotated[str, typer.Argument(metavar="REF", help="The version.")]
Model = Annotated[bool, typer.Option("--model", help="The model as a whole: all its versions, also later ones.")]
Max = Annotated[str | None, typer.Option("--max", metavar="PRICE", help="Pay at most this; else what is shown.")]


@app.callback()
def access() -> None:
    """What a model costs, buying it, and what sellers are owed. Access is a receipt: the bytes are public."""


@app.command()
def price(
    ref: Ref,
    price: Annotated[str, typer.Argument(metavar="PRICE", help="Such as 0.01ether; 0 is free, or ends a sale.")],
    model: Model = False,
) -> None:
    """Ask another price from now on. What was bought stays bought.

    Example: citrate access price me/tiny-llama@1.0.0 0.01ether
    """
    wei = amounts.parse(price)
    label, receipt = context.registry().access.set_price(ref, wei, model=model)
    document: dict[str, object] = {"ref": label, "price_wei": wei, **context.change_document(receipt)}
    unchanged = "" if receipt else " (unchanged)"
    context.emit(document, lambda: context.say(f"{label} {_costs(wei, model)}{unchanged}"))


@app.command()
def buy(ref: Ref, model: Model = False, max_: Max = None) -> None:
    """Buy access for the active key, at the price that is shown; a terminal is asked first. Nothing is paid twice.

    Example: citrate access buy 0xf39F.../tiny-llama --max 0.01ether
    """
    registry = context.registry()
    maximum = _agreed(registry, ref, "me", model, max_)
    _tell(registry.access.buy(ref, maximum, model=model), "bought")


@app.command()
def gift(
    ref: Ref,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Who gets access.")],
    model: Model = False,
    max_: Max = None,
) -> None:
    """Buy access for somebody else.

    Example: citrate access gift 0xf39F.../tiny-llama 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    registry = context.registry()
    maximum = _agreed(registry, ref, address, model, max_)
    _tell(registry.access.gift(ref, address, maximum, model=model), "bought")


@app.command()
def grant(
    ref: Ref,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Who gets access.")],
    model: Model = False,
) -> None:
    """Give access to your own model for nothing.

    Example: citrate access grant me/tiny-llama 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    _tell(context.registry().access.grant(ref, address, model=model), "granted")


@app.command()
def show(
    ref: Ref,
    account: Annotated[str, typer.Option(help="Whose access: an address or a name; default: the active key.")] = "me",
) -> None:
    """Print what a version costs, alone and with its model, and whether an account has access.

    Example: citrate access show 0xf39F.../tiny-llama --account 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    registry = context.registry()
    whose = _address(registry, account)  # without a key the price is told all the same
    terms = registry.access.terms(ref, whose)
    document: dict[str, object] = {
        "ref": terms.record.ref,
        "version": _quote_document(terms.record.version_id, terms.version),
        "model": _quote_document(terms.record.model_id, terms.model),
        "seller": terms.version.seller,
        "account": terms.account or None,
        "has_access": terms.has_access if terms.account else None,
        "ground": terms.ground and str(terms.ground),
        "granted_at": terms.granted_at or None,
        "credit_wei": registry.access.credit_of(whose) if whose else None,
        "block_number": terms.block_number,
    }
    context.emit(document, lambda: _show(terms))


@app.command()
def withdraw(to: Annotated[str, typer.Option(help="Where to; default: the active key's address.")] = "") -> None:
    """Pay out all that the active key is owed for sales.

    Example: citrate access withdraw
    """
    paid = context.registry().access.withdraw(to)
    document: dict[str, object] = {
        "account": paid.account,
        "to": paid.to,
        "amount_wei": paid.amount_wei,
        **context.receipt_document(paid.receipt),
    }
    context.emit(document, lambda: context.say(f"{amounts.ether(paid.amount_wei)} to {paid.to}"))


# ---------------------------------------------------------------------------------------------------- parts


def _agreed(registry: Registry, ref: str, account: str, model: bool, maximum: str | None) -> int:
    """The most that is paid: ``--max``, else the price as it is shown; a terminal is asked."""
    if maximum is not None:
        return amounts.parse(maximum, "maximum")
    offer = registry.access.offer(ref, _address(registry, account), model=model)
    price_wei = offer.quote.price_wei
    if price_wei and not offer.has_access:
        context.talk(f"{offer.label} costs {amounts.ether(price_wei)}, to {offer.quote.seller}")
        if context.on_terminal() and not context.confirmed("Buy it?"):
            raise CitrateError("not bought", hint=f"--max {amounts.typed(price_wei)} agrees to the price")
    return price_wei


def _address(registry: Registry, account: str) -> str:
    """The address behind a name; empty for ``me`` without a key."""
    try:
        return registry.address_of(account)
    except NotFoundError:
        return ""


def _tell(done: Purchase, status: str) -> None:
    receipt = done.receipt
    document: dict[str, object] = {
        "ref": done.label,
        "id": done.id,
        "account": done.account,
        "status": status if receipt else "unchanged",
        "price_wei": done.price_wei,
        "fee_wei": done.fee_wei,
        **context.receipt_document(receipt),
        "gas_used": receipt.gas_used if receipt else 0,
    }

    def human() -> None:
        if not receipt:
            context.talk(f"unchanged: {done.account} has access already, nothing was paid")
        elif done.price_wei:
            fee = f", {amounts.ether(done.fee_wei)} of it the fee" if done.fee_wei else ""
            context.talk(f"paid {amounts.ether(done.price_wei)}{fee}; {receipt.tx_hash}")
        context.say(done.label)

    context.emit(document, human)


def _quote_document(id_: str, quote: Quote) -> dict[str, object]:
    return {"id": id_, "price_wei": quote.price_wei, "fee_wei": quote.fee_wei}


def _costs(wei: int, model: bool) -> str:
    if wei:
        return f"costs {amounts.ether(wei)}"
    return "is not for sale as a whole" if model else "is free"


def _show(terms: Terms) -> None:
    rows = [
        ("version", _costs(terms.version.price_wei, model=False)),
        ("model", _costs(terms.model.price_wei, model=True)),
    ]
    rows.append(("seller", terms.version.seller))
    if terms.account:
        since = f", {times.utc(terms.granted_at)}" if terms.granted_at else ""
        rows.append(("access", f"{terms.account}: {terms.ground or 'no'}{since}"))
    context.table(rows)
    context.say(terms.record.ref)
