"""A limit on the processor time of what a stranger wrote, be it a template or a regular expression."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this thread after ``seconds`` of processor time: a busy machine is nobody's fault.

    For the main thread of a child: the process' one profiling timer is used. What runs in C must look for signals, as
    Python's regular expressions do.
    """

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)  # again: an exception inside a destructor is lost
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_PROF, 0)
        except TimeoutError:  # freeing what had been built took until the next one
            signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
