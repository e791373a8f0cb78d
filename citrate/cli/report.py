"""`citrate report`: say with evidence and a bond that something should not be used."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import cases, context
from citrate.core import amounts
from citrate.core.errors import CitrateError, ConfigError
from citrate.registry import evidence as evidences

app = context.new_app()


@app.command()
def report(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A version or a LoRA, or its id.")],
    evidence: Annotated[str, typer.Option(metavar="PATH|CID", help="What proves it: a file, a folder, or its CID.")],
    bond: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Agree to the bond, such as 0.05ether.")] = None,
) -> None:
    """Open a case. The bond comes back unless the case is rejected; a file is stored, pinned and named by its CID.

    Example: citrate report 0xf39F.../tiny-llama@1.0.0 --evidence ./backdoor.md --bond 0.05ether
    """
    agreed = None if bond is None else amounts.parse(bond, "bond")
    path = evidences.path_of(evidence)  # before anybody is asked for money
    moderation = context.registry().moderation
    subject = moderation.subject(ref)
    if agreed is None:
        agreed = _asked(subject.label, moderation.bond(subject))
    done = moderation.report(subject, evidence, agreed)
    if path is not None:
        context.talk(f"case {done.case.number}: only this machine may have the evidence; next: citrate gateway")
    sent = {**context.receipt_document(done.receipt), "gas_used": done.receipt.gas_used}
    cases.emit(moderation, done.case, subject.label, **sent)


def _asked(label: str, bond_wei: int) -> int:
    """The bond, agreed to on the terminal; without one nothing is paid that nobody has seen."""
    context.talk(f"a report of {label} puts {amounts.ether(bond_wei)} at stake, which is lost if the case is rejected")
    flag = f"--bond {amounts.typed(bond_wei)}"
    if not context.on_terminal():
        raise ConfigError(f"a report of {label} needs a bond of {amounts.ether(bond_wei)}", hint=f"agree to it: {flag}")
    if not context.confirmed("Report it?"):
        raise CitrateError("not reported", hint=f"{flag} agrees to the bond")
    return bond_wei
