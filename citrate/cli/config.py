"""`citrate config show`: every setting and where it came from."""

from __future__ import annotations

from citrate.cli import context
from citrate.registry.rpc import redacted

app = context.new_app(no_args_is_help=True)


@app.callback()
def config() -> None:
    """Settings: flags > CITRATE_* > citrate.toml > defaults."""


@app.command()
def show() -> None:
    """Print each setting, its value and where it came from.

    Example: citrate config show --network base
    """
    rows = context.settings().shown()
    value, origin = rows["rpc_url"]
    rows["rpc_url"] = (redacted(value) if value else "", origin)  # providers put their keys into the URL
    document = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}

    def human() -> None:
        context.table([(name, origin, value) for name, (value, origin) in rows.items()], ("NAME", "FROM", "VALUE"))

    context.emit(document, human)
