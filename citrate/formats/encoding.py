"""Encode a piece of a tensor in a ggml type, and decode it again to see what it lost.

Our encoders are compiled for the CPU that they run on, so each is tried before it is first used; where it does not
write ggml's bytes, ggml itself encodes.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError
from citrate.formats import encoder_identity, ggml
from citrate.formats.dtypes import Raw, all_finite, to_bfloat16, to_float32
from citrate.formats.extras import importing
from citrate.formats.gguf_file import NUMBERS, TYPES
from citrate.formats.measure import BlockErrors, compare
from citrate.formats.safetensors_file import Tensor

OURS, GGML = "numba", "ggml"


@dataclass(frozen=True)
class Encoded:
    """The bytes of a piece and its errors; None where the bytes are the source's own."""

    data: NDArray[np.uint8]
    errors: BlockErrors | None
    source_bytes: int


@dataclass(frozen=True)
class Encoder:
    """What writes a type, and why."""

    name: str
    """``numba`` for ours, or ``ggml``."""
    reason: str
    proved: bool
    """Whether its bytes are those of ggml on x86-64, as every other machine writes them."""


_chosen: dict[tuple[str, str], Encoder] = {}
"""By type and the weights' own: a numba function is compiled for each."""


def encoders() -> Mapping[str, Encoder]:
    """What has written each type in this process, ggml where it had to for some of the weights."""
    found: dict[str, Encoder] = {}
    for (type_name, _), encoder in list(_chosen.items()):  # a copy: other threads choose
        if type_name not in found or encoder.name == GGML:
            found[type_name] = encoder
    return found


def arguments(type_names: Collection[str]) -> Mapping[str, str]:
    """What the bytes of a file of these types depend on besides source and converter, for lineage; empty where they are
    those of every machine."""
    used = [encoder for type_name, encoder in encoders().items() if type_name in type_names]
    return {} if all(encoder.proved for encoder in used) else {"encoder": f"ggml on {platform.machine()}"}


def encode(values: Raw, tensor: Tensor, type_name: str) -> Encoded:
    """Encode flat weights of ``tensor`` (BF16, F16 or F32), whole blocks of ``type_name``.

    Raises:
        FormatError: a weight is too large for the type.
        BackendMissingError: numba or llama-cpp-python is not installed.
    """
    dtype = tensor.dtype
    if dtype == type_name:
        return Encoded(values.view(np.uint8), None, values.nbytes)
    source: Raw = values if dtype == "BF16" else to_float32(values, dtype)
    if type_name == "F32":
        return Encoded(to_float32(values, dtype).view(np.uint8), None, values.nbytes)  # widening is exact
    if type_name == "BF16":
        halves = to_bfloat16(to_float32(values, dtype))
        if not all_finite(halves, "BF16"):
            raise FormatError(f"tensor {tensor.name!r} holds a weight too large for BF16")
        data = halves.view(np.uint8)
    else:
        data = written(type_name, source)
        if type_name == "F16" and not all_finite(data.view(np.uint16), "F16"):
            raise FormatError(
                f"tensor {tensor.name!r} holds a weight too large for F16", hint="use gguf:BF16 or a quantized variant"
            )
    return Encoded(data, compare(source, _decoded(type_name, data, source.size)), values.nbytes)


def _decoded(type_name: str, data: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """What a reader makes of the bytes: ggml's own code says it, but of halves, whose meaning is fixed by IEEE 754 and
    which ggml widens one by one where it is built for any CPU."""
    if type_name == "BF16":
        return to_float32(data.view(np.uint16), "BF16")
    if type_name != "F16":
        return ggml.decode(type_name, data, count)
    weights = np.empty(count, np.float32)
    _kernels().decode_f16(data.view(np.uint16), weights)
    return weights


def written(type_name: str, source: Raw) -> NDArray[np.uint8]:
    """The bytes of ``source``, flat float32 or bfloat16 as uint16, in a type with an encoder; raises as ``encode``."""
    dtype = _dtype(source)
    encoder = _chosen.get((type_name, dtype)) or _choose(type_name, dtype)
    return _kernels().run(type_name, source) if encoder.name == OURS else _by_ggml(type_name, source)


def _choose(type_name: str, dtype: str) -> Encoder:
    """Try our encoder. Two threads may do so at once, and come to the same."""
    if encoder_identity.shown(type_name, dtype, _kernels().run):
        chosen = Encoder(OURS, "its bytes are ggml's", proved=True)
    else:
        reason = f"numba's code for this CPU ({platform.machine()}) writes other bytes than ggml"
        proved = encoder_identity.shown(type_name, dtype, _by_ggml)
        chosen = Encoder(GGML, reason if proved else f"{reason}, and ggml here others than on x86-64", proved)
    _chosen[type_name, dtype] = chosen
    return chosen


def _by_ggml(type_name: str, source: Raw) -> NDArray[np.uint8]:
    return ggml.quantize(type_name, np.ascontiguousarray(to_float32(source, _dtype(source))))


def _dtype(source: Raw) -> str:
    return "BF16" if source.dtype == np.uint16 else "F32"


class _Kernels:
    """The compiled encoders; importing them loads numba."""

    def __init__(self) -> None:
        with importing("GGUF", extra="gguf"):
            from citrate.formats.quantize import k_min, k_sym, simple
        self._min, self._sym, self._simple = k_min, k_sym, simple

    def decode_f16(self, halves: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
        """Widen finite halves."""
        self._simple.decode_f16(halves, out)

    def run(self, type_name: str, source: Raw) -> NDArray[np.uint8]:
        """Encode ``source``: flat float32, or bfloat16 as uint16."""
        _, block, size = TYPES[NUMBERS[type_name]]
        blocks, rest = divmod(source.size, block)
        if rest:
            raise FormatError(f"{source.size} weights are no whole number of {type_name} blocks")
        out = np.empty(blocks * size, np.uint8)
        if type_name == "F16":
            self._simple.encode_f16(source, out.view(np.uint16), 0, blocks)
        elif type_name == "Q8_0":
            self._simple.encode_q8_0(source, out, 0, blocks)
        elif type_name == "Q5_0":
            self._simple.encode_q5_0(source, out, 0, blocks)
        elif type_name == "Q5_1":
            self._simple.encode_q5_1(source, out, 0, blocks)
        elif type_name == "Q4_K":
            self._min.encode_k_min(source, out, 0, blocks, 15, np.float32(-1.0), 20, size)
        elif type_name == "Q5_K":
            self._min.encode_k_min(source, out, 0, blocks, 31, np.float32(-0.5), 15, size)
        elif type_name == "Q6_K":
            self._sym.encode_k_sym(source, out, 0, blocks, np.float32(-32), np.float32(31))
        else:
            raise FormatError(f"citrate has no encoder for {type_name}")
        return out


@cache
def _kernels() -> _Kernels:
    return _Kernels()
