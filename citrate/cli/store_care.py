"""Care for the store: what is damaged and mended, what makes way, an index that is built anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context, progress
from citrate.cli.sizes import counted, human_size
from citrate.cli.times import parse_span
from citrate.core.bytesizes import parse_bytes
from citrate.core.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from citrate.registry.mending import Mended
    from citrate.registry.store import Damage


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Fetch what is damaged from the sources.")] = False,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway, asked first.")] = None,
) -> None:
    """Read and hash every byte of every object. Exit 3 if one is damaged (and not mended).

    What is damaged is not handed out any more. --repair keeps what is right of it, fetches the rest from Kubo and the
    gateways, and moves the damaged object to the store's folder damaged/.

    Example: citrate store verify --repair --from https://gateway.example
    """
    from citrate.registry.mending import mend

    if from_ and not repair:
        raise ConfigError("--from says where to mend from", hint="citrate store verify --repair --from URL")
    registry = context.registry()
    with progress.bars() as on_progress:
        damages = registry.store.damages(on_progress)
        mended = mend(registry.store, damages, registry.sources(from_ or ()), on_progress) if repair else []
    ok = not damages or (repair and len(mended) > 0 and all(one.error is None for one in mended))
    ok = ok and not any(found.cid == "" for found in damages)
    rows = [{"cid": found.cid, "message": found.error.message, **found.error.details} for found in damages]
    told = [{"cid": one.cid, "source": one.source, "error": one.error and one.error.message} for one in mended]
    context.emit({"ok": ok, "damaged": rows, "mended": told}, lambda: _tell(damages, mended))
    if not ok:
        raise typer.Exit(IntegrityError.exit_code)


def _tell(damages: Sequence[Damage], mended: Sequence[Mended]) -> None:
    for found in damages:
        context.say(f"DAMAGED  {found.error.message}")
    for one in mended:
        if one.error is None:
            context.say(f"mended   {one.cid} from {one.source}")
        else:
            context.say(f"FAILED   {one.cid}: {one.error.message}")
    if not damages:
        context.say("ok")
    elif not mended:
        context.say(f"{len(damages)} damaged; citrate store verify --repair mends from other sources")


def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Also what was pulled and not used for so long: 30d, 12h, 2w.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Also what was pulled, until all fits: 50GB. [cache_max_gb]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Delete what nobody needs, and what interrupted fetches and killed writers left.

    What was merely pulled can be pulled again: it goes too where an age or a size asks for it, least recently used
    first. What is pinned for any other reason (published, added, imported, mirrored, by hand) never goes.

    Example: citrate store gc --older-than 30d --max-size 50GB --dry-run
    """
    store = context.registry().store
    older_than_s = None if older_than is None else parse_span(older_than)
    max_bytes = (store.max_bytes or None) if max_size is None else parse_bytes(max_size)
    left = store.leftover_bytes()
    gone = store.gc(older_than_s=older_than_s, max_bytes=max_bytes, dry_run=dry_run)
    left -= 0 if dry_run else store.leftover_bytes()
    total = sum(o.size_bytes for o in gone)
    rows = [{"cid": o.cid, "sha256": o.sha256 or None, "size_bytes": o.size_bytes, "used": o.used_s} for o in gone]

    def human() -> None:
        context.table([(human_size(o.size_bytes), o.cid) for o in gone])
        freed = "would free" if dry_run else "freed"
        at_most = " at most" if dry_run and left else ""
        objects = counted(len(gone), "object")
        context.talk(f"{freed} {human_size(total)} in {objects}, and{at_most} {human_size(left)} of leftovers")

    context.emit({"dry_run": dry_run, "objects": rows, "size_bytes": total, "leftover_bytes": left}, human)


def reindex() -> None:
    """Build the index anew from the objects' files, whose folders are named by what is in them; every byte is hashed.

    For an index that is damaged or lost: whoever changes the store waits meanwhile. The old index goes to damaged/.
    Pins are taken from their own files. What is not what its name says goes to damaged/ too, and can be pulled again.

    Example: citrate store reindex
    """
    from citrate.registry.store.rebuilding import rebuild

    with progress.bars() as on_progress:
        done = rebuild(context.registry().store.layout, on_progress)

    def human() -> None:
        for what in done.lost:
            context.say(f"LOST  {what}")
        context.talk(f"{counted(done.objects, 'object')} stand, {counted(done.pins, 'pin')}, {len(done.lost)} lost")

    context.emit({"objects": done.objects, "pins": done.pins, "lost": list(done.lost)}, human)
    if done.lost:
        raise typer.Exit(IntegrityError.exit_code)
