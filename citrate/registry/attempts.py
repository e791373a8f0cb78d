"""Ask sources in turn: patiently, remembering why one could not, and never again one that lied."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from citrate.core.errors import CitrateError, IntegrityError, StoreError
from citrate.registry import cid as cids
from citrate.registry.sources import Source, SourceError, UnansweredError

ATTEMPTS = 3
"""How often a source that does not answer is asked; any progress starts the count anew."""
BACKOFF_S = 0.2
RETRY_AFTER_MAX_S = 30.0
"""A source that asks to wait longer is not asked again."""

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


@dataclass
class Attempts:
    """The sources of one fetch: who still may be asked, and why the others may not."""

    sources: Sequence[Source]
    reasons: dict[str, str] = field(default_factory=dict)
    lies: dict[str, IntegrityError] = field(default_factory=dict)
    givers: dict[str, None] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Those that did not answer, however patiently they were asked; they are not asked again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
        """Ask one source after the other until one gives what is wanted.

        Raises:
            IntegrityError: one gave wrong bytes, and no other had them.
            StoreError: none has it.
        """
        for source in self.sources:
            if source.name in self.lies or source.name in self.down:
                continue
            try:
                result = self._patiently(source, ask)
            except SourceError as error:
                self.failed(source.name, error)
                if isinstance(error, UnansweredError):
                    self.down.add(source.name)
            except IntegrityError as error:
                self.lied(source.name, error)
            else:
                self.gave(source.name)
                return result, source.name
        raise self.failure(cid)

    @staticmethod
    def _patiently(source: Source, ask: Callable[[Source], T]) -> T:
        for failures in range(ATTEMPTS - 1):
            try:
                return ask(source)
            except UnansweredError as why:
                wait_s = pause_s(failures, why)
                if wait_s is None:
                    raise
                time.sleep(wait_s)
        return ask(source)

    def failure(self, cid: str) -> CitrateError:
        """The error that says why no source has something."""
        reasons = {name: why for name, why in self.reasons.items() if name != "store"}
        listed = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        for name, lie in self.lies.items():
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
                hint="name a gateway with --from URL, or set gateways or kubo_api",
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
