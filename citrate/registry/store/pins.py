"""Who needs an object, and since when.

An object with a pin stays until the pin is taken away, with one exception: what was merely pulled can be pulled again,
so it makes way where somebody asked for room (``collecting``). The pins of an object stand in the index and in a small
file of its own, and one of the two is enough: no object is lost because its index is.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from citrate.core.errors import ConfigError, NotPermittedError
from citrate.registry.atomic import make_folder, replacing, sync_directory
from citrate.registry.store.index import Index
from citrate.registry.store.layout import Layout

PULLED = "pulled "
"""What the reason of a pull begins with."""
REASON_MAX_LENGTH = 200
_SINCE = re.compile(r"-|[0-9]{1,18}")


@dataclass(frozen=True)
class Pin:
    """A reason to keep an object. ``since_s``: unix seconds; None where an older citrate did not note it."""

    reason: str
    since_s: int | None

    @property
    def is_of_a_pull(self) -> bool:
        """Whether the object can be had again as it was had the first time."""
        return self.reason.startswith(PULLED)


def check_reason(reason: str) -> str:
    """A reason as a person may give it.

    Raises:
        ConfigError: empty, too long, with control characters, or one that only a pull has.
    """
    if not reason.strip() or len(reason) > REASON_MAX_LENGTH or not reason.isprintable():
        raise ConfigError(
            f"a reason has 1 to {REASON_MAX_LENGTH} printable characters",
            hint="--reason demo, the name of who needs it",
        )
    if reason.startswith(PULLED):
        raise ConfigError(f"a reason that begins with {PULLED!r} is one of pull's own", hint="say who needs it")
    return reason


class Pins:
    """The pins of one store."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._folder = layout.root / "pins"
        self._index = index

    def of(self, cid: str) -> tuple[Pin, ...]:
        """The pins of one object."""
        rows = self._index.read("SELECT reason, since_s FROM pins WHERE cid = ?", cid, kinds="sI")
        return _together([Pin(reason, since) for reason, since in rows], self._noted(cid))

    def all(self) -> dict[str, tuple[Pin, ...]]:
        """The pins of every object that has one."""
        found: dict[str, list[Pin]] = {}
        for cid, reason, since in self._index.read("SELECT cid, reason, since_s FROM pins", kinds="ssI"):
            found.setdefault(cid, []).append(Pin(reason, since))
        noted = self.noted()
        return {cid: _together(found.get(cid, ()), noted.get(cid, ())) for cid in {*found, *noted}}

    def find(self, reason: str) -> str:
        """The first object that is kept for ``reason``; empty where none is."""
        rows = self._index.read("SELECT cid FROM pins WHERE reason = ? ORDER BY cid", reason, kinds="s")
        return next((str(cid) for (cid,) in rows), "")

    def add(self, cid: str, reason: str) -> None:
        """Add a pin; one that stands keeps its time."""
        with self._index.writing() as connection:
            self.insert(connection, cid, reason)
        self.note(cid)

    def insert(self, connection: sqlite3.Connection, cid: str, reason: str, since_s: int | None = None) -> None:
        """The same within a transaction that does more; ``note`` belongs behind it."""
        since_s = int(time.time()) if since_s is None else since_s
        connection.execute("INSERT OR IGNORE INTO pins(cid, reason, since_s) VALUES(?, ?, ?)", (cid, reason, since_s))

    def note(self, cid: str) -> None:
        """Write an object's pins into its file; one process at a time."""
        with self._index.writing():
            self._note(cid, self.of(cid))

    def remove(self, cid: str, reason: str) -> None:
        """Take a pin away, if it is there."""
        with self._index.writing() as connection:
            left = [pin for pin in self.of(cid) if pin.reason != reason]
            connection.execute("DELETE FROM pins WHERE cid = ? AND reason = ?", (cid, reason))
            self._note(cid, left)

    def removable(self, cid: str, *, pulled: bool) -> None:
        """Refuse to let go of an object that somebody needs; ``pulled``: pulls need nothing.

        Raises:
            NotPermittedError: somebody does.
        """
        if reasons := [pin.reason for pin in self.of(cid) if not (pulled and pin.is_of_a_pull)]:
            raise NotPermittedError(f"{cid} is pinned: {', '.join(reasons)}", hint=f"first: citrate store unpin {cid}")

    @contextlib.contextmanager
    def ending(self, cid: str, *, pulled: bool) -> Iterator[sqlite3.Connection]:
        """A transaction in which the object itself is forgotten, and all its pins with it.

        Their file goes before the commit. Killed in between, the object is there with the pins that the index has, and
        ``verify`` writes the file anew; the other way round an object would be needed that is not there any more.

        Raises:
            NotPermittedError: somebody needs it; as of ``removable``.
        """
        noted = self._noted(cid)
        try:
            with self._index.writing() as connection:
                self.removable(cid, pulled=pulled)  # an import may have pinned it since it was looked at
                yield connection
                connection.execute("DELETE FROM pins WHERE cid = ?", (cid,))
                self._note(cid, ())
        except BaseException:
            with contextlib.suppress(OSError):  # no room: the index has them still
                self._note(cid, noted)
            raise

    def renew(self, cid: str) -> bool:
        """Write an object's file anew if it is gone or holds what is no pin; says whether it did."""
        wanted = self.of(cid)
        try:
            lines = (self._folder / cid).read_text(errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            lines = []
        if not wanted or (lines and len(list(_parse("\n".join(lines)))) == len(lines)):
            return False
        self.note(cid)
        return True

    def noted(self) -> dict[str, tuple[Pin, ...]]:
        """What the small files say."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.exists() else []
        return {name: self._noted(name) for name in names if not name.startswith(".")}

    def _noted(self, cid: str) -> tuple[Pin, ...]:
        if not cid.isalnum():  # no CID of ours, and perhaps a path
            return ()
        try:
            text = (self._folder / cid).read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(_parse(text))

    def _note(self, cid: str, pins: Iterable[Pin]) -> None:
        path = self._folder / cid
        text = "".join(f"{'-' if pin.since_s is None else pin.since_s} {pin.reason}\n" for pin in pins)
        if text:
            make_folder(self._folder)
            with replacing(path) as file:
                file.write(text.encode())
        elif path.exists():
            path.unlink()
            sync_directory(self._folder)


def _together(*lists: Iterable[Pin]) -> tuple[Pin, ...]:
    """Pins of several lists, each reason once, by name; what came first is believed."""
    found: dict[str, Pin] = {}
    for pin in (pin for pins in lists for pin in pins):
        found.setdefault(pin.reason, pin)
    return tuple(found[reason] for reason in sorted(found))


def _parse(text: str) -> Iterable[Pin]:
    for line in text.splitlines():
        since, _, reason = line.partition(" ")
        if reason and reason.isprintable() and _SINCE.fullmatch(since):
            yield Pin(reason, int(since) if since.isdecimal() else None)
