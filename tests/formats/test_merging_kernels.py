"""The kernels of merging: the values of plain numpy, in bfloat16 and float32, of any length, in packed instructions."""

from __future__ import annotations

import re
from collections.abc import Callable

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from citrate.formats import merging_kernels as kernels
from citrate.formats.dtypes import Raw, to_bfloat16, to_float32

Floats = NDArray[np.float32]
SIZES = (1, 63, 64, 65, 4095, 4096, 4097, 8192 + 64 + 3)


def weights(seed: int, size: int, dtype: str) -> Raw:
    values = np.random.default_rng(seed).standard_normal(size, np.float32)
    return to_bfloat16(values) if dtype == "BF16" else values


def rounded(values: Floats, dtype: str) -> Raw:
    return to_bfloat16(values) if dtype == "BF16" else values


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("size", SIZES)
def test_the_values_are_those_of_plain_arithmetic(dtype: str, size: int) -> None:
    first, second, third = (weights(seed, size, dtype) for seed in range(3))
    a, b, c = (to_float32(each, dtype) for each in (first, second, third))
    sums, out = np.zeros(3), np.empty_like(first)
    kernels.products(first, second, sums)
    assert np.allclose(sums, [(a.astype(float) ** 2).sum(), (b.astype(float) ** 2).sum(), (a.astype(float) @ b)])

    near, far = np.float32(0.3), np.float32(0.8)
    kernels.mixed(first, second, near, far, out)
    assert np.array_equal(out, rounded(near * a + far * b, dtype))

    sizes, room = np.abs(b - a), np.empty(size, np.float32)
    low, high = np.float32(0.5), np.float32(1.5)
    above, found = kernels.sizes_within(first, second, low, high, room)
    assert above == np.count_nonzero(sizes > high)
    assert np.array_equal(room[:found], sizes[(sizes >= low) & (sizes <= high)])

    least, shares = np.array([0.5, 0.7], np.float32), np.array([0.6, 0.4], np.float32)
    kernels.elected(first, np.stack([second, third]), least, shares, out)
    moved = [np.where(np.abs(x - a) >= m, w * (x - a), 0) for x, m, w in zip((b, c), least, shares, strict=True)]
    vote = np.where(moved[0] + moved[1] >= 0, 1, -1)
    agree = [each * vote > 0 for each in moved]
    divisor = sum(np.where(yes, w, np.float32(0)) for yes, w in zip(agree, shares, strict=True))
    total = sum(np.where(yes, each, np.float32(0)) for yes, each in zip(agree, moved, strict=True))
    mean = total / np.where(divisor == 0, np.float32(1), divisor)
    assert np.array_equal(out, rounded((a + mean).astype(np.float32), dtype))


@pytest.mark.parametrize(("rows", "rank", "columns"), [(1, 1, 1), (3, 8, 511), (4, 16, 513), (6, 201, 1024), (9, 6, 7)])
def test_products_are_summed_in_order_and_rounded_at_each_step(rows: int, rank: int, columns: int) -> None:
    random = np.random.default_rng(5)
    left = random.standard_normal((rows, rank), np.float32)
    right = random.standard_normal((rank, columns), np.float32)
    out = np.empty((rows, columns), np.float32)
    kernels.product(left, right, np.float32(0.5), 192, out)
    wanted = np.zeros(out.shape, np.float32)
    for first in range(0, rank, 192):
        part = np.zeros(out.shape, np.float32)
        for k in range(first, min(rank, first + 192)):  # float64 holds a product of float32 exactly, and nearly the sum
            part = (np.outer(left[:, k].astype(float), right[k]) + part).astype(np.float32)
        wanted += part
    assert np.count_nonzero(out != wanted * np.float32(0.5)) <= out.size // 1000


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_an_updated_matrix_is_its_product_added(dtype: type[np.generic]) -> None:
    random = np.random.default_rng(6)
    left, right = random.standard_normal((7, 5), np.float32), random.standard_normal((5, 700), np.float32)
    base = random.standard_normal((7, 700), np.float32).view(dtype)[:, -700:].copy()
    update, wanted, out = np.empty((7, 700), np.float32), np.empty_like(base), np.empty_like(base)
    kernels.product(left, right, np.float32(2), 192, update)
    kernels.added(update.reshape(-1), base.reshape(-1), wanted.reshape(-1))
    kernels.updated(left, right, np.float32(2), 192, base, out)
    assert np.array_equal(out.view(np.uint8), wanted.view(np.uint8))


CASES: list[tuple[Callable[..., object], tuple[object, ...]]] = [
    (kernels.products, (np.ones(256, np.uint16), np.ones(256, np.uint16), np.zeros(3))),
    (kernels.mixed, (*[np.ones(256, np.uint16)] * 2, np.float32(1), np.float32(1), np.ones(256, np.uint16))),
    (kernels.sizes_within, (*[np.ones(256, np.uint16)] * 2, np.float32(1), np.float32(2), np.ones(256, np.float32))),
    (kernels.product, (np.ones((2, 8), np.float32), np.ones((8, 256), np.float32), np.float32(1), 192,
                       np.ones((2, 256), np.float32))),
    (kernels.updated, (np.ones((2, 8), np.float32), np.ones((8, 256), np.float32), np.float32(1), 192,
                       *[np.ones((2, 256), np.uint16)] * 2)),
    (kernels.added, (np.ones(256, np.float32), *[np.ones(256, np.uint16)] * 2)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "arguments"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_kernels_are_vectorised(kernel: Callable[..., object], arguments: tuple[object, ...]) -> None:
    fresh = numba.njit(nogil=True, error_model="numpy", fastmath=False)(kernel.py_func)  # type: ignore[attr-defined]
    fresh(*arguments)  # a cached one keeps no assembly
    (assembly,) = fresh.inspect_asm().values()
    packed = re.findall(r"v?(?:mul|add|sub)ps\s.*[xyz]mm|vfmadd\d+ps|f(?:mul|add|sub|mla)\s+v\d+\.4s", assembly)
    assert len(packed) >= 2, "the kernel fell back to scalar code"
