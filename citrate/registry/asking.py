"""Ask a source without having to wait for it, and remember who kept silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from citrate.registry.sources import Source

REMEMBERED_S = 60.0
"""How long a source that kept silent is asked after all others, and not patiently."""


class Silence:
    """Which sources kept silent lately, by name: a fact about this machine's network, and so shared by the process."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> bool:
        """Note that a source is silent; whether that is new."""
        with self._lock:
            new = self._until_s.get(name, 0.0) < time.monotonic()
            self._until_s[name] = time.monotonic() + REMEMBERED_S
            return new

    def ended(self, name: str) -> None:
        """Note that a source gave something."""
        if name in self._until_s:
            with self._lock:
                self._until_s.pop(name, None)

    def of(self, name: str) -> bool:
        """Whether a source kept silent lately."""
        return self._until_s.get(name, 0.0) >= time.monotonic()

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._until_s.clear()


SILENT = Silence()


class Asker:
    """A source that is asked on a thread of its own, one question after the other. The process does not wait for it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._questions: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._closed = False
        threading.Thread(target=self._work, name=f"ask {source.name}", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether a question has no answer yet."""
        return self._open > 0

    def ask(self, question: Callable[[], None]) -> None:
        """Have a question put on the thread, after those before it; at once after ``close``. It raises nothing."""
        with self._lock:
            if not self._closed:
                self._open += 1
                self._questions.put(question)
                return
        question()

    def close(self) -> None:
        """Ask nothing more, and let what still waits for the source end soon."""
        with self._lock:
            self._closed = True
            self._questions.put(None)
        if self.is_busy:
            self._source.stop()

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            question()
            del question  # what it holds is needed no longer
            with self._lock:
                self._open -= 1
