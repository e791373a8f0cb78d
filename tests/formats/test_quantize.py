"""The numba encoders write ggml's and MLX's bytes, on ordinary and on hostile weights, and are vectorised."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numba
import numpy as np
import pytest
from ggml_oracle import quantize_chunk
from numpy.typing import NDArray

from citrate.formats import mlx_affine
from citrate.formats.dtypes import to_bfloat16, to_float32
from citrate.formats.encoding import encode
from citrate.formats.gguf_file import NUMBERS, TYPES
from citrate.formats.mlx_affine import Affine
from citrate.formats.quantize.jit import _cache_folder
from citrate.formats.safetensors_file import Tensor

KINDS = ["F16", "Q8_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]


def hostile(seed: int, rows: int = 1024) -> NDArray[np.float32]:
    """Sub-blocks of 32 that break quantizers: constant, nearly constant, sparse, denormal, ties, huge, one sign."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 32)).astype(np.float32)
    scale = np.exp2(random.uniform(-150, 30, (rows, 1))).astype(np.float32)
    kind = random.integers(0, 12, rows)
    near = (1 + x * np.exp2(random.uniform(-26, -8, (rows, 1)))).astype(np.float32)
    shapes = [
        x * scale,
        np.broadcast_to(x[:, :1], x.shape),
        x[:, :1] * near,
        -np.abs(x[:, :1] * (1 + x * np.float32(1e-7))),
        np.abs(x),
        np.where(random.random(x.shape) < 0.9, 0, x * scale),
        x * np.float32(1e-40),
        np.full_like(x, -0.0),
        np.round(x * 4) / 4,
        np.broadcast_to(x[:, :1] * scale, x.shape),
        -np.abs(x[:, :1] * scale) * (1 + np.abs(x) * np.float32(1e-6)),
        x,
    ]
    for number, values in enumerate(shapes):
        x[kind == number] = values[kind == number]
    factor = np.array([1e-9, 1e4, 1, 1, 1, 1, 1, 1], np.float32)[random.integers(0, 8, rows // 8)].repeat(8)
    return np.ascontiguousarray((x * factor[:, None]).astype(np.float32).ravel())


def codes(type_name: str, values: NDArray[np.generic], dtype: str) -> NDArray[np.uint8]:
    from citrate.formats.encoding import _kernels

    return _kernels().run(type_name, values)


@pytest.mark.parametrize("type_name", KINDS)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_encoders_write_the_bytes_of_ggml_on_hostile_weights(type_name: str, dtype: str) -> None:
    _, _, size = TYPES[NUMBERS[type_name]]
    for seed in range(12):
        weights = hostile(seed)
        source = to_bfloat16(weights) if dtype == "BF16" else weights
        ours = codes(type_name, source, dtype)
        theirs = quantize_chunk(type_name, np.ascontiguousarray(to_float32(source, dtype)))
        wrong = (ours.reshape(-1, size) != theirs.reshape(-1, size)).any(axis=1)
        assert not wrong.any(), f"seed {seed}: {wrong.sum()} of {wrong.size} blocks differ"


@pytest.mark.parametrize("type_name", KINDS)
def test_a_tile_that_is_not_full_gives_the_same_bytes(type_name: str) -> None:
    weights = hostile(99, rows=8 * 11)  # eleven super-blocks: one tile and three
    whole = codes(type_name, weights, "F32")
    _, block, size = TYPES[NUMBERS[type_name]]
    parts = [codes(type_name, weights[i : i + 256], "F32") for i in range(0, weights.size, 256)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.size == weights.size // block * size


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_affine_groups_are_those_of_mlx(bits: int, group: int) -> None:
    import mlx.core as mx

    for seed in range(6):
        weights = hostile(seed, rows=512)
        weights[~np.isfinite(weights) | (np.abs(weights) > 1e30)] = 0
        rows = mx.array(weights.reshape(-1, group))
        wanted = [np.array(part) for part in mx.quantize(rows, group_size=group, bits=bits)]
        made = mlx_affine.encode(weights, "F32", Affine(bits, group))
        for ours, theirs in zip((made.codes, made.scales, made.biases), wanted, strict=True):
            assert np.array_equal(ours, theirs.ravel())
        assert np.array_equal(
            made.decoded, mlx_affine.decode(*(made.codes, made.scales, made.biases), "F32", Affine(bits, group))
        )


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_groups_of_every_width_are_decoded_as_mlx_decodes_them(bits: int, dtype: str) -> None:
    import mlx.core as mx

    kind = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[dtype]
    weights = mx.array(np.random.default_rng(bits).standard_normal((48, 256)).astype(np.float32)).astype(kind)
    for group in (32, 64, 128):
        parts = mx.quantize(weights, group_size=group, bits=bits)
        wanted = mx.dequantize(*parts, group_size=group, bits=bits).view(mx.uint32 if dtype == "F32" else mx.uint16)
        codes, *ends = (np.array(part.view(mx.uint32 if part.itemsize == 4 else mx.uint16)) for part in parts)
        raw = [end.ravel().view(np.float32) if dtype == "F32" else end.ravel() for end in ends]
        found = mlx_affine.decode(codes.ravel(), *raw, dtype, Affine(bits, group))
        assert np.array_equal(found.view(np.array(wanted).dtype), np.array(wanted).ravel())


def test_a_weight_too_large_for_half_precision_is_refused() -> None:
    from citrate.core.errors import FormatError

    weights = np.full(256, 70000.0, np.float32)
    with pytest.raises(FormatError, match="tensor 'w' holds a weight too large for F16"):
        encode(weights, Tensor("w", "F32", (256,), Path(), 0, 1024), "F16")


PACKED = re.compile(r"v?(mul|add|max|min)ps\s.*[xyz]mm|f(mul|add)\s+v\d+\.4s|v?p(add|srl|sra)d\s.*[yz]mm")


@pytest.mark.parametrize(
    ("module", "entry"), [("k_min", "encode_k_min"), ("k_sym", "encode_k_sym"), ("simple", "encode_f16")]
)
def test_kernels_are_vectorised(module: str, entry: str) -> None:
    """Packed instructions do the work, and none that rounds once where C rounds twice."""
    cached = getattr(importlib.import_module(f"citrate.formats.quantize.{module}"), entry)
    fresh = numba.njit(nogil=True, error_model="numpy", fastmath=False)(
        cached.py_func
    )  # a cached one keeps no assembly
    source, out = np.ones(2048, np.float32), np.zeros(8192, np.uint8)
    if entry == "encode_k_min":
        fresh(source, out, 0, 8, 15, np.float32(-1), 20, 144)
    elif entry == "encode_k_sym":
        fresh(source, out, 0, 8, np.float32(-32), np.float32(31))
    else:
        fresh(source, out.view(np.uint16), 0, 2048)
    (assembly,) = fresh.inspect_asm().values()
    assert len(PACKED.findall(assembly)) >= 4, "the kernel fell back to scalar code"
    assert "fmadd" not in assembly
    assert "fmla" not in assembly


def test_machine_code_is_kept_outside_the_package() -> None:
    import citrate.formats.quantize as package

    folder = _cache_folder()
    assert folder
    assert not folder.startswith(str(package.__path__[0]))
