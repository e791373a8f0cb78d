"""Write a merged model: its base's files, with other values in the tensors. Cut and named as every model we publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError
from citrate.core.sink import Progress, Sink
from citrate.formats.configuration import canonical_config
from citrate.formats.dtypes import Raw, all_finite, to_bfloat16, to_float32, width
from citrate.formats.safetensors import indexes, write_file
from citrate.formats.safetensors_file import Planned, Tensor, header_bytes
from citrate.formats.sharding import sharded
from citrate.formats.source import SourceModel
from citrate.formats.streaming import PIECE_BYTES, buffer, in_order, read_bytes

Piece = Callable[[], Raw]
"""Makes some values of a tensor, flat, in the tensor's own type; runs in any thread."""


class Merge(Protocol):
    """What a merged model's tensors are made of."""

    def pieces(self, tensor: Tensor) -> Iterator[Piece] | None:
        """The new values of one of the base's tensors, piece by piece; None where it stays as it is."""
        ...


@dataclass(frozen=True)
class Output:
    """Where a merged model goes, and what goes beside its weights."""

    sink: Sink
    texts: Mapping[str, bytes]
    """Files by name, which take the place of the base's."""
    left_out: frozenset[str] = frozenset()
    """Files of the base that are not written."""
    threads: int | None = None
    progress: Progress | None = None


def write_merged(base: SourceModel, merge: Merge, out: Output) -> None:
    """Write ``base`` with the values that ``merge`` makes.

    Raises:
        FormatError: a weight is NaN or infinite, before or after; or a file changed under us.
        StoreError: the sink cannot take it.
    """
    done, total = 0, base.size_bytes
    files = sharded(base.tensors)
    for name, tensors in files:
        for length in _write_shard(name, tensors, merge, out):
            done += length
            if out.progress:
                out.progress("merge", done, total)
    for index, data in indexes(files):
        write_file(out.sink, index, data)
    write_file(out.sink, base.config_name, canonical_config(base.config))
    for name, data in out.texts.items():
        write_file(out.sink, name, data)
    for companion in base.companions:
        if companion.name not in out.texts and companion.name not in out.left_out:
            write_file(out.sink, companion.name, companion.read())


def narrowed(values: NDArray[np.float32], tensor: Tensor) -> Raw:
    """Float32 values rounded, ties to even, to the type of ``tensor``; flat.

    Raises:
        FormatError: one is no finite number in that type.
    """
    flat: Raw = values.reshape(-1)
    if tensor.dtype == "BF16":
        flat = to_bfloat16(values.reshape(-1))
    elif tensor.dtype == "F16":
        with np.errstate(over="ignore"):
            flat = values.reshape(-1).astype(np.float16).view(np.uint16)
    return finite(flat, tensor)


def finite(values: Raw, tensor: Tensor) -> Raw:
    """Values in the type of ``tensor``, looked through.

    Raises:
        FormatError: one is no finite number.
    """
    if not all_finite(values, tensor.dtype):
        raise FormatError(
            f"the merge gives {tensor.name} weights that {tensor.dtype} cannot hold",
            hint="lower the weights, or merge into the base in float32",
        )
    return values


def for_kernel(weights: Raw, tensor: Tensor) -> Raw:
    """Weights of a tensor in a type that `merging_kernels` takes."""
    return to_float32(weights, tensor.dtype) if tensor.dtype == "F16" else weights


def of_kernel(values: Raw, tensor: Tensor) -> Raw:
    """What a kernel made of such weights, in the tensor's type.

    Raises:
        FormatError: one is no finite number in that type.
    """
    return finite(values, tensor) if tensor.dtype == "BF16" else narrowed(values.view(np.float32), tensor)


def _write_shard(name: str, tensors: Sequence[Tensor], merge: Merge, out: Output) -> Iterator[int]:
    """Write a file; yields the bytes of each piece."""
    header = header_bytes([Planned(t.name, t.dtype, t.shape) for t in tensors], {"format": "pt"})
    file = out.sink.open(name, len(header) + sum(tensor.size_bytes for tensor in tensors))
    file.write(header)
    jobs = (piece for tensor in tensors for piece in merge.pieces(tensor) or _as_it_is(tensor))
    with closing(in_order(jobs, out.threads)) as pieces:
        for values in pieces:
            file.write(buffer(values))
            yield values.nbytes
    file.close()


def _as_it_is(tensor: Tensor) -> Iterator[Piece]:
    step = PIECE_BYTES - PIECE_BYTES % width(tensor.dtype)
    for start in range(0, tensor.size_bytes, step):
        yield partial(read_bytes, tensor, start, min(step, tensor.size_bytes - start))
