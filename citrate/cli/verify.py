"""`citrate verify`: re-hash files against the chain's record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context
from citrate.core.errors import ConfigError

app = context.new_app()


@app.command()
def verify(
    target: Annotated[
        str, typer.Argument(metavar="PATH_OR_REF", help="A file or folder (with --ref), or a reference.")
    ],
    ref: Annotated[str | None, typer.Option(metavar="REF", help="What PATH must be.")] = None,
) -> None:
    """Read every byte again and compare with the chain. Exit 3 if one differs.

    Example: citrate verify ./model.gguf --ref me/tiny-llama@1.0.0#gguf:Q4_K_M
    """
    if not target:
        raise ConfigError("an empty path or reference", hint="citrate verify --help; the working folder is '.'")
    if ref is None and Path(target).exists():
        raise ConfigError(f"{target} is a path: what must it be?", hint=f"citrate verify {target} --ref PUBLISHER/NAME")
    verdicts = context.registry().verify(ref or target, Path(target) if ref else None)
    ok = all(verdict.ok for verdict in verdicts)
    document: dict[str, object] = {
        "ok": ok,
        "files": [
            {"path": v.path, "ok": v.ok, "expected": v.expected or None, "actual": v.actual or None} for v in verdicts
        ],
    }

    def human() -> None:
        for verdict in verdicts:
            context.say(f"{'ok ' if verdict.ok else 'BAD'}  {verdict.path}")
            if not verdict.ok:
                context.say(f"     expected {verdict.expected or 'no such file'}")
                context.say(f"     actual   {verdict.actual or 'missing'}")
        context.say("ok" if ok else "NOT what the chain says")

    context.emit(document, human)
    if not ok:
        raise typer.Exit(3)
