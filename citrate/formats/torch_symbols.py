"""What the names mean that a checkpoint's pickle calls: which part of which storage a tensor is. Nothing is called.

The pickle of a dictionary of tensors needs a dozen names of torch and of collections
(https://docs.pytorch.org/docs/stable/notes/serialization.html); whatever else it names is none of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from citrate.formats.pickle_machine import Called, Global, Persistent, Rebuild, Symbol, Table

_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
    "torch.ComplexFloatStorage": "C64",
    "torch.storage.UntypedStorage": "U8",
}
_DTYPES = {
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
}


@dataclass(frozen=True)
class Storage:
    """A run of bytes outside the pickle."""

    key: str
    dtype: str


@dataclass(frozen=True)
class Part:
    """A contiguous piece of a storage, in row-major order: a tensor. ``start`` is in elements."""

    storage: Storage
    dtype: str
    start: int
    shape: tuple[int, ...]
    contiguous: bool


def _storage(symbol: Symbol) -> Storage:
    key = symbol.key if isinstance(symbol, Persistent) else None
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage" or (len(key) == 6 and key[5]):
        raise ValueError("a tensor without a storage of its own")
    kind, name = key[1], key[2]
    if not isinstance(kind, Global) or kind.name not in _STORAGES or not isinstance(name, str):
        raise ValueError("a storage of an unknown type")
    return Storage(name, _STORAGES[kind.name])


def _sizes(symbol: Symbol) -> tuple[int, ...]:
    if not isinstance(symbol, tuple) or len(symbol) > 8:
        raise ValueError("an impossible shape")
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in symbol):
        raise ValueError("an impossible size")
    return symbol


def _part(arguments: tuple[Symbol, ...], dtype: str = "") -> Part:
    storage, (start,) = _storage(arguments[0]), _sizes((arguments[1],))
    shape, strides = _sizes(arguments[2]), _sizes(arguments[3])
    if len(shape) != len(strides):
        raise ValueError("an impossible shape")
    return Part(storage, dtype or storage.dtype, start, shape, _is_contiguous(shape, strides))


def _typed_part(arguments: tuple[Symbol, ...]) -> Part:
    dtype = arguments[6]
    if not isinstance(dtype, Global) or dtype.name not in _DTYPES:
        raise ValueError("a tensor of an unknown type")
    return _part(arguments, _DTYPES[dtype.name])


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 0:
            return True
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def _ordered(arguments: tuple[Symbol, ...]) -> Table:
    if not arguments:
        return Table()
    (items,) = arguments
    pairs = [tuple(item) for item in items if isinstance(item, list | tuple)]
    if len(pairs) != len(items) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("a dictionary of what are no pairs")
    return Table([(key, value) for key, value in pairs])


def _parameter(arguments: tuple[Symbol, ...]) -> Symbol:
    return arguments[0] if isinstance(arguments[0], Part) else Called("torch._utils._rebuild_parameter")


TENSORS: Mapping[str, Rebuild] = {
    "torch._utils._rebuild_tensor": _part,
    "torch._utils._rebuild_tensor_v2": _part,
    "torch._utils._rebuild_tensor_v3": _typed_part,
}
REBUILDS: Mapping[str, Rebuild] = {
    **TENSORS,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered,
    "torch.Size": lambda arguments: _sizes(tuple(arguments[0])),
}
ALLOWED = frozenset((*REBUILDS, *_STORAGES, *_DTYPES))
"""The names that a checkpoint of weights may import. None is ever imported."""
