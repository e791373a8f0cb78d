"""What a target is: a reader of bytes that anybody may have written, and sound inputs of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mutations import mutated

Mutate: TypeAlias = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader, and sound inputs of it."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    mutate: Mutate = mutated
    inputs: int = 300
    """How many the short, deterministic run gives it."""


def on_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Read the file ``path``, written anew for every input."""

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return run


def in_place(root: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Read the folder ``root`` with the input as its file ``name``; afterwards that is again what it was."""
    path = root / name
    kept = path.read_bytes() if path.exists() else None

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(root)
        finally:
            path.unlink() if kept is None else path.write_bytes(kept)

    return run
