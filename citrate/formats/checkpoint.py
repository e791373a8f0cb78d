"""Checkpoints that ``torch.save`` pickled (``pytorch_model.bin``): their tensors lie in the file and are read in place.

Nothing is unpickled. A child behind walls follows the pickle's instructions as data (`citrate.formats.pickle_machine`)
and says where each tensor lies; here that is held against the file. A pickle that names anything a checkpoint does not
need is refused, whatever it would have done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.confinement.child import Limits, ask
from citrate.core.errors import FormatError
from citrate.formats.safetensors_file import Tensor, checked_tensor

SAFE_HINT = "use the model's safetensors weights, or have its author save it with save_pretrained()"
_LIMITS = Limits(memory_bytes=1 << 30, seconds=60.0, answer_bytes=64 << 20)
_MODULE = "citrate.formats.checkpoint_process"
_GLOBALS_SHOWN = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a pickled file says of itself."""

    globals: tuple[str, ...]
    """The names that its pickles import, were they unpickled."""
    tensors: tuple[Tensor, ...]
    refusal: str
    """Why it is no checkpoint of weights; empty where it is one."""

    @property
    def shown(self) -> str:
        """The number of names and the first of them, for people."""
        names = ", ".join(name[:80] for name in self.globals[:_GLOBALS_SHOWN])
        more = len(self.globals) - _GLOBALS_SHOWN
        return f"{len(self.globals)} names ({names}{f' and {more} more' if more > 0 else ''})" if names else "no names"


def read_checkpoints(folder: Path, names: Sequence[str]) -> tuple[Checkpoint, ...]:
    """What the files ``names`` of ``folder`` say of themselves, in their order; nothing of them is unpickled.

    Raises:
        FormatError: a file brings the reader down, or lies about where its tensors are.
        UnavailableError: this platform has no sandbox, or there is no memory for one.
    """
    paths = [folder.resolve() / name for name in names]
    real = [path.resolve() for path in paths]
    request: dict[str, Json] = {"paths": [str(path) for path in real]}
    what = names[0] if len(names) == 1 else f"one of {names[0]} ... {names[-1]}"
    found = json.loads(ask(_MODULE, request, real, _LIMITS, what=what))
    if not isinstance(found, list) or len(found) != len(paths):
        raise FormatError(f"{what} makes its reader answer nonsense", hint=SAFE_HINT)
    return tuple(_checkpoint(path, entry) for path, entry in zip(paths, found, strict=True))


def weights_of(folder: Path, names: Sequence[str]) -> tuple[Checkpoint, ...]:
    """As ``read_checkpoints``, for files that are to be used.

    Raises:
        FormatError: one is no checkpoint of weights and nothing else.
    """
    checkpoints = read_checkpoints(folder, names)
    for name, checkpoint in zip(names, checkpoints, strict=True):
        if checkpoint.refusal:
            raise FormatError(f"{name} is a pickle that is not used: {checkpoint.refusal}", hint=SAFE_HINT)
    return checkpoints


def _checkpoint(path: Path, entry: Json) -> Checkpoint:
    """The child's answer for one file, believed only as far as the file can bear it out."""
    problem = FormatError(f"{path.name} makes its reader answer nonsense", hint=SAFE_HINT)
    if not isinstance(entry, dict):
        raise problem
    names, tensors, refusal = entry.get("globals"), entry.get("tensors"), entry.get("refusal")
    if not isinstance(names, list) or not isinstance(tensors, list) or not isinstance(refusal, str):
        raise problem
    size = path.stat().st_size
    read = tuple(_tensor(path, size, tensor, problem) for tensor in tensors)
    return Checkpoint(tuple(_shown(name) for name in names), read, _shown(refusal))


def _tensor(path: Path, size: int, entry: Json, problem: FormatError) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"name", "dtype", "shape", "offset"}:
        raise problem
    name, offset = entry["name"], entry["offset"]
    if not isinstance(name, str) or not isinstance(offset, int):
        raise problem
    tensor = checked_tensor(path, name, entry["dtype"], entry["shape"], offset)
    if not 0 <= offset <= size - tensor.size_bytes:
        raise FormatError(f"{path.name}: tensor {name[:80]!r} reaches past the end", hint="download the file again")
    return tensor


def _shown(text: Json) -> str:
    return "".join(c for c in str(text) if c.isprintable())[:300]
