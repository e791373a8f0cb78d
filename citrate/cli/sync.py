"""`citrate sync`: a validator's mirror."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.core.errors import UnavailableError
from citrate.core.sink import Progress
from citrate.registry.sync import Event, Mirror, Pass
from citrate.registry.sync_policy import Policy

app = context.new_app()


@app.command()
def sync(
    once: Annotated[bool, typer.Option("--once", help="One pass to the chain's head, then stop.")] = False,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML; docs/validator.md lists the keys.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between passes.")] = 12.0,
    max_rate: Annotated[str | None, typer.Option(metavar="RATE", help="Bytes a second: 20MB. [max_rate]")] = None,
) -> None:
    """Follow the chain from where the last run stopped: fetch by policy, verify, pin. Exit 5 if something is missing.

    Example: citrate sync --once --policy policy.toml
    """
    mirror = Mirror(context.registry(max_rate=max_rate), Policy.load(policy).allowing(arguments.allowed(allow)))
    if once:
        done = _pass(mirror, _tell, progress.bars)
        context.emit(asdict(done), lambda: context.say(_sentence(done)))
        if done.failed:
            context.talk(f"{done.failed} variants are missing; the next pass tries them again")
            raise typer.Exit(UnavailableError.exit_code)
        return
    while True:  # until stopped; one JSON line an event
        try:
            done = _pass(mirror, _line if context.wants_json() else _tell, progress.events)
        except UnavailableError as error:  # it comes back; a mirror that runs for a year waits for it
            context.talk(f"waiting: {error.message}")
        else:
            if context.wants_json():
                context.emit_line({"event": "pass", **asdict(done)})
        time.sleep(every_s)


def _pass(
    mirror: Mirror, on_event: Callable[[Event], None], told: Callable[[], AbstractContextManager[Progress | None]]
) -> Pass:
    with told() as on_progress:
        return mirror.run_once(on_event, on_progress)


def _tell(event: Event) -> None:
    context.talk(f"{event.status:8} {event.ref} {event.variant} {event.reason}".rstrip())


def _line(event: Event) -> None:
    context.emit_line({"event": "variant", **asdict(event)})


def _sentence(done: Pass) -> str:
    counts = f"{done.fetched} fetched, {done.verified} verified, {done.failed} failed"
    proved = "other changes not proved yet: too new to be finalized"
    if done.changes_verified is not None:
        proved = f"{done.changes_verified} other changes proved"
    return f"block {done.cursor_block}: {counts}, {done.bytes} bytes; {proved}"
