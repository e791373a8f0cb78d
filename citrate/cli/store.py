"""`citrate store`: what the embedded store holds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from citrate.cli import context, progress
from citrate.cli.sizes import human_size
from citrate.core.errors import ConfigError, NotFoundError, StoreError

if TYPE_CHECKING:
    from citrate.registry.store import StoredObject

app = context.new_app(no_args_is_help=True)
Cid = Annotated[str, typer.Argument(metavar="CID", help="An object's CID.")]


@app.callback()
def store() -> None:
    """The embedded store: verified objects as plain files."""


@app.command("ls")
def ls() -> None:
    """List the objects.

    Example: citrate store ls --json
    """
    found = context.registry().store.ls()

    def human() -> None:
        lines = [(human_size(o.size_bytes), "pinned" if o.pinned else "", _kind(o), o.cid) for o in found]
        context.table(lines, ("SIZE", "", "KEPT AS", "CID"))

    context.emit({"objects": [_row(o) for o in found]}, human)


def _row(stored: StoredObject) -> dict[str, object]:
    """An object in JSON; ``sha256`` is null and ``blocks`` counted for a DAG that is kept as blocks."""
    return {
        "cid": stored.cid,
        "sha256": stored.sha256 or None,
        "size_bytes": stored.size_bytes,
        "pinned": stored.pinned,
        "blocks": stored.blocks,
        "whole": stored.whole,
    }


def _kind(stored: StoredObject) -> str:
    if not stored.blocks:
        return "files"
    return f"{stored.blocks} blocks" + ("" if stored.whole else ", not whole")


@app.command()
def verify() -> None:
    """Read and hash every byte of every object. Exit 3 if one is damaged.

    Example: citrate store verify
    """
    with progress.bars() as on_progress:
        damages = context.registry().store.verify(on_progress)
    rows = [{"message": damage.message, **damage.details} for damage in damages]

    def human() -> None:
        for damage in damages:
            context.say(f"DAMAGED  {damage.message}")
        context.say("ok" if not damages else f"{len(damages)} damaged; citrate pull REF mends from another source")

    context.emit({"ok": not damages, "damaged": rows}, human)
    if damages:
        raise typer.Exit(3)


@app.command()
def where(cid: Cid) -> None:
    """Print the path of an object's plain files, verified.

    Example: citrate store where bafybei...
    """
    path = context.registry().store.get(cid)
    context.emit({"cid": cid, "path": str(path)}, lambda: context.say(str(path)))


@app.command("import")
def import_(
    car: Annotated[Path, typer.Argument(metavar="CAR", help="A CAR file of version 1 or 2; - for stdin.")],
    reason: Annotated[str, typer.Option(help="Who needs it.")] = "imported",
    partial: Annotated[bool, typer.Option("--partial", help="Keep a DAG although blocks of it are missing.")] = False,
) -> None:
    """Put the DAGs of a CAR into the store, every block compared with its CID, and pin their roots.

    What citrate itself could have written becomes plain files; any other DAG is kept as blocks beside them.

    Example: ipfs dag export bafybei... | citrate store import -
    """
    from citrate.registry.store.importing import import_car

    store = context.registry().store
    if car == Path("-") and sys.stdin.isatty():
        raise ConfigError("a CAR is binary, and nobody types one", hint="citrate store import FILE")
    with progress.bars() as on_progress, _opened(car) as stream:
        total = car.stat().st_size if car.is_file() else 0
        found = import_car(store, stream, reason, partial=partial, total_bytes=total, progress=on_progress)
    rows = [{**_row(one.stored), "status": "added" if one.added else "unchanged"} for one in found]

    def human() -> None:
        for one in found:
            size = human_size(one.stored.size_bytes)
            context.talk(f"{'added' if one.added else 'here already'}: {size}, kept as {_kind(one.stored)}")
            context.say(one.stored.cid)

    context.emit({"path": str(car), "objects": rows}, human)


@contextlib.contextmanager
def _opened(car: Path) -> Iterator[BinaryIO]:
    if car == Path("-"):
        yield sys.stdin.buffer
        return
    try:
        stream = car.open("rb", buffering=1 << 20)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such file: {car}") from error
    except OSError as error:
        raise StoreError(f"cannot read {car}: {error.strerror}", hint="check its permissions") from error
    with stream:
        yield stream


@app.command()
def export(
    cid: Cid,
    out: Annotated[Path, typer.Option(help="The CAR file to write; - for stdout.")] = Path("-"),
) -> None:
    """Write an object, or any DAG inside one, as a CAR file, every block compared with its CID.

    Example: citrate store export bafybei... --out model.car
    """
    registry = context.registry()
    if not registry.store.owners(cid):
        raise NotFoundError(f"{cid} is not in the store", hint="see what is: citrate store ls")
    if out == Path("-"):
        if sys.stdout.isatty() or context.wants_json():
            raise ConfigError("a CAR is binary", hint="--out FILE")
        for piece in registry.store.export_car(cid):
            sys.stdout.buffer.write(piece)
        return
    if out.exists() and not out.is_file():  # a device or a pipe is written to, never replaced
        with out.open("wb") as file:
            size = sum(file.write(piece) for piece in registry.store.export_car(cid))
        context.emit({"cid": cid, "path": str(out), "size_bytes": size}, lambda: context.say(str(out)))
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("wb") as file:
            size = sum(file.write(piece) for piece in registry.store.export_car(cid))
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    context.emit({"cid": cid, "path": str(out), "size_bytes": size}, lambda: context.say(str(out)))


@app.command()
def pin(cid: Cid, reason: Annotated[str, typer.Option(help="Who needs it.")] = "by hand") -> None:
    """Keep an object, and serve it from this home's gateway.

    Example: citrate store pin bafybei... --reason demo
    """
    store = context.registry().store
    store.pin(cid, reason)
    _show_pins(cid, store.pins(cid))


@app.command()
def unpin(cid: Cid) -> None:
    """Drop every reason to keep an object; the next gc deletes it.

    Example: citrate store unpin bafybei...
    """
    store = context.registry().store
    store.stored(cid)
    for reason in store.pins(cid):
        store.unpin(cid, reason)
    _show_pins(cid, [])


def _show_pins(cid: str, reasons: list[str]) -> None:
    def human() -> None:
        context.table([(reason, cid) for reason in reasons] or [("no pins", cid)])

    context.emit({"cid": cid, "pins": reasons}, human)


@app.command()
def gc(dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False) -> None:
    """Delete what nothing pins, and what interrupted fetches and killed writers left.

    Example: citrate store gc --dry-run
    """
    gone = context.registry().store.gc(dry_run=dry_run)
    rows = [{"cid": o.cid, "sha256": o.sha256 or None, "size_bytes": o.size_bytes} for o in gone]

    def human() -> None:
        context.table([(human_size(o.size_bytes), o.cid) for o in gone])
        total = human_size(sum(o.size_bytes for o in gone))
        context.talk(f"{'would free' if dry_run else 'freed'} {total} in {len(gone)} objects")

    context.emit({"dry_run": dry_run, "objects": rows}, human)


@app.command()
def rm(cid: Cid) -> None:
    """Delete an object that is not pinned.

    Example: citrate store rm bafybei...
    """
    context.registry().store.remove(cid)
    context.emit({"cid": cid}, lambda: context.say(cid))
