"""CARs into the store and out of it, and how its objects are shown."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import counted, human_size
from citrate.core.errors import ConfigError, NotFoundError, StoreError, not_written

if TYPE_CHECKING:
    from citrate.core.sink import Buffer
    from citrate.registry.store import StoredObject

Cid = Annotated[str, typer.Argument(metavar="CID", callback=arguments.cid, help="An object's CID.")]


def row(stored: StoredObject) -> dict[str, object]:
    """An object in JSON; ``sha256`` is null and ``blocks`` counted for a DAG that is kept as blocks. Unix seconds."""
    return {
        "cid": stored.cid,
        "sha256": stored.sha256 or None,
        "size_bytes": stored.size_bytes,
        "pinned": stored.pinned,
        "pins": [{"reason": pin.reason, "since": pin.since_s} for pin in stored.pins],
        "added": stored.added_s,
        "used": stored.used_s,
        "damaged": stored.damaged,
        "blocks": stored.blocks,
        "whole": stored.whole,
    }


def kind(stored: StoredObject) -> str:
    """How an object is kept, in words."""
    kept = counted(stored.blocks, "block") if stored.blocks else "files"
    return kept + ("" if stored.whole else ", not whole") + (", DAMAGED" if stored.damaged else "")


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
    from citrate.registry.store.pins import check_reason

    store = context.registry().store
    check_reason(reason)
    if car == Path("-") and sys.stdin.isatty():
        raise ConfigError("a CAR is binary, and nobody types one", hint="citrate store import FILE")
    with progress.bars() as on_progress, _opened(car) as stream:
        total = car.stat().st_size if car.is_file() else 0
        found = import_car(store, stream, reason, partial=partial, total_bytes=total, progress=on_progress)
    rows = [{**row(one.stored), "status": "added" if one.added else "unchanged"} for one in found]

    def human() -> None:
        for one in found:
            size = human_size(one.stored.size_bytes)
            context.talk(f"{'added' if one.added else 'here already'}: {size}, kept as {kind(one.stored)}")
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
        with progress.bars() as on_progress:
            for piece in registry.store.export_car(cid, on_progress):
                sys.stdout.buffer.write(piece)
        return
    try:
        with progress.bars() as on_progress:
            size = _write(out, registry.store.export_car(cid, on_progress))
    except OSError as error:
        raise not_written(out, error) from error
    context.emit({"cid": cid, "path": str(out), "size_bytes": size}, lambda: context.say(str(out)))


def _write(out: Path, parts: Iterable[Buffer]) -> int:
    """Write a file, whole and durable or not at all; returns its bytes. A device or a pipe is written to, never
    replaced."""
    from citrate.registry.atomic import make_folder, replacing
    from citrate.registry.pieces import in_pieces

    if out.exists() and not out.is_file():
        with out.open("wb") as file:
            return sum(file.write(piece) for part in parts for piece in in_pieces(part))
    make_folder(out.parent)
    with replacing(out) as file:
        return sum(file.write(piece) for part in parts for piece in in_pieces(part))
