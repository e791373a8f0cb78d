"""Whether the machine code that numba made for this CPU writes ggml's bytes: tried on fixed weights before it is used.

The weights are those that quantizers differ on: constant and nearly constant blocks, denormals, ties, zeros of both
signs, one sign, spikes, magnitudes far apart. What ``ggml_quantize_chunk`` makes of them on x86-64 stands here, hashed
(a test holds it against the library): no machine needs ggml to be judged, and an upgrade of ggml changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from citrate.formats.dtypes import Raw

U = np.uint32
_MINUS, _FRACTION = U(1 << 31), U(0x807F_FFFF)
_ROW = 32
_ROWS = 8 * 27
"""Super-blocks of 256: three tiles of the K-quants, and one that is not full."""
_SEED = b"citrate: weights on which encoders are tried, 1"

REFERENCE: Mapping[tuple[str, str], str] = {
    # type, and that of the weights: SHA-256 of what ggml_quantize_chunk writes for `weights(dtype)`
    ("F16", "F32"): "165d40408e8a0f6453a6a6887a06f5e1a9d009a8fe07355bd2bababf2529d5eb",
    ("F16", "BF16"): "f5de06fcb4d4344732cb7274a8508fabc8c1dbbc8dc41bc9bc4dfc618bf1d21e",
    ("Q8_0", "F32"): "23d5acceb2038355bf0b51c81521b0445a358ca8a5dd163be0dd76c0a5f3d305",
    ("Q8_0", "BF16"): "18af9a4af4a21d35a205097349fbea080225f01ddc4666c7f5c3be97f9be1e9b",
    ("Q5_0", "F32"): "b13c055cbc594a12697e06bc4972812c7ef05609c1917d8c87924ab6ac50ecfd",
    ("Q5_0", "BF16"): "dc00b89b22a5f33ba33db3606827d35d51cdb29391966568a4e662bee04f0e46",
    ("Q5_1", "F32"): "9b0d136082a0daec95406469d1e8dc59d991dab383d7172db0c5041fca01a089",
    ("Q5_1", "BF16"): "a04ecd4d6fc2bca2b7c5e67114d22b2032031ef9ca1d96b64067a6b3fd6414ea",
    ("Q4_K", "F32"): "96f6cf59b796f3fbe658a65b751d214d2bb87afdb85ee291492505c02580c12b",
    ("Q4_K", "BF16"): "420e7cfe2524260438a23e81eb24437233c3dee80c0b35a6a9589c9ae8bd6d41",
    ("Q5_K", "F32"): "4e95d0eacf7d9d9a185c120a7de0b4be3ce17dbc3b172f58a2b8ed70755cadf2",
    ("Q5_K", "BF16"): "679a4f58a3b1626ffdd55b0de76ed9f712e6fa78840e9432b554050d855fc8ce",
    ("Q6_K", "F32"): "f29819f2f03a7734e8c490126bfa3178399a58b77d3a1448613207fab58332f4",
    ("Q6_K", "BF16"): "abe2bd8f8a9ab11a33637f0d60588620cd5ddf79c39cd3688ee4de9db40d3584",
}


def shown(type_name: str, dtype: str, encode: Callable[[str, Raw], NDArray[np.uint8]]) -> bool:
    """Whether ``encode`` writes ggml's bytes of ``type_name`` for weights that are ``dtype``, F32 or BF16."""
    made = encode(type_name, weights(dtype))
    return hashlib.sha256(made.tobytes()).hexdigest() == REFERENCE.get((type_name, dtype))


def weights(dtype: str) -> Raw:
    """The fixed weights: flat float32, or bfloat16 as uint16. The same bits everywhere, without a random generator."""
    bits = np.frombuffer(hashlib.shake_256(_SEED).digest(_ROWS * (_ROW + 1) * 4), "<u4").reshape(_ROWS, _ROW + 1)
    own, drawn = bits[:, :1], bits[:, 1:]
    made = np.empty((_ROWS, _ROW), np.uint32)
    kinds = _kinds(own, drawn)
    for kind, rows in enumerate(kinds):
        made[kind :: len(kinds)] = rows[kind :: len(kinds)]
    flat = np.ascontiguousarray(made).reshape(-1)
    return (flat >> 16).astype(np.uint16) if dtype == "BF16" else flat.view(np.float32)


def _kinds(own: NDArray[np.uint32], drawn: NDArray[np.uint32]) -> list[NDArray[np.uint32]]:
    """Rows of each kind, as the bits of float32; ``own``: a number a row, ``drawn``: one a weight."""
    high = drawn >> U(8)
    usual = _floats(drawn, U(119) + high % U(8))
    near = (own & U(0x807F_FFF0)) | U(127 << 23) | (drawn & U(15))
    spikes = np.where(drawn % U(_ROW) == 0, U(136), U(118))
    return [
        usual,
        _floats(drawn, U(100) + own % U(64) + high % U(4)),  # small or large, from row to row
        _floats(drawn, U(60) + high % U(100)),  # far apart in one row
        np.broadcast_to(_floats(own, U(120) + own % U(8)), drawn.shape),
        near,
        near | _MINUS,
        usual & ~_MINUS,
        np.where((drawn >> U(24)) % U(10) == 0, usual, U(0)),
        drawn & _FRACTION,  # denormals
        np.where(drawn & U(1) == 1, _MINUS, U(0)),
        _quarters(drawn),
        _floats(drawn, spikes),
    ]


def _floats(bits: NDArray[np.uint32], exponent: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sign and mantissa of ``bits``, with a biased exponent."""
    return (bits & _FRACTION) | (exponent << U(23))


def _quarters(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Multiples of 1/4 within 16, so that codes lie half-way between integers."""
    return ((bits % U(129)).astype(np.float32) / np.float32(4) - np.float32(16)).view(np.uint32)
