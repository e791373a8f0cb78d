"""How much memory this process may still use: what the system has available, and what its cgroups leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""cgroup v1 writes "no limit" as a number just below 2^63."""


@dataclass(frozen=True)
class _Layout:
    """The names that one cgroup version gives to the same three figures."""

    limit: str
    usage: str
    reclaimable: str


_V1 = _Layout("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Layout("memory.max", "memory.current", "inactive_file")


def available_bytes(root: Path = Path("/")) -> int:
    """The smaller of what the operating system has available and what every enclosing cgroup leaves, in bytes."""
    import psutil

    available = int(psutil.virtual_memory().available)
    return max(0, min([available, *_cgroup_headrooms(root)]))


def cgroup_headroom_bytes(root: Path = Path("/")) -> int | None:
    """What the tightest memory cgroup around this process leaves to it; None where none limits it.

    The whole path up to the mount point counts: a limit on a parent binds as much as one's own. Page cache that the
    kernel can drop (``inactive_file``) is not counted as used, for loading a model fills it.

    Args:
        root: where ``proc`` and ``sys`` are, other than ``/`` only in tests.
    """
    return min(_cgroup_headrooms(root), default=None)


def _cgroup_headrooms(root: Path) -> Iterator[int]:
    for folder, top, layout in _own_cgroups(root):
        while True:
            headroom = _headroom(folder, layout)
            if headroom is not None:
                yield max(0, headroom)
            if folder == top:
                break
            folder = folder.parent


def _own_cgroups(root: Path) -> Iterator[tuple[Path, Path, _Layout]]:
    """Yield (own folder, mount point, layout) of each mounted hierarchy that accounts for memory.

    The path in ``/proc/self/cgroup`` is that of the hierarchy; in a container the mount may show only a subtree of
    it, whose root ``mountinfo`` names (proc(5), cgroups(7)).
    """
    paths: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    for line in _lines(root / "proc/self/mountinfo"):
        head, _, tail = line.partition(" - ")
        mounted, (_, mount_root, mount_point) = tail.split(" "), head.split(" ")[2:5]
        if mounted[0] == "cgroup2":
            path, layout = paths.get("", "/"), _V2
        elif mounted[0] == "cgroup" and "memory" in mounted[-1].split(","):
            path, layout = next((p for c, p in paths.items() if "memory" in c.split(",")), "/"), _V1
        else:
            continue
        top = root / mount_point.lstrip("/")
        inside = path[len(mount_root) :] if path.startswith(mount_root) else "/"
        folder = top / inside.lstrip("/")
        yield (folder if ".." not in inside and folder.is_dir() else top), top, layout


def _headroom(folder: Path, layout: _Layout) -> int | None:
    limit = _number(folder / layout.limit)
    if limit is None or limit >= _NO_LIMIT:
        return None
    used = _number(folder / layout.usage) or 0
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == layout.reclaimable:
            used -= int(value)
    return limit - max(0, used)


def _number(path: Path) -> int | None:
    """The integer in ``path``; None for the word ``max`` and for a file that is not there."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
