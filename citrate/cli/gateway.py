"""`citrate gateway`: serve the embedded store as a trustless IPFS gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app()


@app.command()
def gateway(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8480,
    all_: Annotated[bool, typer.Option("--all", help="Also what was never registered nor added: drafts.")] = False,
) -> None:
    """Serve what this home published, pulled or added, until stopped. Every block that leaves is verified.

    Example: citrate gateway --port 8480, and elsewhere: citrate pull REF --from http://HOST:8480
    """
    from citrate.registry.gateway import serve

    store = context.registry().store

    def pinned(cid: str) -> bool:
        return bool(store.pins(cid))

    def ready(url: str) -> None:
        if context.wants_json():
            context.emit_line({"url": url})
        else:
            context.say(url)
            context.talk("serving until Ctrl-C")

    serve(store, host, port, None if all_ else pinned, ready)
