"""`citrate store fetch`: a whole DAG by its CID, from anybody, into the store."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress, store_cars
from citrate.cli.sizes import human_size


def fetch(
    cid: Annotated[str, typer.Argument(metavar="CID", callback=arguments.cid, help="The root of what to fetch.")],
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    reason: Annotated[str, typer.Option(help="Who needs it.")] = "fetched",
) -> None:
    """Fetch all that a CID leads to, every block compared with the CID that named it, and pin it, as ipfs pin add does.

    What citrate itself could have written becomes plain files; anything else is kept as blocks. Interrupted, it goes on
    with the first block that is missing.

    Example: citrate store fetch bafybei... --from https://gateway.example
    """
    started = time.monotonic()
    with progress.bars() as on_progress:
        found = context.registry().fetch_dag(cid, reason, gateways=from_ or (), progress=on_progress)
    stored, seconds = found.imported.stored, time.monotonic() - started
    document: dict[str, object] = {
        **store_cars.row(stored),
        "status": "added" if found.imported.added else "unchanged",
        "fetched_bytes": found.fetched_bytes,
        "sources": list(found.sources),
        "dropped": list(found.dropped),
        "seconds": round(seconds, 3),
    }

    def human() -> None:
        told = f"{human_size(stored.size_bytes)}, kept as {store_cars.kind(stored)}"
        if found.fetched_bytes:
            told += f", {human_size(found.fetched_bytes)} from {', '.join(found.sources)} in {seconds:.1f} s"
        context.talk(told)
        if found.dropped:
            context.talk(f"warning: wrong bytes came from {', '.join(found.dropped)}")
        context.say(stored.cid)

    context.emit(document, human)
