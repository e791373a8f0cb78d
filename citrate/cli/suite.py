"""`citrate suite`: adapters of one base as one record, and whether each shows where it shall and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress, suites

if TYPE_CHECKING:
    from citrate.core.sink import Progress
    from citrate.facade import Registry
    from citrate.fine_tuning.suites import Bound

app = context.new_app(no_args_is_help=True)

SuiteName = Annotated[str, typer.Argument(metavar="CID|FILE", help="A suite's record, or its file.")]
From = Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")]
Offline = Annotated[bool | None, typer.Option("--offline", help="Use what this machine has.")]
Allow = Annotated[str | None, typer.Option(help="deprecated,quarantined")]
Sign = Annotated[bool, typer.Option("--sign", help="Sign the record with the active key.")]


@app.callback()
def suite() -> None:
    """Adapters of one base, with the prompts that show what each does. The file: docs/training.md."""


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file; an example is in examples/suites.")],
    sign: Sign = False,
    from_: From = None,
    offline: Offline = None,
    allow: Allow = None,
) -> None:
    """Name a suite's base and adapters by their content and keep the record; prints its CID.

    Example: citrate suite add examples/suites/manners.yaml --sign
    """
    from citrate.fine_tuning.suites import keep_suite, signed

    registry = context.registry(offline=offline)
    with progress.bars() as on_progress:
        bound = _bound(registry, str(file), "", from_, allow, on_progress)
    found = signed(registry, bound.suite) if sign else bound.suite
    cid = keep_suite(registry, found)
    context.emit({**suites.document(found), "cid": cid}, lambda: suites.human(found, cid))


@app.command()
def show(suite: SuiteName, from_: From = None, offline: Offline = None) -> None:
    """Print a suite, or the record of a check; a signature is verified. Of a file: what stands there.

    Example: citrate suite show bafkrei...
    """
    from citrate.fine_tuning.suites import Suite, load, show

    file = _file(suite)
    if file is not None:
        written = load(file)
        context.emit(written.document(), lambda: suites.written(written))
        return
    cid = arguments.cid(suite)
    found = show(context.registry(offline=offline), cid, from_ or ())
    if isinstance(found, Suite):
        context.emit({**suites.document(found), "cid": cid}, lambda: suites.human(found, cid))
    else:
        context.emit({**suites.document(found), "cid": cid}, lambda: suites.results(found, cid))


@app.command()
def check(
    suite: SuiteName,
    base: Annotated[
        str, typer.Option(metavar="REF|PATH", help="Where the base is, if not where the suite, or its file, says.")
    ] = "",
    sign: Annotated[bool, typer.Option("--sign", help="Sign the result and keep it; prints its CID.")] = False,
    no_sandbox: Annotated[bool, typer.Option("--no-sandbox", help="Load the base without the sandbox.")] = False,
    from_: From = None,
    offline: Offline = None,
    allow: Allow = None,
) -> None:
    """Ask the base alone, and with each adapter, and count on how many prompts each adapter shows. Exit code 1: a limit
    is not kept.

    Example: citrate suite check bafkrei... --base ./tiny-llama --sign
    """
    from citrate.fine_tuning import suites as library

    registry = context.registry(offline=offline)
    if sign:
        registry.require_writable()
    with progress.bars() as on_progress:
        bound = _bound(registry, suite, base, from_, allow, on_progress)
        checked = library.check(registry, bound, sandbox=not no_sandbox, progress=on_progress)
    record, cid = checked.record, ""
    if sign:
        record = library.signed(registry, record)
        cid = library.keep_check(registry, record, bound.suite)
    document = {**suites.document(record), "cid": cid or None, "misses": suites.misses_document(checked.misses)}

    def human() -> None:
        suites.misses(checked.misses)
        suites.results(record, cid)

    context.emit(document, human)
    if not record.passed:
        raise typer.Exit(1)


def _bound(
    registry: Registry, suite: str, base: str, from_: list[str] | None, allow: str | None, on_progress: Progress | None
) -> Bound:
    """A suite of a file or a CID, with its base and adapters on this machine."""
    from citrate.fine_tuning.suites import bind, load, locate, read_suite

    gateways, allowed = from_ or (), arguments.allowed(allow)
    path = _file(suite)
    if path is not None:
        written = load(path)
        return bind(registry, written, path.parent, base=base, gateways=gateways, allow=allowed, progress=on_progress)
    found = read_suite(registry, arguments.cid(suite), gateways)
    return locate(registry, found, base=base, gateways=gateways, allow=allowed, progress=on_progress)


def _file(suite: str) -> Path | None:
    """The file that is named; None of what can only be a CID."""
    path = Path(suite)
    return path if suite and (path.is_file() or path.suffix in (".yaml", ".yml")) else None
