"""`citrate store`: what the embedded store holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress, store_care, store_cars, store_fetch
from citrate.cli.sizes import counted, human_size
from citrate.cli.times import ago
from citrate.core.errors import NotFoundError

if TYPE_CHECKING:
    from citrate.registry.store import StoredObject

app = context.new_app(no_args_is_help=True)
app.command("verify")(store_care.verify)
app.command("gc")(store_care.gc)
app.command("reindex")(store_care.reindex)
app.command("import")(store_cars.import_)
app.command("fetch")(store_fetch.fetch)
app.command("export")(store_cars.export)
Cid = Annotated[str, typer.Argument(metavar="CID", callback=arguments.cid, help="An object's CID.")]


@app.callback()
def store() -> None:
    """The embedded store: verified objects as plain files."""


@app.command("ls")
def ls() -> None:
    """List the objects: size, how they are kept, when they were last used, who needs them.

    Example: citrate store ls --json
    """
    store = context.registry().store
    found, left = store.ls(), store.leftover_bytes()
    total = sum(o.size_bytes for o in found)

    def human() -> None:
        now = time.time()
        lines = [
            (human_size(o.size_bytes), store_cars.kind(o), ago(now - o.used_s), _needed_by(o), o.cid) for o in found
        ]
        context.table(lines, ("SIZE", "KEPT AS", "USED", "NEEDED BY", "CID") if lines else ())
        context.talk(_totals(found, left, store.max_bytes))

    rows = [store_cars.row(o) for o in found]
    limit = store.max_bytes or None
    context.emit({"objects": rows, "size_bytes": total, "leftover_bytes": left, "max_bytes": limit}, human)


def _needed_by(stored: StoredObject) -> str:
    if not stored.pins:
        return "nobody"
    first, *others = [pin.reason for pin in stored.pins]
    return f"{first} (+{len(others)})" if others else first


def _totals(found: list[StoredObject], left_bytes: int, max_bytes: int) -> str:
    parts = [f"{counted(len(found), 'object')}, {human_size(sum(o.size_bytes for o in found))}"]
    if max_bytes:
        parts[0] += f" of {human_size(max_bytes)}"
    for name, some in (
        ("nobody needs", [o for o in found if not o.pinned]),
        ("can be pulled again", [o for o in found if o.pinned and o.is_replaceable]),
        ("DAMAGED", [o for o in found if o.damaged]),
    ):
        if some:
            parts.append(f"{name}: {len(some)}, {human_size(sum(o.size_bytes for o in some))}")
    if left_bytes:
        parts.append(f"leftovers: {human_size(left_bytes)}")
    return "; ".join(parts)


@app.command()
def where(cid: Cid) -> None:
    """Print the path of an object's plain files, verified.

    Example: citrate store where bafybei...
    """
    with progress.bars() as on_progress:
        path = context.registry().store.get(cid, on_progress)
    context.emit({"cid": cid, "path": str(path)}, lambda: context.say(str(path)))


@app.command()
def pin(cid: Cid, reason: Annotated[str, typer.Option(help="Who needs it.")] = "by hand") -> None:
    """Keep an object, and serve it from this home's gateway.

    Example: citrate store pin bafybei... --reason demo
    """
    from citrate.registry.store.pins import check_reason

    store = context.registry().store
    store.pin(cid, check_reason(reason))
    _show_pins(cid, store.pins(cid))


@app.command()
def unpin(cid: Cid, reason: Annotated[str | None, typer.Option(help="Only this one; the others stay.")] = None) -> None:
    """Drop every reason to keep an object, or one; without any, the next gc deletes it.

    Example: citrate store unpin bafybei... --reason demo
    """
    store = context.registry().store
    reasons = store.pins(cid)
    if not reasons:
        store.stored(cid)  # what is pinned may be lost
    if reason is not None and reason not in reasons:
        raise NotFoundError(f"{cid} has no pin {reason!r}", hint=f"its pins: {', '.join(reasons) or 'none'}")
    for going in reasons if reason is None else [reason]:
        store.unpin(cid, going)
    _show_pins(cid, store.pins(cid))


def _show_pins(cid: str, reasons: list[str]) -> None:
    def human() -> None:
        context.table([(reason, cid) for reason in reasons] or [("no pins", cid)])

    context.emit({"cid": cid, "pins": reasons}, human)


@app.command()
def rm(cid: Cid) -> None:
    """Delete an object that is not pinned.

    Example: citrate store rm bafybei...
    """
    context.registry().store.remove(cid)
    context.emit({"cid": cid}, lambda: context.say(cid))
