"""How much one model's outputs differ from another's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 16


def mean_divergence(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean over positions of the Kullback-Leibler divergence KL(reference || other), in nats.

    Args:
        reference: logits, positions x vocabulary.
        other: logits of the same shape.
    """
    if reference.shape != other.shape or not len(reference):
        return float("nan")
    mean = float(divergences(reference, other).mean())
    return max(0.0, mean) if np.isfinite(mean) else float("nan")


def divergences(reference: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(reference || other) at each position, in nats; rounding may leave it a hair below zero.

    Args:
        reference: logits, positions x vocabulary.
        other: logits of the same shape.
    """
    found = np.empty(len(reference))
    for first in range(0, len(reference), _ROWS):  # float64 for a few rows at a time
        p = _log_softmax(reference[first : first + _ROWS])
        q = _log_softmax(other[first : first + _ROWS])
        found[first : first + _ROWS] = (np.exp(p) * (p - q)).sum(axis=1)
    return found


def farthest(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest cosine distance (1 - cosine) between vectors of the same text.

    Args:
        reference: vectors, texts x hidden size.
        other: vectors of the same shape.
    """
    if reference.shape != other.shape:
        return float("nan")
    a, b = reference.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.where(norms > 0, norms, np.nan)
    return max(0.0, float((1 - cosines).max()))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logarithm of each row's probabilities."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    shifted: NDArray[np.float64] = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return shifted
