"""The container of safetensors files: a bounded reader of untrusted headers, and the header we write.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes little-endian header length, the header as JSON
``{name: {dtype, shape, data_offsets}}`` padded with spaces, then the tensors, without holes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.documents import parse_object
from citrate.formats.dtypes import STORAGE, bits

HEADER_MAX_BYTES = 32 << 20
_DIMENSIONS_MAX = 8
_NAME_MAX = 512


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: ``size_bytes`` at ``offset`` of ``path``, row-major."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return self.size_bytes * 8 // bits(self.dtype)


@dataclass(frozen=True)
class Planned:
    """A tensor that is going to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements.

        Raises:
            FormatError: elements of less than a byte that fill no whole number of bytes.
        """
        size = bits(self.dtype)
        for n in self.shape:
            size *= n
        if size % 8:
            raise FormatError(f"tensor {self.name[:80]!r} of type {self.dtype} ends within a byte")
        return size // 8


def read_header(path: Path) -> tuple[Tensor, ...]:
    """The tensors of a safetensors file in the order of their data.

    Nothing but the header is read. What comes back covers the file exactly: no overlap, no hole, no byte missing.

    Raises:
        FormatError: any deviation from the format.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, entries, _ = _header_object(file, path.name, size)
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error
    tensors = sorted((_tensor(path, start, name, entry) for name, entry in entries.items()), key=_by_offset)
    at = start
    for tensor in tensors:
        if tensor.offset != at:
            raise FormatError(f"{path.name}: the data of {tensor.name!r} overlaps another tensor or leaves a hole")
        at += tensor.size_bytes
    if at > size:
        raise FormatError(
            f"{path.name} is truncated: {size} bytes, its header promises {at}", hint="download the file again"
        )
    if at < size:
        raise FormatError(f"{path.name} has {size - at} bytes that belong to no tensor")
    return tuple(tensors)


def read_metadata(path: Path) -> Mapping[str, str]:
    """What a safetensors file says of itself beside its tensors; texts only.

    Raises:
        FormatError: the header is malformed.
    """
    try:
        with path.open("rb") as file:
            _, _, metadata = _header_object(file, path.name, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def header_bytes(tensors: Sequence[Planned], metadata: Mapping[str, str]) -> bytes:
    """The start of a file that holds ``tensors`` in that order, up to the first byte of data (a multiple of 8)."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for tensor in tensors:
        end = at + tensor.size_bytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _header_object(file: BinaryIO, name: str, size: int) -> tuple[int, dict[str, Json], dict[str, Json]]:
    """Where the data starts, the parsed header without ``__metadata__``, and that."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise FormatError(f"{name} is truncated: no safetensors header", hint="download the file again")
    (length,) = struct.unpack("<Q", prefix)
    if length > HEADER_MAX_BYTES:
        raise FormatError(f"{name}: a header of {length} bytes is not credible (limit {HEADER_MAX_BYTES >> 20} MiB)")
    if 8 + length > size:
        raise FormatError(f"{name} is truncated inside its header", hint="download the file again")
    entries = parse_object(file.read(length), f"the header of {name}")
    metadata = entries.pop("__metadata__", None)
    if metadata is None:  # mlx writes null where it has nothing to say
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{name}: malformed __metadata__")
    return 8 + length, entries, metadata


def checked_tensor(path: Path, name: str, dtype: Json, shape: Json, offset: int) -> Tensor:
    """A tensor of whom an untrusted file tells name, type and shape; whether its data is there is the caller's to say.

    Raises:
        FormatError: a name that cannot be used, an unknown type, or a shape that no tensor has.
    """
    where = f"{path.name}: tensor {name[:80]!r}"
    if not name or len(name) > _NAME_MAX or not name.isprintable():
        raise FormatError(f"{where} has a name that cannot be used")
    if not isinstance(dtype, str) or dtype not in STORAGE:
        raise FormatError(f"{where} has the unknown type {str(dtype)[:40]!r}")
    sizes = _sizes(shape, where)
    if len(sizes) > _DIMENSIONS_MAX:
        raise FormatError(f"{where} has {len(sizes)} dimensions")
    return Tensor(name, dtype, sizes, path, offset, Planned(name, dtype, sizes).size_bytes)


def _tensor(path: Path, start: int, name: str, entry: Json) -> Tensor:
    where = f"{path.name}: tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where} is malformed")
    offsets = _sizes(entry["data_offsets"], where)
    if len(offsets) != 2:
        raise FormatError(f"{where} is malformed")
    begin, end = offsets
    tensor = checked_tensor(path, name, entry["dtype"], entry["shape"], start + begin)
    if end - begin != tensor.size_bytes:
        raise FormatError(f"{where} has {end - begin} bytes of data, its shape needs {tensor.size_bytes}")
    return tensor


def _sizes(value: Json, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise FormatError(f"{where} is malformed")
    sizes: list[int] = []
    for n in value:
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 1 << 48:
            raise FormatError(f"{where} has an impossible size")
        sizes.append(n)
    return tuple(sizes)


def _by_offset(tensor: Tensor) -> tuple[int, int]:
    return tensor.offset, tensor.size_bytes
