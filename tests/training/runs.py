"""What the tests of training share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from citrate.core.records import FileEntry
from citrate.core.sink import Buffer
from citrate.training import proof
from citrate.training.commitment import Leaf
from citrate.training.proof import Record
from citrate.training.recipe import Bound

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE_SHA256 = "b" * 64
"""The base's name where nobody looks it up."""


class Folder:
    """A sink that is a folder; what it wrote is not hashed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, _size_bytes: int | None = None) -> _File:
        return _File(self._root / path, path)


class _File:
    def __init__(self, path: Path, name: str) -> None:
        self._file, self._name = path.open("wb"), name

    def write(self, data: Buffer) -> None:
        self._file.write(data)

    def close(self) -> FileEntry:
        self._file.close()
        return FileEntry(self._name, 0, "", "")


def forge(folder: Path, *, leaves: Iterable[Leaf] | None = None, bound: Bound | None = None) -> Record:
    """Make a run's record consistent again around what was changed in it: every hash and the root."""
    record = Record(folder)
    found = tuple(record.leaves if leaves is None else leaves)
    wanted = record.bound if bound is None else bound
    (folder / proof.LEAVES).write_bytes(b"".join(leaf.to_bytes() + b"\n" for leaf in found))
    (folder / proof.RECIPE).write_bytes(wanted.to_bytes())
    changed = record.proof.model_copy(
        update={
            "recipe_sha256": wanted.sha256,
            "base_sha256": wanted.base_sha256,
            "dataset_root": wanted.dataset_root,
            "steps": wanted.recipe.steps,
            "checkpoint_every": wanted.recipe.checkpoint_every,
            "root": proof.root_of(found),
            "weights_sha256": found[-1].weights,
        }
    )
    (folder / proof.PROOF).write_bytes(changed.to_bytes())
    return Record(folder)


def with_leaf(record: Record, step: int, **changes: str) -> tuple[Leaf, ...]:
    """A record's leaves, one of them changed."""
    leaves = list(record.leaves)
    leaves[step - 1] = replace(leaves[step - 1], **changes)
    return tuple(leaves)


def edit_tensors(path: Path, change: Callable[[dict[str, object]], None]) -> str:
    """Change tensors in a file; returns the hash of all of them."""
    from safetensors.torch import load_file, save_file

    from citrate.training.commitment import tensors_sha256

    tensors = load_file(path)
    change(tensors)  # type: ignore[arg-type]  # tensors, which this module does not import
    save_file(tensors, path, metadata={"format": "pt"})
    return tensors_sha256(tensors)


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]


__all__ = ["BASE_SHA256", "EXAMPLES", "Folder", "edit_tensors", "forge", "log_of", "with_leaf"]
