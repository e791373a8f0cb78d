"""The control groups that this process is in, from its own up to the root: a limit on any of them binds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Group:
    """One group's folder and the version (1 or 2) of its hierarchy, which decides the names of its files."""

    folder: Path
    version: int

    def lines(self, name: str) -> list[str]:
        """The lines of one of its files; none if it is not there."""
        return _lines(self.folder / name)

    def number(self, name: str) -> int | None:
        """The integer in one of its files; None for the word ``max``, and if it is not there."""
        lines = self.lines(name)
        return int(lines[0]) if lines and lines[0].isdigit() else None


def groups(controller: str, root: Path = Path("/")) -> Iterator[Group]:
    """Yield the groups that may limit ``controller`` (``memory``, ``cpu``), the innermost first.

    The path in ``/proc/self/cgroup`` is that of the hierarchy; in a container the mount may show only a subtree of
    it, whose root ``mountinfo`` names (proc(5), cgroups(7)).

    Args:
        controller: its name in cgroup v1; in v2 there is one hierarchy for all.
        root: where ``proc`` and ``sys`` are, other than ``/`` only in tests.
    """
    paths: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(root / "proc/self/mountinfo"):
        head, _, tail = line.partition(" - ")
        mounted, (mount_root, mount_point) = tail.split(" "), head.split(" ")[3:5]
        if mounted[0] == "cgroup2":
            path, version = paths.get("", "/"), 2
        elif mounted[0] == "cgroup" and controller in mounted[-1].split(","):
            path, version = paths.get(controller, "/"), 1
        else:
            continue
        top = root / mount_point.lstrip("/")
        inside = path.removeprefix(mount_root).lstrip("/") if path.startswith(mount_root) else ""
        folder = top / inside
        if ".." in inside or not folder.is_dir():
            folder = top
        yield from (Group(each, version) for each in (folder, *folder.parents) if each.is_relative_to(top))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
