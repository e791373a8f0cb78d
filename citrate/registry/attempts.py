"""Ask sources in turn: patiently, remembering why one could not, and never again one that lied.

Who keeps silent holds up nobody: after ``HEDGE_S`` the next one is asked as well, and who answers first is taken.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from citrate.core.errors import CitrateError, IntegrityError, StoreError
from citrate.registry import cid as cids
from citrate.registry.asking import SILENT, Asker
from citrate.registry.sources import Source, SourceError, StoreSource, UnansweredError

_LOG = logging.getLogger("citrate.sources")

ATTEMPTS = 3
"""How often a source that does not answer is asked; any progress starts the count anew."""
BACKOFF_S = 0.2
RETRY_AFTER_MAX_S = 30.0
"""A source that asks to wait longer is not asked again."""

HEDGE_S = 2.0
"""How long to wait for a source before the next one is asked as well."""

NOBODY_HINT = "name a gateway with --from URL, or set gateways or kubo_api; and leave --offline out"

T = TypeVar("T")


def mismatch(message: str, path: str, expected: str, actual: str) -> IntegrityError:
    """The error for bytes that are not what they should be, of which nothing is kept."""
    return IntegrityError(message, path=path, expected=expected, actual=actual, hint="nothing of it was kept")


def pause_s(failures: int, why: UnansweredError) -> float | None:
    """How long to leave a source alone that did not answer once more after ``failures`` times; None: for good.

    Longer each time, and never as long as others that failed at the same moment.
    """
    if why.retry_after_s > RETRY_AFTER_MAX_S:
        return None
    wait_s: float = BACKOFF_S * 3.0**failures
    return max(why.retry_after_s, wait_s * random.uniform(0.5, 1.5))  # noqa: S311  # nothing secret


@dataclass(frozen=True)
class _Told(Generic[T]):
    """What a source answered: nothing, if it could not; ``error``: what ends the whole attempt."""

    name: str
    given: tuple[T, ...] = ()
    error: BaseException | None = None


@dataclass
class Attempts:
    """The sources of one fetch: who still may be asked, and why the others may not.

    ``sources`` are its own: they are asked on threads of theirs, and whoever still waits for one at ``close`` is ended.
    """

    sources: Sequence[Source]
    reasons: dict[str, str] = field(default_factory=dict)
    lies: dict[str, IntegrityError] = field(default_factory=dict)
    givers: dict[str, None] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Those that did not answer, however patiently they were asked; they are not asked again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _askers: dict[str, Asker] = field(default_factory=dict)
    _closed: bool = False

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Attempts:
        """Over connections of its own to sources that are somebody else's."""
        return cls([source.another() for source in sources])

    def close(self) -> None:
        """Ask nothing more, and wait for nobody."""
        self._closed = True
        for asker in self._askers.values():
            asker.close()

    def is_asking(self, name: str) -> bool:
        """Whether a source has not answered yet, though somebody else was faster."""
        return name in self._askers and self._askers[name].is_busy

    def for_another_thread(self) -> Attempts:
        """The same sources over connections of their own; what is learned of them is shared."""
        others = [source.another() for source in self.sources]
        return Attempts(others, self.reasons, self.lies, self.givers, self.down, self._lock)

    def failed(self, name: str, why: SourceError) -> None:
        """Note why a source could not."""
        with self._lock:
            self.reasons[name] = str(why)

    def lied(self, name: str, lie: IntegrityError) -> None:
        """Note that a source gave wrong bytes."""
        with self._lock:
            self.lies.setdefault(name, lie)

    def gave(self, name: str) -> None:
        """Note that a source gave right bytes."""
        if name not in self.givers:
            with self._lock:
                self.givers[name] = None

    def attempt(self, cid: str, ask: Callable[[Source], T]) -> tuple[T, str]:
        """Ask one source after the other until one gives what is wanted, the next one early where one keeps silent.

        Raises:
            IntegrityError: one gave wrong bytes, and no other had them.
            StoreError: none has it.
        """
        told: SimpleQueue[_Told[T]] = SimpleQueue()
        waiting, asked = self._in_order(), set[str]()
        while waiting or asked:
            if waiting:
                source = waiting.popleft()
                alone = not waiting and not asked
                asked.add(source.name)
                self._put(source, alone, partial(self._answer, source, ask, told))
            answer = self._first_of(told, asked, more=bool(waiting))
            if answer is None:
                continue
            asked.discard(answer.name)
            if answer.error is not None:
                raise answer.error
            if answer.given:
                self.gave(answer.name)
                return answer.given[0], answer.name
        raise self.failure(cid)

    def _in_order(self) -> deque[Source]:
        """Who may be asked: in the order given, but who kept silent lately last."""
        useful = [source for source in self.sources if source.name not in self.lies and source.name not in self.down]
        return deque(sorted(useful, key=lambda source: SILENT.of(source.name)))

    def _put(self, source: Source, alone: bool, question: Callable[[], None]) -> None:
        """Put a question to a source: at once where nothing is won by a thread that can be left waiting."""
        known = alone and source.name in self.givers and not self.is_asking(source.name)
        if known or isinstance(source, StoreSource):
            question()
            return
        if source.name not in self._askers:
            self._askers[source.name] = Asker(source)
        self._askers[source.name].ask(question)

    @staticmethod
    def _first_of(told: SimpleQueue[_Told[T]], asked: set[str], *, more: bool) -> _Told[T] | None:
        """The next answer; None if for a while nobody gave one."""
        try:
            return told.get(timeout=HEDGE_S)
        except Empty:
            for name in asked:
                if SILENT.note(name):
                    then = "the next source is asked as well" if more else "waiting"
                    _LOG.info("%s has not answered for %.0f s: %s", name, HEDGE_S, then)
            return None

    def _answer(self, source: Source, ask: Callable[[Source], T], told: SimpleQueue[_Told[T]]) -> None:
        told.put(self._asked(source, ask))

    def _asked(self, source: Source, ask: Callable[[Source], T]) -> _Told[T]:
        name = source.name
        if name in self.lies or name in self.down or self._closed:  # that came up while this question waited
            return _Told(name)
        try:
            result = self._patiently(source, ask)
        except SourceError as error:
            if not self._closed:
                self.failed(name, error)
                if isinstance(error, UnansweredError):
                    self.down.add(name)
                    SILENT.note(name)
            return _Told(name)
        except IntegrityError as error:
            self.lied(name, error)
            return _Told(name)
        except BaseException as error:  # noqa: BLE001  # carried to the caller's thread
            return _Told(name, error=error)
        SILENT.ended(name)
        return _Told(name, (result,))

    def _patiently(self, source: Source, ask: Callable[[Source], T]) -> T:
        for failures in range(0 if SILENT.of(source.name) else ATTEMPTS - 1):
            try:
                return ask(source)
            except UnansweredError as why:
                wait_s = pause_s(failures, why)
                if wait_s is None or self._closed:
                    raise
                time.sleep(wait_s)
        return ask(source)

    def failure(self, cid: str) -> CitrateError:
        """The error that says why no source has something."""
        with self._lock:
            reasons = {name: why for name, why in self.reasons.items() if name != "store"}
            lies = dict(self.lies)
        listed = "; ".join(f"{name}: {why}" for name, why in reasons.items() if name not in lies)
        for name, lie in lies.items():
            message = f"{name} gave wrong bytes for {lie.path or cid}: {lie.message}"
            others = f"no other source has it ({listed})" if listed else "there is no other source"
            return IntegrityError(
                message,
                path=lie.path or cid,
                expected=lie.expected,
                actual=lie.actual,
                hint=f"{others}; try --from URL",
            )
        if not reasons:
            return StoreError(
                f"{cid} is not in the local store, and there is no source to ask",
                hint=NOBODY_HINT,
                cid=cid,
            )
        return StoreError(f"no source has {cid}: {listed}", hint="name another gateway with --from URL", cid=cid)

    def block(self, cid: str, max_bytes: int) -> tuple[bytes, str]:
        """A block, compared with its CID."""
        return self.attempt(cid, lambda source: self.block_from(source, cid, max_bytes))

    @staticmethod
    def block_from(source: Source, cid: str, max_bytes: int) -> bytes:
        """A block of one source, compared with its CID."""
        codec, digest = cids.decode(cid)
        block = source.block(cid)
        actual = hashlib.sha256(block).digest()
        if actual != digest or len(block) > max_bytes:
            raise mismatch("a block is not what its CID says", cid, cid, cids.encode(codec, actual))
        return block
