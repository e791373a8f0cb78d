"""Bars on stderr for what takes longer than a moment, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from citrate.cli import context
from citrate.core.sink import Progress


@contextmanager
def bars() -> Iterator[Progress | None]:
    """A progress callback that draws a bar a stage, or None where no bar may be drawn."""
    if not context.wants_progress():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as drawn:
        tasks = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = drawn.add_task(stage, total=total or None)
            drawn.update(tasks[stage], completed=done, total=total or None)

        yield update
