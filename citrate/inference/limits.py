"""How much memory and how many processors this process may use: the system's, as far as its cgroups leave them."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from citrate.inference.cgroups import Group, groups

_NO_LIMIT = 1 << 60
"""cgroup v1 writes "no limit" as a number just below 2^63."""


def available_bytes(root: Path = Path("/")) -> int:
    """The smaller of what the operating system has available and what every enclosing cgroup leaves, in bytes."""
    import psutil

    available = int(psutil.virtual_memory().available)
    headroom = cgroup_headroom_bytes(root)
    return available if headroom is None else min(available, headroom)


def cgroup_headroom_bytes(root: Path = Path("/")) -> int | None:
    """What the tightest memory cgroup around this process leaves to it; None where none limits it.

    Page cache that the kernel can drop (``inactive_file``) is not counted as used, for loading a model fills it.
    """
    return min(_headrooms(root), default=None)


def usable_processors(root: Path = Path("/")) -> int:
    """Processors that this process may run on, no more than any cgroup's quota pays for; at least one."""
    allowed = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1
    quotas = [quota for group in groups("cpu", root) if (quota := _quota(group)) is not None]
    return max(1, min([allowed, *quotas]))


def _headrooms(root: Path) -> Iterator[int]:
    for group in groups("memory", root):
        limit_name, usage_name, cache_name = (
            ("memory.max", "memory.current", "inactive_file")
            if group.version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        limit = group.number(limit_name)
        if limit is None or limit >= _NO_LIMIT:
            continue
        counted = dict(line.split(" ", 1) for line in group.lines("memory.stat"))
        used = (group.number(usage_name) or 0) - int(counted.get(cache_name, "0"))
        yield max(0, limit - max(0, used))


def _quota(group: Group) -> int | None:
    """Processors that the group's quota is worth, rounded up; None without a quota."""
    if group.version == 2:
        quota, _, period = next(iter(group.lines("cpu.max")), "max").partition(" ")
    else:
        quota, period = (next(iter(group.lines(f"cpu.cfs_{name}_us")), "") for name in ("quota", "period"))
    if not quota.isdigit() or not period.isdigit():  # "max", and -1 in v1
        return None
    return math.ceil(int(quota) / int(period))
