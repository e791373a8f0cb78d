"""Merkle trees as RFC 6962 (section 2.1) defines them: one root for many leaves, and a short proof for each of them.

A leaf is hashed behind a zero byte and a node behind a one, so that no node can pass for a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256().digest()
"""The root of a tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of one leaf, 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Growing:
    """A tree to which leaves are added; it holds one hash a level, however many they are."""

    def __init__(self) -> None:
        self._count = 0
        self._whole: list[bytes] = []
        """Roots of the full subtrees so far, the largest first; their sizes are the bits of the count."""

    def __len__(self) -> int:
        return self._count

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        found, bits = leaf_hash(leaf), self._count
        while bits & 1:
            found, bits = node_hash(self._whole.pop(), found), bits >> 1
        self._whole.append(found)
        self._count += 1

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self._whole:
            return EMPTY_ROOT
        *left, found = self._whole
        for subtree in reversed(left):
            found = node_hash(subtree, found)
        return found


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves."""
    tree = Growing()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def path(hashes: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """The proof that a leaf stands at ``place``: the subtrees beside its way to the root, nearest first.

    Args:
        hashes: ``leaf_hash`` of every leaf.
        place: which leaf, from 0.
    """
    if not 0 <= place < len(hashes):
        raise IndexError(place)
    beside: list[bytes] = []
    begin, end = 0, len(hashes)
    while end - begin > 1:
        middle = begin + _left_size(end - begin)
        if place < middle:
            beside.append(_root_of(hashes[middle:end]))
            end = middle
        else:
            beside.append(_root_of(hashes[begin:middle]))
            begin = middle
    return tuple(reversed(beside))


def leads_to(found: bytes, place: int, count: int, beside: Sequence[bytes]) -> bytes | None:
    """The root that a proof leads to, or None if it has not the length that a proof for that place has.

    Args:
        found: ``leaf_hash`` of the leaf.
        place: where it is said to stand, from 0.
        count: how many leaves the tree has.
        beside: the proof.
    """
    if not 0 <= place < count:
        return None
    turns: list[bool] = []
    begin, end = 0, count
    while end - begin > 1:
        middle = begin + _left_size(end - begin)
        turns.append(place < middle)
        begin, end = (begin, middle) if place < middle else (middle, end)
    if len(turns) != len(beside):
        return None
    for is_left, other in zip(reversed(turns), beside, strict=True):
        found = node_hash(found, other) if is_left else node_hash(other, found)
    return found


def _left_size(count: int) -> int:
    """How many of ``count`` > 1 leaves the left subtree has: the largest power of two below it."""
    return 1 << ((count - 1).bit_length() - 1)


def _root_of(hashes: Sequence[bytes]) -> bytes:
    level = list(hashes)
    while len(level) > 1:
        paired = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]  # one without a partner moves up as it is: RFC 6962's split
    return level[0]
