"""Run contestants in turn and compare them: medians, ratios, private memory of the whole process tree.

Every round runs each contestant once, so that what else happens on the machine hits all alike; the ratio is the median
of the rounds' ratios, not the ratio of medians.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Contestant:
    """Something to time. ``run`` does the work once; or ``command`` is started and waited for. ``after`` cleans up,
    outside the measured time."""

    name: str
    run: Callable[[], object] | None = None
    command: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    after: Callable[[], None] = lambda: None


@dataclass
class Timing:
    """What was measured of one contestant, round by round."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    private_peak_bytes: int = 0
    """Of commands only: the largest sum of private resident memory over the process tree."""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def race(contestants: Sequence[Contestant], rounds: int = 5, warm_up: bool = True) -> list[Timing]:
    """Time the contestants in alternating runs.

    The first run of each is not timed: it warms up, and has its memory watched, which costs the watched one time.
    """
    timings = [Timing(contestant.name) for contestant in contestants]
    for turn in range(-1 if warm_up else 0, rounds):
        for contestant, timing in zip(contestants, timings, strict=True):
            seconds, cpu_s, peak = _once(contestant, watched=turn < 0 or not warm_up)
            contestant.after()
            timing.private_peak_bytes = max(timing.private_peak_bytes, peak)
            if turn >= 0:
                timing.seconds.append(seconds)
                timing.cpu_s.append(cpu_s)
    return timings


def ratio(timing: Timing, reference: Timing) -> float:
    """Median over the rounds of ``timing``'s time in units of the reference's."""
    return statistics.median(a / b for a, b in zip(timing.seconds, reference.seconds, strict=True))


def _once(contestant: Contestant, *, watched: bool) -> tuple[float, float, int]:
    cpu, started = _cpu_s(), time.perf_counter()
    peak = 0
    if contestant.run is not None:
        contestant.run()
    else:
        peak = run_command(contestant.command, contestant.environment, watched=watched)
    return time.perf_counter() - started, _cpu_s() - cpu, peak


def run_command(command: Sequence[str], environment: dict[str, str] | None = None, *, watched: bool = True) -> int:
    """Run a command to its successful end; returns the peak of its tree's private memory in bytes, if watched."""
    process = subprocess.Popen(
        list(command), env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], private_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    if watched:
        watcher.start()
    _, errors = process.communicate()
    done.set()
    if watched:
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode()[-2000:]}")
    return peak[0]


def private_bytes(pid: int) -> int:
    """Private resident memory of a process and its descendants; without /proc, their resident set."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_private(process) for process in processes)


def _private(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    except FileNotFoundError:
        pass
    except OSError:
        return 0  # it ended meanwhile
    try:
        return int(process.memory_info().rss) if sys.platform != "linux" else 0
    except psutil.Error:
        return 0


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def machine() -> str:
    """The machine in one line."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f}"
    )


def version_of(*command: str) -> str:
    """The first line that a tool says of its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def report(title: str, timings: Sequence[Timing], reference: Timing, notes: Sequence[str] = ()) -> None:
    """Print a table and, as the last line, the same as JSON."""
    print(f"## {title}\n{machine()}")
    for note in notes:
        print(f"- {note}")
    width = max(len(timing.name) for timing in timings)
    print(f"{'':{width}}  median s     min     max   cpu s  x {reference.name}  private MiB")
    rows = []
    for timing in timings:
        times = ratio(timing, reference)
        peak = timing.private_peak_bytes / 2**20
        print(
            f"{timing.name:{width}}  {timing.median_s:8.3f} {min(timing.seconds):7.3f} {max(timing.seconds):7.3f}"
            f" {statistics.median(timing.cpu_s):7.2f}  {times:{len(reference.name) + 2}.3f}  "
            + (f"{peak:11.0f}" if peak else f"{'-':>11}")
        )
        rows.append({"name": timing.name, "median_s": round(timing.median_s, 4), "ratio": round(times, 4),
                     "private_peak_bytes": timing.private_peak_bytes})  # fmt: skip
    print(json.dumps({"benchmark": title, "reference": reference.name, "machine": machine(), "rows": rows}))
