"""`citrate case`: what was reported, how it stands, and paying it out."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import cases, context, times
from citrate.core.amounts import ether
from citrate.registry.cases import Case, Outcome
from citrate.registry.guardian import Lift
from citrate.registry.moderation import Moderation

app = context.new_app(no_args_is_help=True)

CaseName = Annotated[str, typer.Argument(metavar="CASE|REF", help="The case's number, or what it is about.")]
At = Annotated[str, typer.Option("--at", metavar="ADDRESS", help="A former moderation contract.")]


@app.callback()
def case() -> None:
    """The reported cases. How one runs: docs/trust.md."""


@app.command()
def show(case: CaseName, at: At = "") -> None:
    """Print a case: votes, quorum, deadline, evidence.

    Example: citrate case show 0xf39F.../tiny-llama
    """
    moderation = Moderation(context.registry(), at)
    found = moderation.find(case)
    cases.emit(moderation, found, moderation.label(found.subject))


@app.command("list")
def list_(
    open_: Annotated[bool, typer.Option("--open", help="Only those that go on.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    at: At = "",
) -> None:
    """List the newest cases, newest first.

    Example: citrate case list --open
    """
    moderation = Moderation(context.registry(), at)
    found = [each for each in moderation.cases(limit) if not open_ or each.outcome is Outcome.OPEN]
    labels = moderation.labels(each.subject for each in found)

    def human() -> None:
        if not found:
            context.talk("no case is open" if open_ else "nothing was reported")
            return
        rows = [(str(c.number), cases.told(c), times.utc(c.deadline), labels[c.subject]) for c in found]
        context.table(rows, ("CASE", "OUTCOME", "DEADLINE", "ABOUT"))

    context.emit({"cases": [cases.document(each, labels[each.subject]) for each in found]}, human)


@app.command()
def close(case: CaseName, at: At = "") -> None:
    """Pay out the bond of a case that has ended; anybody may.

    Example: citrate case close 1
    """
    moderation = Moderation(context.registry(), at)
    found = moderation.find(case)
    receipt = moderation.close(found)
    closed = moderation.case(found.number)
    cases.emit(moderation, closed, moderation.label(closed.subject), **context.receipt_document(receipt))


@app.command()
def lift(case: CaseName, at: At = "") -> None:
    """Print what ends a case before its deadline: two calls of the timelock, for its authority. Nothing is sent.

    Example: citrate case lift 1
    """
    moderation = Moderation(context.registry(), at)
    found = moderation.find(case)
    plan = moderation.lift(found)
    document: dict[str, object] = {
        "case": found.number,
        "proposer": plan.proposer,
        "delay_s": plan.delay_s,
        "deadline": found.deadline,
        "schedule": {"to": plan.schedule.to, "data": plan.schedule.data},
        "execute": {"to": plan.execute.to, "data": plan.execute.data},
    }
    context.emit(document, lambda: _lift(found, plan))


@app.command()
def withdraw(
    to: Annotated[str, typer.Option(help="Where to; default: the active key's address.")] = "", at: At = ""
) -> None:
    """Pay out all that the active key is owed of bonds.

    Example: citrate case withdraw
    """
    paid = Moderation(context.registry(), at).withdraw(to)
    document: dict[str, object] = {
        "account": paid.account,
        "to": paid.to,
        "amount_wei": paid.amount_wei,
        **context.receipt_document(paid.receipt),
    }
    context.emit(document, lambda: context.say(f"{ether(paid.amount_wei)} to {paid.to}"))


def _lift(case: Case, plan: Lift) -> None:
    context.talk(f"1. {plan.proposer} schedules:")
    context.say(f"cast send {plan.schedule.to} {plan.schedule.data}")
    context.talk(f"2. {times.span(plan.delay_s)} later, before {times.utc(case.deadline)}, anybody executes:")
    context.say(f"cast send {plan.execute.to} {plan.execute.data}")
