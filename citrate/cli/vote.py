"""`citrate vote`: decide a reported case, by stake."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from citrate.cli import cases, context
from citrate.core.amounts import ether

app = context.new_app()


class Verdict(StrEnum):
    """What a vote is for."""

    REMOVE = "remove"
    KEEP = "keep"


@app.command()
def vote(
    case: Annotated[str, typer.Argument(metavar="CASE|REF", help="The case's number, or what it is about.")],
    verdict: Annotated[Verdict, typer.Argument(metavar="remove|keep", help="Remove what was reported, or keep it.")],
) -> None:
    """Vote once in an open case, with what was staked before the report. The stake stays until the deadline.

    Example: citrate vote 1 remove
    """
    moderation = context.registry().moderation
    found = moderation.find(case)
    weighed, receipt = moderation.vote(found, remove=verdict is Verdict.REMOVE)
    after = moderation.case(found.number)
    context.talk(f"voted to {verdict} with {ether(weighed.weight_wei)}")
    more = {"vote": str(verdict), "weight_wei": weighed.weight_wei, **context.receipt_document(receipt)}
    cases.emit(moderation, after, moderation.label(after.subject), **more)
