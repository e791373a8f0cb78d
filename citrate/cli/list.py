"""`citrate list`: what the registry holds."""

from __future__ import annotations

from citrate.cli import context
from citrate.cli.models import show

app = context.new_app()


@app.command("list")
def list_() -> None:
    """List every model, newest first; proved complete at one block.

    Example: citrate list --json
    """
    show(context.registry().models())
