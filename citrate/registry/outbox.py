"""What a key has sent and nobody was told about yet, so that a command that was cut off is never carried out twice.

Files under ``home/sent/<chain id>-<address>/``::

    <token>.json   an action, the nonce it was given, and every transaction that was signed for it
    <token>.lock   held by the process that carries it out; free once that ended

A file is written before the transaction leaves, and goes when the result was told. One that nobody holds was left by
a process that was killed or gave up.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import CitrateError
from citrate.registry import atomic

if TYPE_CHECKING:
    from filelock import FileLock


@dataclass(frozen=True)
class Action:
    """What a transaction does, whatever its nonce and fees."""

    to: str
    data: str
    """``0x`` and hex."""
    value_wei: int


@dataclass(frozen=True)
class Offer:
    """One signed transaction for an action; of several with the same nonce a chain takes at most one."""

    tx_hash: str
    raw: str
    max_fee_wei: int
    """The most that is paid for a gas."""
    tip_wei: int


@dataclass(frozen=True)
class Sent:
    """An action under way: all its transactions have the same nonce."""

    action: Action
    nonce: int
    gas: int
    offers: tuple[Offer, ...]
    """Oldest first."""
    created_at: float
    """Unix seconds."""
    block_number: int
    """The newest block when it was signed."""
    block_hash: str

    def age_s(self) -> float:
        """How long ago the first transaction was signed."""
        return time.time() - self.created_at


class Entry:
    """A file of the outbox, held by this process."""

    def __init__(self, path: Path, lock: FileLock, sent: Sent) -> None:
        self._path = path
        self._lock = lock
        self.sent = sent
        self.taken_up = False
        """Whether another process began it, and this one tells what came of it."""

    def add(self, offer: Offer) -> None:
        """Record another transaction for the same nonce; to be called before it is sent."""
        self.sent = replace(self.sent, offers=(*self.sent.offers, offer))
        self.write()

    def write(self) -> None:
        """Put it on the disk."""
        atomic.write_atomic(self._path, json.dumps(asdict(self.sent)).encode())

    def remove(self) -> None:
        """Forget it: its result is told, or none of its transactions can get into a block any more."""
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".lock").unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave it to whoever comes next."""
        self._lock.release()


class Outbox:
    """What one key has under way on one chain."""

    def __init__(self, home: Path, chain_id: int, address: str) -> None:
        self._folder = home / "sent" / f"{chain_id}-{address.lower()}"

    def start(self, sent: Sent) -> Entry:
        """Record an action; to be called before its transaction is sent."""
        atomic.private_folder(self._folder)
        path = self._folder / f"{secrets.token_hex(8)}.json"
        lock = _lock(path)
        lock.acquire()
        entry = Entry(path, lock, sent)
        entry.write()
        return entry

    def abandoned(self) -> list[Entry]:
        """Take over what no living process holds, by nonce. The caller removes or releases each.

        Raises:
            CitrateError: a file cannot be read.
        """
        import filelock

        taken: list[Entry] = []
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            lock = _lock(path)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                continue
            sent = _read(path)
            if sent is None:
                lock.release()
            else:
                taken.append(Entry(path, lock, sent))
        return sorted(taken, key=lambda entry: entry.sent.nonce)


def _lock(path: Path) -> FileLock:
    import filelock  # not at the top: reading the chain takes no lock, and this takes as long as a read

    return filelock.FileLock(path.with_suffix(".lock"))


def _read(path: Path) -> Sent | None:
    """A file's content; None if its owner finished it meanwhile."""
    try:
        found = json.loads(path.read_bytes())
        offers = tuple(Offer(**offer) for offer in found.pop("offers"))
        return Sent(action=Action(**found.pop("action")), offers=offers, **found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CitrateError(
            f"{path} cannot be read: {error}", hint="look up its transaction on the chain, then delete the file"
        ) from error
