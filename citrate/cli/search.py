"""`citrate search`: find models by text."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context
from citrate.cli.models import show

app = context.new_app()


@app.command()
def search(text: Annotated[str, typer.Argument(help="Part of a name, or a publisher's address.")]) -> None:
    """Find models whose name or publisher contains a text.

    Example: citrate search llama
    """
    wanted = text.lower()
    show([m for m in context.registry().models() if wanted in m.name or wanted in m.publisher.lower()])
