"""The list beside a pack: which blocks lie in it, and under which roots. The index knows it too, and may get lost.

A line ``root CID`` for each DAG, then a line ``MULTIHASH OFFSET LENGTH`` for each block, by offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from citrate.core.errors import FormatError
from citrate.registry.atomic import make_folder, replacing
from citrate.registry.cid import Cid

Row: TypeAlias = tuple[bytes, int, int]
"""A block's multihash, where it begins in the pack, and its length."""


@dataclass(frozen=True)
class PackList:
    """What is known of a pack. One block may have several places: who reads it compares what stands there."""

    roots: frozenset[str]
    rows: frozenset[Row]

    def __or__(self, other: PackList) -> PackList:
        return PackList(self.roots | other.roots, self.rows | other.rows)


def read(path: Path) -> PackList:
    """What a list tells; lines that are none tell nothing, and neither does a list that is gone."""
    roots, rows = set[str](), set[Row]()
    for line in _lines(path):
        words = line.split()
        try:
            if words[:1] == ["root"] and len(words) == 2:
                roots.add(str(Cid.parse(words[1])))
            elif len(words) == 3:
                rows.add((bytes.fromhex(words[0]), int(words[1]), int(words[2])))
        except (FormatError, ValueError):
            continue
    return PackList(frozenset(roots), frozenset(row for row in rows if min(row[1:]) >= 0))


def tells(path: Path, told: PackList) -> bool:
    """Whether a list has at least these roots and blocks."""
    missing = {_root_line(cid) for cid in told.roots} | {_line(row) for row in told.rows}
    missing.difference_update(_lines(path))
    return not missing


def write(path: Path, roots: Iterable[str], rows: Iterable[Row]) -> None:
    """Write a list, durably, in the place of what stands there."""
    make_folder(path.parent)
    with replacing(path) as file:
        file.writelines(_root_line(cid).encode() for cid in roots)
        file.writelines(_line(row).encode() for row in rows)


def write_all(path: Path, told: PackList) -> None:
    """The same of a whole ``PackList``."""
    write(path, sorted(told.roots), sorted(told.rows, key=lambda row: row[1:]))


def _root_line(cid: str) -> str:
    return f"root {cid}\n"


def _line(row: Row) -> str:
    multihash, offset, length = row
    return f"{multihash.hex()} {offset} {length}\n"


def _lines(path: Path) -> Iterator[str]:
    try:
        file = path.open(errors="replace", newline="\n")
    except FileNotFoundError:
        return
    with file:
        yield from file
