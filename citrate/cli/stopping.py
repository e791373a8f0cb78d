"""A stop asked for by the user (SIGINT) or the system (SIGTERM): raised once in the command, and never lost.

Python's own handler raises ``KeyboardInterrupt``, which has two faults that both show under load:

- Passing through ``exec`` of source text, as every dataclass runs one while it is defined, exactly that type makes
  ``python -m`` die of the signal in the end, whatever code it meant to exit with. A type of our own does not.
- It can vanish: what C code calls back into Python may have its errors cleared (closing a file in its finalizer), and
  an extension module that is being imported turns it into an ``ImportError``, for which somebody has a fallback. So a
  timer looks after it, and raises it again as long as nobody is handling it.

What was ignored when the process started, as a shell does for a job in the background, stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType

_AGAIN_AFTER_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The command was asked to stop."""


class Stopping:
    """Whether a stop was asked for. A command runs inside its ``with`` block, which raises ``Stopped`` at its end if
    one was, however the command itself ended; after the block a stop changes nothing any more."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._decided = False

    def __enter__(self) -> Stopping:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._again)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decided = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.asked is not None:
            raise Stopped from error

    def pass_on(self) -> None:
        """Let SIGTERM kill the process now that all is tidied up, which service managers count as a clean end."""
        if self.asked is signal.SIGTERM:
            sys.stdout.flush()
            sys.stderr.flush()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._decided:
            return
        self.asked = self.asked or signal.Signals(number)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER_S, _AGAIN_AFTER_S)
        raise Stopped

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked is not None and not self._decided and not _is_handled(sys.exc_info()[1]):
            raise Stopped


def _is_handled(error: BaseException | None) -> bool:
    """Whether the stop is what ``finally`` blocks and the like are run for just now."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__context__
    return False
