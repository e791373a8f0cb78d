"""Where the tensors of a file lie that ``torch.save`` wrote; read without torch, and without unpickling.

Two layouts (torch/serialization.py): a zip archive of stored entries, ``NAME/data.pkl`` and one ``NAME/data/KEY`` a
storage; and, before torch 1.6, five pickles (a number, a version, the system, the object, the storages' keys), then
each storage as its count of elements and its bytes. Only a flat dictionary of contiguous tensors is a checkpoint here.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from citrate.core.errors import FormatError
from citrate.formats.dtypes import width
from citrate.formats.pickle_machine import Bounded, Rebuild, Symbol, Table, run
from citrate.formats.torch_symbols import ALLOWED, REBUILDS, TENSORS, Part, Storage

_PICKLE_MAX_BYTES = 64 << 20
_ENTRIES_MAX = 1 << 17
_DIRECTORY_MAX_BYTES = 64 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = 30  # bytes before the name in a zip entry's own header


@dataclass(frozen=True)
class Placed:
    """A tensor and the file's offset of its data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Found:
    """What a file holds: the names that its pickles import, and its tensors, or why they cannot be used."""

    globals: tuple[str, ...]
    tensors: tuple[Placed, ...] = ()
    refusal: str = ""


@dataclass
class _Contents:
    """A checkpoint while it is read."""

    globals: set[str] = field(default_factory=set)
    top: Symbol = None
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each storage: offset and size in bytes."""


def find_tensors(path: Path) -> Found:
    """Read what ``path`` says of itself; what it names is told also where it cannot be read to its end."""
    contents = _Contents()
    placed: list[Placed] = []
    refusal = ""
    try:
        with path.open("rb") as file:
            _read(file, contents)
            placed = _placed(contents)
    except FormatError as error:
        refusal = error.message
    except OSError as error:
        refusal = f"it cannot be read: {error.strerror}"
    foreign = sorted(contents.globals - ALLOWED)
    if foreign:
        refusal = f"it wants to import {foreign[0]:.80}, which no checkpoint of weights needs"
    return Found(tuple(sorted(contents.globals)), () if refusal else tuple(placed), refusal)


def _read(file: BinaryIO, contents: _Contents) -> None:
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        _read_archive(file, size, contents)
    else:
        _read_legacy(file, size, contents)


def _placed(contents: _Contents) -> list[Placed]:
    if not isinstance(contents.top, Table):
        raise FormatError("it holds no dictionary of tensors")
    placed: dict[str, Placed] = {}
    for name, part in contents.top.pairs:
        if not isinstance(name, str) or not isinstance(part, Part):
            raise FormatError(f"its entry {_shown(name)} is no tensor")
        if not part.contiguous:
            raise FormatError(f"tensor {_shown(name)} is a view with strides; save the model with save_pretrained()")
        placed[name] = Placed(name, part.dtype, part.shape, _offset(contents, name, part))
    return list(placed.values())


def _offset(contents: _Contents, name: str, part: Part) -> int:
    place = contents.places.get(part.storage.key)
    if place is None:
        raise FormatError(f"tensor {_shown(name)} has no data in the file")
    offset, size = place
    begin, length = part.start * width(part.dtype), width(part.dtype)
    for n in part.shape:
        length *= n
    if begin + length > size:
        raise FormatError(f"tensor {_shown(name)} reaches past its data")
    return offset + begin


def _shown(name: Symbol) -> str:
    return repr(name[:80]) if isinstance(name, str) else "whose name is no text"


def _read_archive(file: BinaryIO, size: int, contents: _Contents) -> None:
    entries = _entries(file, size)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise FormatError("a zip archive, but not one that torch.save wrote")
    root = pickles[0].removesuffix("data.pkl")
    if any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in entries):
        raise FormatError("a TorchScript archive, which is a program")
    byteorder = entries.get(f"{root}byteorder")
    if byteorder is not None and _bytes_at(file, *byteorder, 16) != b"little":
        raise FormatError("its numbers are not little-endian")
    offset, length = entries[pickles[0]]
    if length > _PICKLE_MAX_BYTES:
        raise FormatError(f"a pickle of {length} bytes is larger than any checkpoint's")
    file.seek(offset)
    contents.top = run(Bounded(file, length), REBUILDS, contents.globals)
    prefix = f"{root}data/"
    contents.places = {name.removeprefix(prefix): at for name, at in entries.items() if name.startswith(prefix)}


def _entries(file: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
    """Of each entry: offset and size of its data, which lie in the file as they are, one after the other."""
    try:
        listed = zipfile.ZipFile(_NoLongReads(file)).infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, UnicodeError) as error:
        raise FormatError(f"a damaged zip archive: {str(error)[:120]}") from error
    entries: dict[str, tuple[int, int]] = {}
    end = 0
    if len(listed) > _ENTRIES_MAX:
        raise FormatError(f"a zip archive of {len(listed)} entries")
    for entry in sorted(listed, key=lambda entry: entry.header_offset):
        header = _bytes_at(file, entry.header_offset, _LOCAL_HEADER, _LOCAL_HEADER)
        if entry.compress_type or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise FormatError(f"its entry {entry.filename[:80]!r} is compressed or encrypted")
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04" or entry.filename in entries:
            raise FormatError(f"its entry {entry.filename[:80]!r} is damaged or stands twice")
        name_length, extra_length = struct.unpack("<HH", header[26:])
        offset = entry.header_offset + _LOCAL_HEADER + name_length + extra_length
        if entry.header_offset < end or offset + entry.file_size > size:
            raise FormatError(f"its entry {entry.filename[:80]!r} overlaps another or reaches past the end")
        end = offset + entry.file_size
        entries[entry.filename] = (offset, entry.file_size)
    return entries


class _NoLongReads:
    """A file for ``zipfile``, which reads as many bytes for its directory as the archive says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_MAX_BYTES:
            raise ValueError(f"a directory of {size} bytes")
        return self._file.read(min(size, _DIRECTORY_MAX_BYTES) if size >= 0 else _DIRECTORY_MAX_BYTES)


def _bytes_at(file: BinaryIO, offset: int, size: int, limit: int) -> bytes:
    file.seek(offset)
    return file.read(min(size, limit))


def _read_legacy(file: BinaryIO, size: int, contents: _Contents) -> None:
    source = Bounded(file, min(size, _PICKLE_MAX_BYTES))
    magic = run(source, REBUILDS, contents.globals)
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        contents.top = magic  # some other pickle: its names are told, its contents are no checkpoint
        return
    if run(source, REBUILDS, contents.globals) != _LEGACY_PROTOCOL:
        raise FormatError("written by a torch that nobody knows")
    system = run(source, REBUILDS, contents.globals)
    if not isinstance(system, Table) or ("little_endian", True) not in _plain(system):
        raise FormatError("its numbers are not little-endian")
    storages: dict[str, Storage] = {}
    contents.top = run(source, {**REBUILDS, **_remembering(storages)}, contents.globals)
    keys = run(source, REBUILDS, contents.globals)
    if not isinstance(keys, list) or len(keys) > _ENTRIES_MAX:
        raise FormatError("it does not list its storages")
    for key in keys:
        if not isinstance(key, str) or key not in storages or key in contents.places:
            raise FormatError("it lists storages that it does not have")
        (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\xff"))
        length, offset = count * width(storages[key].dtype), file.tell()
        if count < 0 or offset + length > size:
            raise FormatError("it is truncated: its storages reach past its end")
        contents.places[key] = (offset, length)
        file.seek(offset + length)


def _plain(table: Table) -> list[tuple[object, object]]:
    return [(key, value) for key, value in table.pairs if isinstance(key, str) and isinstance(value, bool)]


def _remembering(storages: dict[str, Storage]) -> Mapping[str, Rebuild]:
    """The rebuilding functions, noting which storages they meet: the old layout tells their types nowhere else."""

    def noting(rebuild: Rebuild) -> Rebuild:
        def rebuilt(arguments: tuple[Symbol, ...]) -> Symbol:
            part = rebuild(arguments)
            known = storages.setdefault(part.storage.key, part.storage)
            if known != part.storage:
                raise ValueError("a storage of two types")
            return part

        return rebuilt

    return {name: noting(REBUILDS[name]) for name in TENSORS}
