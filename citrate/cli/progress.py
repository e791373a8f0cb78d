"""How far long work is: bars on a terminal, lines where they were asked for, events of a mirror.

Nothing is told where stderr is a pipe or a file, as with curl and hf, unless ``--progress`` asks for it: a line a stage
every ten seconds, which a log can hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from citrate.cli import context
from citrate.cli.pace import Pace
from citrate.cli.sizes import human_size
from citrate.core.sink import STEPWISE, Progress

LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
_SMOOTH_OVER_S = 10.0


@dataclass(frozen=True)
class Standing:
    """How far a stage is. ``per_second`` and ``left_s`` are None where nobody can say yet."""

    stage: str
    done: int
    total: int
    source: str
    per_second: float | None
    left_s: float | None


@contextmanager
def bars() -> Iterator[Progress | None]:
    """A progress callback that draws a bar a stage, or tells lines; None where neither is wanted."""
    if context.wants_bars():
        with _drawn() as update:
            yield update
    elif context.wants_progress_lines():
        yield Periodic(lambda standing: context.talk(line(standing)))
    else:
        yield None


@contextmanager
def events() -> Iterator[Progress | None]:
    """As ``bars``, for a command whose stdout is a line of JSON an event: progress is one of them."""
    if not context.wants_json():
        with bars() as update:
            yield update
        return
    yield Periodic(lambda standing: context.emit_line(document(standing)))


@dataclass
class _Watched:
    pace: Pace
    told: float
    """When somebody was last told of the stage; at first, when it began."""
    was_told: bool = False


@dataclass
class Periodic:
    """A progress callback that calls ``tell`` of each stage now and then: never at its start, so that short work
    is not told of at all, and once more at the end of what was told of."""

    tell: Callable[[Standing], None]
    every_s: float = LINE_EVERY_S
    clock: Callable[[], float] = time.monotonic
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, stage: str, done: int, total: int, source: str = "", /) -> None:
        """Take note of a stage, and tell it if it is time."""
        now = self.clock()
        with self._lock:
            if stage not in self._watched:
                self._watched[stage] = _Watched(Pace(self.clock), now)
            watched = self._watched[stage]
            watched.pace.update(done)
            ended = 0 < total <= done
            due = now - watched.told >= self.every_s or (ended and watched.was_told)
            rate, left_s = watched.pace.per_second, watched.pace.left_s(total)
            if ended:
                del self._watched[stage]
            if not due:
                return
            watched.told, watched.was_told = now, True
            self.tell(Standing(stage, done, total, source, rate, left_s))


def line(standing: Standing) -> str:
    """A standing for people: ``fetch  3.1 GB of 16.0 GB  19 %  212.0 MB/s  1:01 left  http://host``."""
    show = str if standing.stage in STEPWISE else human_size
    parts = [
        standing.stage,
        f"{show(standing.done)} of {show(standing.total)}" if standing.total else show(standing.done),
    ]
    if standing.total:
        parts.append(f"{100 * standing.done // standing.total} %")
    if standing.per_second is not None and standing.stage not in STEPWISE:
        parts.append(f"{human_size(int(standing.per_second))}/s")
    if standing.left_s is not None:
        parts.append(f"{_clock_time(standing.left_s)} left")
    return "  ".join([*parts, standing.source]).rstrip()


def document(standing: Standing) -> dict[str, object]:
    """A standing as an event in JSON."""
    unit = "steps" if standing.stage in STEPWISE else "bytes"
    return {
        "event": "progress",
        "stage": standing.stage,
        f"done_{unit}": standing.done,
        f"total_{unit}": standing.total or None,
        f"{unit}_per_s": None if standing.per_second is None else round(standing.per_second),
        "left_s": None if standing.left_s is None else round(standing.left_s, 1),
        "source": standing.source or None,
    }


def _clock_time(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


@contextmanager
def _drawn() -> Iterator[Progress]:
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    class Amount(rich.DownloadColumn):
        def render(self, task: rich.Task) -> Text:
            if task.fields["stage"] not in STEPWISE:
                return super().render(task)
            return Text(f"{int(task.completed)}/{int(task.total or 0)}")

    class Rate(rich.TransferSpeedColumn):
        def render(self, task: rich.Task) -> Text:
            return Text() if task.fields["stage"] in STEPWISE else super().render(task)

    plain = "{task.fields[%s]}"
    columns = (
        rich.TextColumn(plain % "stage", markup=False),
        rich.BarColumn(),
        Amount(),
        Rate(),
        rich.TimeRemainingColumn(),
        rich.TextColumn(plain % "source", markup=False),
    )
    drawn = rich.Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=_SMOOTH_OVER_S)
    tasks: dict[str, rich.TaskID] = {}
    seen: dict[str, float] = {}

    def update(stage: str, done: int, total: int, source: str = "", /) -> None:
        now = time.monotonic()
        if now - seen.get(stage, 0.0) < _DRAW_EVERY_S and done < total:
            return
        seen[stage] = now
        source = context.printable(source)
        if stage not in tasks:
            tasks[stage] = drawn.add_task("", total=total or None, stage=context.printable(stage), source=source)
        drawn.update(tasks[stage], completed=done, total=total or None, source=source)

    with drawn:
        yield update
