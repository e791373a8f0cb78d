"""What a reader of untrusted bytes must never do, watched while it runs: reach out, read elsewhere, hang, grow."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from citrate.core.errors import CitrateError

SECONDS = 2.0
"""Of processor time for one input."""
MEMORY_BYTES = 1 << 30
"""Address space for all of it, beyond what the libraries took."""
_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.rename", "ctypes.dlopen")
_LIBRARIES = tuple(str(Path(path).resolve()) for path in {sys.prefix, sys.base_prefix, *sys.path} if path)
_ALSO = (f"/proc/{os.getpid()}", "/proc/self", "/usr/share/zoneinfo", "/usr/lib", "/etc/localtime")


class BrokenPromiseError(BaseException):
    """A reader did what it must not do; not an Exception, so that no reader can swallow it."""


class Guard:
    """Runs a target on inputs. The audit hook cannot be removed, so there is one guard a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self._watching = False
        sys.addaudithook(self._hook)
        signal.signal(signal.SIGPROF, self._expire)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def check(self, target: Callable[[bytes], None], data: bytes) -> float:
        """Run ``target`` on ``data``; returns the processor seconds.

        Raises:
            BrokenPromiseError: anything but a return or a CitrateError with one line and a hint, or too much of time.
        """
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        self._watching = True
        try:
            target(data)
        except CitrateError as error:
            if "\n" in error.message or not error.message or not error.hint or len(error.message) > 2000:
                raise BrokenPromiseError(f"an error of many lines, or without a hint: {error.message!r}") from error
        except MemoryError as error:
            raise BrokenPromiseError("more memory than it may") from error
        except Exception as error:
            raise BrokenPromiseError(f"{type(error).__name__}: {error}") from error
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        return time.process_time() - started

    def _expire(self, _signal: int, _frame: FrameType | None) -> None:
        if self._watching:
            self._watching = False
            raise BrokenPromiseError(f"more than {SECONDS} s")

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watching:
            return
        if event.startswith(_NEVER):
            self._watching = False
            raise BrokenPromiseError(f"it did {event}")
        if event == "open" and isinstance(arguments[0], str):
            path = str(Path(arguments[0]).resolve())
            if not path.startswith((self._folder, *_LIBRARIES, *_ALSO)):
                self._watching = False
                raise BrokenPromiseError(f"it opened {path}")
