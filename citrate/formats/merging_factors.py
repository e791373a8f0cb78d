"""The updates of one module by several adapters, combined into one: what PEFT's ``add_weighted_adapter`` does.

An update is ``scale * B @ A``. ``cat`` sums updates exactly, by putting the factors side by side. ``svd`` cuts that sum
to a rank. ``ties`` and ``dare`` work on the factors themselves, as PEFT's ``ties`` and ``dare_linear`` do: the product
of merged factors is no sum of updates, and far from it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import ConfigError
from citrate.formats import merging_kernels as kernels
from citrate.formats.adapter_updates import Update
from citrate.formats.dtypes import Raw
from citrate.formats.merging import How, Method

Floats = NDArray[np.float32]
_SUMMED_AT_ONCE = 192
"""Products that torch sums before it rounds to memory; so that sums round alike, ours are cut in the same places."""


@dataclass(frozen=True)
class Weighted:
    """A module's update by one adapter, and the weight that the adapter has."""

    update: Update
    weight: float
    place: int
    """Of the adapter among those that are merged."""


@dataclass(frozen=True)
class Factors:
    """``scale * b @ a`` is added to a matrix."""

    a: Floats
    """[rank, in]."""
    b: Floats
    """[out, rank]."""
    scale: float


def combined(parts: Sequence[Weighted], how: How, adapters: int) -> Factors:
    """One update of a module from those that ``parts`` are.

    Args:
        parts: at least one.
        how: the method and its settings.
        adapters: how many are merged; of these ``parts`` are those that update the module.

    Raises:
        FormatError: a weight is NaN or infinite.
        ConfigError: ``ties`` or ``dare`` of different ranks.
    """
    if how.method is Method.SVD:
        rank = how.rank or max(part.update.rank for part in parts)
        return _cut(_side_by_side(parts), rank)
    if how.method in (Method.TIES, Method.DARE):
        return _pruned(parts, how)
    if adapters == 1:
        a, b = parts[0].update.factors()
        return Factors(a.wide, b.wide, parts[0].update.scale * parts[0].weight)
    return _side_by_side(parts)


def product(left: Floats, right: Floats, scale: float) -> Floats:
    """``scale * left @ right``, rounded as torch does on x86-64: bit for bit up to a rank of 192, and wherever its
    library cuts longer sums as it did when this was measured (torch 2.15, MKL)."""
    total = np.empty((left.shape[0], right.shape[1]), np.float32)
    at_once = _summed_at_once(left.shape[1])
    kernels.product(np.ascontiguousarray(left), np.ascontiguousarray(right), np.float32(scale), at_once, total)
    return total


def updated(left: Floats, right: Floats, scale: float, base: Raw) -> tuple[Raw, bool]:
    """``base``, flat bits of bfloat16 or float32, with that product added, rounded once; and whether all is finite."""
    out = np.empty((left.shape[0], right.shape[1]), base.dtype)
    factors, at_once = (np.ascontiguousarray(left), np.ascontiguousarray(right)), _summed_at_once(left.shape[1])
    finite = kernels.updated(*factors, np.float32(scale), at_once, base.reshape(out.shape), out)
    return out.reshape(-1), finite


def _summed_at_once(rank: int) -> int:
    return _SUMMED_AT_ONCE if rank <= _SUMMED_AT_ONCE or rank >= 2 * _SUMMED_AT_ONCE else rank // 2


def _side_by_side(parts: Sequence[Weighted]) -> Factors:
    a, b = [], []
    for part in parts:
        first, second = part.update.factors()
        a.append(first.wide * np.float32(part.weight) * np.float32(part.update.scale))
        b.append(second.wide)
    return Factors(np.concatenate(a), np.concatenate(b, axis=1), 1.0)


def _cut(whole: Factors, rank: int) -> Factors:
    """The best approximation of ``whole`` by ``rank``, from the decompositions of its factors: nothing of the matrix's
    own size is decomposed."""
    outer, inner_b = np.linalg.qr(whole.b.astype(np.float64))
    other, inner_a = np.linalg.qr(whole.a.astype(np.float64).T)
    u, s, vh = np.linalg.svd(inner_b @ inner_a.T)
    kept = min(rank, s.size)
    b = outer @ (u[:, :kept] * s[:kept])
    a = vh[:kept] @ other.T
    return Factors(np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), whole.scale)


def _pruned(parts: Sequence[Weighted], how: How) -> Factors:
    ranks = sorted({part.update.rank for part in parts})
    if len(ranks) > 1:
        raise ConfigError(
            f"the adapters have the ranks {' and '.join(map(str, ranks))} in {parts[0].update.module}: {how.method}"
            " merges factors of one rank",
            hint="--method cat or --method svd",
        )
    weights = [part.weight * part.update.scale for part in parts]
    roots = [math.sqrt(abs(weight)) for weight in weights]
    signed = [math.copysign(root, weight) for root, weight in zip(roots, weights, strict=True)]
    factors = [part.update.factors() for part in parts]
    a = _mixed([pair[0].wide for pair in factors], signed, parts, how, "A")
    b = _mixed([pair[1].wide for pair in factors], roots, parts, how, "B")
    return Factors(a, b, 1.0)


def _mixed(
    values: Sequence[Floats], weights: Sequence[float], parts: Sequence[Weighted], how: How, side: str
) -> Floats:
    """One factor from the same one of several adapters."""
    scales = [np.float32(weight) for weight in weights]
    total: Floats = np.zeros(values[0].shape, np.float32)
    if how.method is Method.DARE:
        kept = [_dropped(each, part, how, side) for each, part in zip(values, parts, strict=True)]
        for each, scale in zip(kept, scales, strict=True):
            total += each * scale
        return total
    trimmed = [_trimmed(each, how.density) for each in values]
    elected = np.where(sum(trimmed[1:], trimmed[0].copy()) >= 0, np.float32(1), np.float32(-1))
    count: Floats = np.zeros(values[0].shape, np.float32)
    for each, scale in zip(trimmed, scales, strict=True):
        agrees = np.sign(each) == elected
        total += each * scale * agrees
        count += agrees
    total /= np.maximum(count, np.float32(1))
    return total


def _trimmed(values: Floats, density: float) -> Floats:
    """``values`` without all but the largest: what equals the smallest that is kept is kept, too."""
    sizes = np.abs(values)
    kept = int(density * sizes.size)
    if not kept:
        return np.zeros_like(values)
    least = np.float32(np.partition(sizes.reshape(-1), sizes.size - kept)[sizes.size - kept])
    return values * (sizes >= least)


def _dropped(values: Floats, part: Weighted, how: How, side: str) -> Floats:
    """``values`` of which each was kept with the chance ``density``, rescaled. The draw depends on the seed, the
    module, the factor and the adapter's place alone, so that neither threads nor other tensors change it."""
    named = f"{how.seed} {part.place} {side} {part.update.module}"
    stream = np.random.Philox(key=int.from_bytes(hashlib.sha256(named.encode()).digest()[:16], "little"))
    drawn = stream.random_raw(values.size) >> np.uint64(11)  # 53 bits, as a double is drawn
    kept = drawn < np.uint64(math.ceil(how.density * (1 << 53)))
    rescaled: Floats = values * kept.reshape(values.shape) / np.float32(how.density)
    return rescaled
