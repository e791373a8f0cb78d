"""Ask sources in turn: patiently, remembering why one could not, and never again one that lied."""

from __future__ import annotations

import hashlib
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

T = TypeVar("T")


def mismatch(message: str, path: str, expected: str, actual: str) -> IntegrityError:
    """The error for bytes that are not what they should be, of which nothing is kept."""
    return IntegrityError(message, path=path, expected=expected, actual=actual, hint="nothing of it was kept")


@dataclass
class Attempts:
    """The sources of one fetch: who still may be asked, and why the others may not."""

    sources: Sequence[Source]
    reasons: dict[str, str] = field(default_factory=dict)
    lies: dict[str, IntegrityError] = field(default_factory=dict)
    givers: dict[str, None] = field(default_factory=dict)

    def attempt(self, cid: str, ask: Callable[[Source], T]) -> tuple[T, str]:
        """Ask one source after the other until one gives what is wanted.

        Raises:
            IntegrityError: one gave wrong bytes, and no other had them.
            StoreError: none has it.
        """
        for source in self.sources:
            if source.name in self.lies:
                continue
            try:
                result = self._patiently(source, ask)
            except SourceError as error:
                self.reasons[source.name] = str(error)
            except IntegrityError as error:
                self.lies[source.name] = error
            else:
                self.givers[source.name] = None
                return result, source.name
        raise self._failure(cid)

    @staticmethod
    def _patiently(source: Source, ask: Callable[[Source], T]) -> T:
        wait_s = BACKOFF_S
        for _ in range(ATTEMPTS - 1):
            try:
                return ask(source)
            except UnansweredError:
                time.sleep(wait_s)
                wait_s *= 3
        return ask(source)

    def _failure(self, cid: str) -> CitrateError:
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
