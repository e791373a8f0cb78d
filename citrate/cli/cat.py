"""`citrate cat`: print a file, or bytes of it, verified; from the store or from anybody."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.core.errors import ConfigError, FormatError, NotFoundError

if TYPE_CHECKING:
    from citrate.facade import Registry
    from citrate.registry.by_cid import ByteSpan
    from citrate.registry.store import Store

app = context.new_app()
_PREFIXES = ("ipfs://", "/ipfs/")
_RANGE = re.compile(r"(\d{1,19})-(\d{1,19})?|-(\d{1,19})", re.ASCII)


@app.command()
def cat(
    target: Annotated[str, typer.Argument(metavar="CID[/PATH]", help="An object, or a file in it.")],
    span: Annotated[
        str | None,
        typer.Option("--range", metavar="FROM-TO", help="Bytes, both included; as curl -r: 0-99, 100-, -100."),
    ] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Use what this machine has.")] = None,
) -> None:
    """Print a file to stdout, every byte proved by the CID.

    What is not here comes from Kubo and gateways: only the blocks that lead to the path and hold the bytes, and nothing
    of it is kept. An object of the store is checked before its first byte is printed; anything else block by block, so
    that a failure on the way is an exit code after right bytes.

    Example: citrate cat bafybei.../model.safetensors --range 0-7 --from http://127.0.0.1:8480
    """
    cid, inside = _split(target)
    if context.wants_json():
        raise ConfigError("cat prints the file's bytes, which are no JSON document", hint=f"citrate store where {cid}")
    wanted = parse_span(span)
    registry = context.registry(offline=offline)
    _require_any(registry, cid, from_ or ())
    if wanted.is_all and registry.store.has(cid):
        with _plain(registry.store, cid, inside).open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        for piece in registry.cat(cid, inside, wanted, gateways=from_ or ()):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _split(target: str) -> tuple[str, str]:
    for prefix in _PREFIXES:
        target = target.removeprefix(prefix)
    cid, _, inside = target.partition("/")
    return arguments.cid(cid), inside.strip("/")


def parse_span(text: str | None) -> ByteSpan:
    """Parse ``0-99``, ``100-`` or ``-100``; None: all.

    Raises:
        ConfigError: it is malformed, or runs backwards.
    """
    from citrate.registry.by_cid import ByteSpan

    if text is None:
        return ByteSpan()
    found = _RANGE.fullmatch(text)
    first, last, suffix = found.groups() if found else (None, None, None)
    wrong = not found or (last and int(last) < int(first or 0)) or (suffix is not None and int(suffix) == 0)
    if wrong:
        raise ConfigError(f"{text[:60]!r} is no range of bytes", hint="--range 0-99, --range 100-, or --range -100")
    return ByteSpan(-int(suffix)) if suffix else ByteSpan(int(first or 0), int(last) if last else None)


def _plain(store: Store, cid: str, inside: str) -> Path:
    """The plain file at a path of an object."""
    with progress.bars() as on_progress:
        path = store.get(cid, on_progress)
    if path.is_dir():
        names = [file.path for file in store.artifact(cid).files]
        if inside in names:
            return path / inside
        below = [name for name in names if not inside or name.startswith(f"{inside}/")]
        listed = ", ".join((below or names)[:5]) + (", ..." if len(below or names) > 5 else "")
        if below:  # as is said of a folder that is kept as blocks
            raise FormatError(f"{cid}/{inside}".rstrip("/") + " is a directory", hint=f"append a file's path: {listed}")
        raise NotFoundError(f"{cid} has no file {inside!r}", hint=f"it has: {listed}")
    if inside:
        raise NotFoundError(f"{cid} is a file and has nothing inside", hint=f"citrate cat {cid}")
    return path


def _require_any(registry: Registry, cid: str, gateways: Sequence[str]) -> None:
    """Refuse what is neither here nor anywhere that is asked."""
    from citrate.registry.cid import Cid

    if Cid.parse(cid).is_identity or registry.store.owners(cid) or registry.sources(gateways):
        return
    hint = "leave --offline out" if registry.settings.offline else "name a gateway with --from URL, or set gateways"
    raise NotFoundError(f"{cid} is not in the store, and there is no source to ask", hint=hint)
