"""The container of GGUF files: a bounded reader of untrusted files, and the header we write.

Layout, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, key-value
pairs, tensor infos, padding, tensors at multiples of the alignment.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, TypeAlias

from citrate.core.errors import FormatError
from citrate.formats.documents import encoded

ALIGNMENT = 32
_MAGIC = b"GGUF"
_VERSION = 3
_METADATA_MAX_BYTES = 256 << 20
_STRING_MAX_BYTES = 16 << 20
_KEYS_MAX = 1 << 16
_KEY_MAX = 1 << 10
_NAME_MAX = 512
_TENSORS_MAX = 1 << 17
_ITEMS_MAX = 1 << 21
"""Of all arrays together: the largest vocabulary has 1.3 million tokens, scores, types and merges."""

Scalar: TypeAlias = int | float | bool | str


class Kind(IntEnum):
    """GGUF value types."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_PACKING = {
    Kind.UINT8: "B",
    Kind.INT8: "b",
    Kind.UINT16: "H",
    Kind.INT16: "h",
    Kind.UINT32: "I",
    Kind.INT32: "i",
    Kind.FLOAT32: "f",
    Kind.BOOL: "?",
    Kind.UINT64: "Q",
    Kind.INT64: "q",
    Kind.FLOAT64: "d",
}

TYPES: Mapping[int, tuple[str, int, int]] = {
    # ggml's number: name, weights in a block, bytes of a block
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
NUMBERS: Mapping[str, int] = {name: number for number, (name, _, _) in TYPES.items()}


@dataclass(frozen=True)
class GgufValue:
    """A typed value. Arrays hold scalars of one type."""

    kind: Kind
    value: Scalar | tuple[Scalar, ...]
    items: Kind | None = None
    """The type of an array's items."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as the header describes it; ``shape`` is ggml's order, row length first."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    """From the start of the data when it is written; from the start of the file when it was read."""

    @property
    def elements(self) -> int:
        """The number of weights."""
        count = 1
        for n in self.shape:
            count *= n
        return count

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        _, block, size = TYPES[NUMBERS[self.type_name]]
        return self.elements // block * size


@dataclass(frozen=True)
class GgufHeader:
    """Everything of a GGUF file but the weights."""

    metadata: Mapping[str, GgufValue]
    tensors: tuple[GgufTensor, ...]

    def text(self, key: str) -> str:
        """The string at ``key``; empty where there is none."""
        entry = self.metadata.get(key)
        return entry.value if entry is not None and isinstance(entry.value, str) else ""

    def integer(self, key: str) -> int:
        """The integer at ``key``; 0 where there is none."""
        entry = self.metadata.get(key)
        known = entry is not None and isinstance(entry.value, int) and not isinstance(entry.value, bool)
        return int(entry.value) if known and entry is not None and isinstance(entry.value, int) else 0

    def items(self, key: str) -> tuple[Scalar, ...]:
        """The array at ``key``; empty where there is none."""
        entry = self.metadata.get(key)
        return entry.value if entry is not None and isinstance(entry.value, tuple) else ()


def special_tokens(header: GgufHeader) -> dict[str, str]:
    """``bos_token`` and others that chat templates name, as far as the vocabulary has them."""
    tokens = header.items("tokenizer.ggml.tokens")
    found: dict[str, str] = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        place = header.integer(f"tokenizer.ggml.{key}_token_id")
        if f"tokenizer.ggml.{key}_token_id" in header.metadata and 0 <= place < len(tokens):
            found[name] = str(tokens[place])
    return found


def typed(value: bool | int | float | str) -> GgufValue:
    """A value as llama.cpp's metadata has it: bool, uint32, float32 or string."""
    if isinstance(value, bool):
        return GgufValue(Kind.BOOL, value)
    if isinstance(value, int):
        return GgufValue(Kind.UINT32, value)
    return GgufValue(Kind.STRING if isinstance(value, str) else Kind.FLOAT32, value)


def array(kind: Kind, values: Sequence[Scalar]) -> GgufValue:
    """An array value of items of type ``kind``."""
    return GgufValue(Kind.ARRAY, tuple(values), kind)


def plan(sizes: Sequence[tuple[str, tuple[int, ...], str]]) -> tuple[GgufTensor, ...]:
    """Lay tensors (name, shape in ggml's order, type) out one after the other, aligned."""
    tensors: list[GgufTensor] = []
    at = 0
    for name, shape, type_name in sizes:
        tensor = GgufTensor(name, shape, type_name, at)
        tensors.append(tensor)
        at += padded(tensor.size_bytes)
    return tuple(tensors)


def padded(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def header_bytes(metadata: Mapping[str, GgufValue], tensors: Sequence[GgufTensor]) -> bytes:
    """The start of a GGUF file, up to the first byte of data."""
    parts = [_MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), struct.pack("<I", value.kind), _encoded(value)]
    for tensor in tensors:
        dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        parts += [_string(tensor.name), dims, struct.pack("<IQ", NUMBERS[tensor.type_name], tensor.offset)]
    header = b"".join(parts)
    return header + bytes(padded(len(header)) - len(header))


def read_header(path: Path) -> GgufHeader:
    """Read the header of an untrusted GGUF file.

    Raises:
        FormatError: not GGUF version 2 or 3, a count or length that is not credible, a nested array, a name that
            cannot be used, or tensors that do not follow each other, aligned, up to the end of the file at most.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.name, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error


def _read(file: BinaryIO, name: str, size: int) -> GgufHeader:
    reader = _Reader(file, name, min(size, _METADATA_MAX_BYTES))
    if reader.take(4) != _MAGIC:
        raise FormatError(f"{name} is not a GGUF file")
    version, tensor_count, key_count = reader.unpack("<IQQ")
    if version not in (2, 3):
        raise FormatError(f"{name}: GGUF version {version} is not supported (2 and 3 are)")
    if tensor_count > _TENSORS_MAX or key_count > _KEYS_MAX:
        raise reader.error(f"{tensor_count} tensors and {key_count} keys are not credible")
    metadata = reader.metadata(int(key_count))
    tensors = [reader.tensor() for _ in range(int(tensor_count))]
    alignment = metadata["general.alignment"].value if "general.alignment" in metadata else ALIGNMENT
    if not isinstance(alignment, int) or alignment not in (8, 16, 32, 64, 128, 256, 4096):
        raise reader.error(f"an alignment of {alignment!r:.40} is not credible")
    start = -(-file.tell() // alignment) * alignment
    return GgufHeader(metadata, _placed(name, tensors, start, alignment, size))


def _placed(name: str, tensors: Sequence[GgufTensor], start: int, alignment: int, size: int) -> tuple[GgufTensor, ...]:
    placed: list[GgufTensor] = []
    end = start
    for tensor in sorted(tensors, key=lambda t: t.offset):
        at = start + tensor.offset
        if at != -(-end // alignment) * alignment:
            raise FormatError(f"{name}: the data of {tensor.name!r:.80} overlaps another tensor or leaves a hole")
        end = at + tensor.size_bytes
        if end > size:
            raise FormatError(f"{name} is truncated: tensor {tensor.name!r:.80} ends at {end}, the file at {size}")
        placed.append(GgufTensor(tensor.name, tensor.shape, tensor.type_name, at))
    if len({tensor.name for tensor in placed}) != len(placed):
        raise FormatError(f"{name}: a tensor stands twice")
    return tuple(placed)


class _Reader:
    """Takes bytes from the header and refuses to go past a budget."""

    def __init__(self, file: BinaryIO, name: str, budget: int) -> None:
        self._file = file
        self._name = name
        self._left = budget
        self._items = _ITEMS_MAX

    def error(self, message: str) -> FormatError:
        return FormatError(f"{self._name}: {message}", hint="do not load this file")

    def take(self, count: int) -> bytes:
        if count > self._left:
            raise self.error("the header is truncated or larger than any model's")
        self._left -= count
        data = self._file.read(count)
        if len(data) != count:
            raise self.error("the header is truncated")
        return data

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def string(self) -> str:
        (length,) = self.unpack("<Q")
        if length > _STRING_MAX_BYTES:
            raise self.error(f"a string of {length} bytes is not credible")
        return self.take(length).decode("utf-8", errors="replace")

    def name(self, what: str, longest: int) -> str:
        text = self.string()
        if not text or len(text) > longest or not text.isprintable() or "\ufffd" in text:
            raise self.error(f"a {what} has the name {text!r:.80}, which cannot be used")
        return text

    def metadata(self, count: int) -> dict[str, GgufValue]:
        metadata: dict[str, GgufValue] = {}
        for _ in range(count):
            key = self.name("key", _KEY_MAX)
            if key in metadata:
                raise self.error(f"the key {key!r:.80} stands twice")
            metadata[key] = self.value(self.kind())
        return metadata

    def kind(self) -> Kind:
        (number,) = self.unpack("<I")
        if number > max(Kind):
            raise self.error(f"{number} is no value type")
        return Kind(number)

    def value(self, kind: Kind) -> GgufValue:
        if kind is not Kind.ARRAY:
            return GgufValue(kind, self.scalars(kind, 1)[0])
        items = self.kind()
        (count,) = self.unpack("<Q")
        if items is Kind.ARRAY or count > self._items:
            raise self.error("an array that is nested or has more items than any vocabulary")
        self._items -= count
        return GgufValue(kind, self.scalars(items, count), items)

    def scalars(self, kind: Kind, count: int) -> tuple[Scalar, ...]:
        if kind is Kind.STRING:
            return tuple(self.string() for _ in range(count))
        layout = _PACKING[kind]
        return struct.unpack(f"<{count}{layout}", self.take(count * struct.calcsize(f"<{layout}")))

    def tensor(self) -> GgufTensor:
        name = self.name("tensor", _NAME_MAX)
        (dimensions,) = self.unpack("<I")
        if not 1 <= dimensions <= 4:
            raise self.error(f"tensor {name!r:.80} has {dimensions} dimensions")
        shape = self.unpack(f"<{dimensions}Q")
        number, offset = self.unpack("<IQ")
        if number not in TYPES:
            raise self.error(f"tensor {name!r:.80} has the unknown type {number}")
        type_name, block, _ = TYPES[number]
        if any(not 0 < n < 1 << 40 for n in shape) or shape[0] % block:
            raise self.error(f"tensor {name!r:.80} has an impossible shape")
        return GgufTensor(name, shape, type_name, offset)


def _string(text: str) -> bytes:
    data = encoded(text)
    return struct.pack("<Q", len(data)) + data


def _encoded(value: GgufValue) -> bytes:
    if isinstance(value.value, tuple):
        if value.items is None:
            raise FormatError("an array without the type of its items")
        head = struct.pack("<IQ", value.items, len(value.value))
        if value.items is Kind.STRING:
            return head + b"".join(_string(str(item)) for item in value.value)
        return head + struct.pack(f"<{len(value.value)}{_PACKING[value.items]}", *value.value)
    if isinstance(value.value, str):
        return _string(value.value)
    return struct.pack(f"<{_PACKING[value.kind]}", value.value)
