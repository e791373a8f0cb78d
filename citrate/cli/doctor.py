"""`citrate doctor`: what is installed, reachable, missing, and the command that mends each."""

from __future__ import annotations

from dataclasses import asdict

import typer

from citrate.cli import context

app = context.new_app()


@app.command()
def doctor() -> None:
    """Check this installation; starts and changes nothing. Exit 1 if something needed is missing.

    Example: citrate doctor
    """
    from citrate.cli.diagnosis import diagnose

    checks = diagnose(context.registry())

    def human() -> None:
        for check in checks:
            context.say(f"{'ok ' if check.ok else 'NO '} {check.name:16} {check.detail}")
            if not check.ok and check.hint:
                context.say(f"{'':20} {check.hint}")

    context.emit({"checks": [asdict(check) for check in checks]}, human)
    if not all(check.ok for check in checks if check.required):
        raise typer.Exit(1)
