"""`citrate push`: copy a version, or any object of the store, to Kubo or a pinning service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import human_size
from citrate.core.errors import ConfigError

if TYPE_CHECKING:
    from citrate.registry.pushing import Pushed

app = context.new_app()


@app.command()
def push(
    target: Annotated[str, typer.Argument(metavar="REF_OR_CID", help="A version, an adapter, or an object's CID.")],
    to: Annotated[
        str,
        typer.Option(metavar="STORE", help="kubo (the setting kubo_api), its address, or a pinning service it knows."),
    ],
    status: Annotated[bool, typer.Option("--status", help="Send nothing; say how it stands there.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the pins there away.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the pinning service.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long nothing may change at a service.")] = 3600,
) -> None:
    """Copy blocks as they are to a Kubo node and pin them there; another CID there is an error.

    A pinning service (ipfs pin remote service add NAME ENDPOINT KEY) fetches them from that node. What is pinned
    already is not sent again.

    Example: citrate push me/tiny-llama --to kubo
    """
    if sum((status, remove, no_wait)) > 1:
        raise ConfigError("--status, --remove and --no-wait exclude each other", hint="citrate push --help")
    if "/" not in target:
        target = arguments.cid(target)
    registry = context.registry()
    if status or remove:
        found = registry.pushed(target, to, remove=remove)
    else:
        with progress.bars() as on_progress:
            found = registry.push(target, to, wait=not no_wait, timeout_s=timeout, progress=on_progress)
    rows = [{"variant": o.what, "cid": o.cid, "status": o.status, "sent_bytes": o.sent_bytes} for o in found]

    def human() -> None:
        context.table([(o.what, o.status, _sent(o), o.cid) for o in found])

    context.emit({"ref": target, "to": to, "objects": rows}, human)


def _sent(pushed: Pushed) -> str:
    return f"{human_size(pushed.sent_bytes)} sent" if pushed.sent_bytes else ""
