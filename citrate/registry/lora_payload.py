"""The packed bytes that LoRARegistry takes, and the records it keeps of them.

The layouts are stated in ``contracts/interfaces/ILoRARegistry.sol``. Every limit of the contract is checked here first,
so that a creator learns of it before a transaction costs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from citrate.core.adapters import (
    ADAPTER_MAX_BYTES,
    PARENTS_MAX,
    RANK_MAX,
    WHOLE_BASIS_POINTS,
    Lora,
    Parent,
    Training,
)
from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import LATEST, NAME_PATTERN, VERSION_PATTERN
from citrate.registry.packing import Reader, digest, require, require_licence, split_cid, text

MODULES = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens",
    "lm_head", "qkv_proj", "gate_up_proj", "query", "key", "value", "dense", "fc1",
)  # fmt: skip
"""The modules that have a bit; others are spelled out."""

_MODULE = re.compile(r"[!-+\--~]{1,64}")
"""Printable ASCII without space and comma."""
_OTHERS_MAX = 255
_WORD32 = (1 << 32) - 1
_NOT_TOLD, _TOLD, _BY_RUN = 0, 1, 2
_LORA, _MERGE = 1, 2
_NOTHING = bytes(32)


@dataclass(frozen=True)
class StoredLora:
    """A LoRA's record as it stands in the code of its account: without the base's digest, and what a run says."""

    created_at: int
    previous: str
    """The registry's record before this one; the zero address in the first."""
    creator: str
    lora: Lora


@dataclass(frozen=True)
class StoredMerge:
    """A merge's record as it stands in the code of its account."""

    created_at: int
    previous: str
    creator: str
    result: str
    base: str
    parents: tuple[Parent, ...]


def encode_lora(lora: Lora) -> bytes:
    """The packed LoRA.

    Raises:
        ConfigError: something that the contract would refuse.
    """
    require(NAME_PATTERN, lora.name, "name")
    require(VERSION_PATTERN, lora.version, "version")
    if lora.version == LATEST:
        raise ConfigError(f"{LATEST!r} cannot name a version", hint="it always names the newest one")
    require_licence(lora.licence)
    _require_between("size in bytes", lora.size_bytes, 1, ADAPTER_MAX_BYTES)
    _require_between("rank", lora.rank, 1, RANK_MAX)
    _require_between("alpha in thousandths", lora.alpha_thousandths, 1, _WORD32)
    _require_between("number of steps", lora.steps, 0, _WORD32)
    codec, where = split_cid(lora.cid, "the adapter")
    bits, others = split_modules(lora.target_modules)
    return (
        digest(lora.base_sha256, "base")
        + bytes.fromhex(lora.base[2:])
        + text(lora.name)
        + text(lora.version)
        + text(lora.licence)
        + bytes([codec])
        + lora.size_bytes.to_bytes(4, "big")
        + where
        + digest(lora.sha256, "adapter")
        + lora.rank.to_bytes(2, "big")
        + lora.alpha_thousandths.to_bytes(4, "big")
        + bits.to_bytes(2, "big")
        + text(others)
        + lora.steps.to_bytes(4, "big")
        + _encode_training(lora.training)
    )


def encode_parents(parents: Iterable[Parent]) -> bytes:
    """The packed parents of a merge, sorted.

    Raises:
        ConfigError: something that the contract would refuse.
    """
    ordered = sorted(parents, key=lambda parent: bytes.fromhex(parent.lora_id[2:]))
    if not 1 <= len(ordered) <= PARENTS_MAX:
        raise ConfigError(
            f"a merge has 1 to {PARENTS_MAX} parents, not {len(ordered)}", hint="name REF=WEIGHT for each"
        )
    if len({parent.lora_id for parent in ordered}) != len(ordered):
        raise ConfigError("a parent is there twice", hint="name each adapter once, with its whole weight")
    if any(parent.basis_points < 1 for parent in ordered) or sum(p.basis_points for p in ordered) != WHOLE_BASIS_POINTS:
        total = sum(parent.basis_points for parent in ordered)
        raise ConfigError(
            f"the weights add up to {total / 100:g} %, or one of them is zero", hint="they must add up to 100 %"
        )
    return b"".join(bytes.fromhex(parent.lora_id[2:]) + parent.basis_points.to_bytes(2, "big") for parent in ordered)


def split_modules(modules: Iterable[str]) -> tuple[int, str]:
    """The bits of the modules that have one, and the others in byte order with commas between them.

    Raises:
        ConfigError: none, or a name that cannot stand on chain.
    """
    named = set(modules)
    for module in named:
        if not _MODULE.fullmatch(module):
            raise ConfigError(f"{module!r} cannot be a target module on chain", hint="1 to 64 plain characters")
    others = ",".join(sorted(named - set(MODULES)))
    if not named or len(others) > _OTHERS_MAX:
        raise ConfigError(
            "a LoRA has no target module, or too many of unusual names", hint=f"their names: {_OTHERS_MAX} characters"
        )
    return sum(1 << place for place, module in enumerate(MODULES) if module in named), others


def join_modules(bits: int, others: str) -> tuple[str, ...]:
    """The names of target modules: those with a bit in its order, then the others."""
    known = tuple(module for place, module in enumerate(MODULES) if bits >> place & 1)
    return (*known, *filter(None, others.split(",")))


def decode_lora(packed: bytes) -> Lora:
    """Read a packed LoRA, which may be hostile.

    Raises:
        FormatError: it is none of this layout.
    """
    read = Reader(packed)
    base_sha256 = read.take(32).hex()
    lora = _read_lora(read, base_sha256)
    if not read.done:
        raise FormatError("not a packed LoRA: it goes on after its end")
    return lora


def decode_record(code: bytes) -> StoredLora | StoredMerge:
    """Read a record from its account's code, which may be hostile.

    Raises:
        FormatError: it is no record of this layout.
    """
    read = Reader(code)
    if read.take(1) != b"\0":
        raise FormatError("not a record: it does not begin with STOP")
    kind = read.number(1)
    if kind not in (_LORA, _MERGE):
        raise FormatError(f"not a record: unknown kind {kind}")
    created_at, previous, creator = read.number(5), read.address(), read.address()
    if kind == _LORA:
        stored: StoredLora | StoredMerge = StoredLora(created_at, previous, creator, _read_lora(read, ""))
    else:
        result, base = read.word(), read.word()
        parents = []
        while not read.done:
            parents.append(Parent(read.word(), read.number(2)))
        stored = StoredMerge(created_at, previous, creator, result, base, tuple(parents))
    if not read.done:
        raise FormatError("not a record: it goes on after its end")
    return stored


def _encode_training(training: Training) -> bytes:
    hashes = (training.dataset, training.recipe, training.proof_root)
    if training.run_id:
        if any(hashes):
            raise ConfigError(
                "a run of the ledger says how the adapter was trained; hashes beside it say it twice",
                hint="give --run, or --dataset and --recipe",
            )
        if training.run_id >= 1 << 64:
            raise ConfigError(f"there is no run {training.run_id}", hint="citrate ledger list")
        return bytes([_BY_RUN]) + training.run_id.to_bytes(8, "big")
    if not any(hashes):
        return bytes([_NOT_TOLD])
    proof = digest(training.proof_root, "proof") if training.proof_root else _NOTHING
    return bytes([_TOLD]) + digest(training.dataset, "dataset") + digest(training.recipe, "recipe") + proof


def _read_lora(read: Reader, base_sha256: str) -> Lora:
    base, name, version, licence = read.word(), read.text(), read.text(), read.text()
    codec, size_bytes = read.number(1), read.number(4)
    where, sha256 = read.cid(codec, read.take(32)), read.take(32).hex()
    rank, alpha, bits, others, steps = (read.number(2), read.number(4), read.number(2), read.text(), read.number(4))
    return Lora(
        name=name,
        version=version,
        licence=licence,
        base=base,
        base_sha256=base_sha256,
        cid=where,
        sha256=sha256,
        size_bytes=size_bytes,
        rank=rank,
        alpha_thousandths=alpha,
        target_modules=join_modules(bits, others),
        steps=steps,
        training=_read_training(read),
    )


def _read_training(read: Reader) -> Training:
    kind = read.number(1)
    if kind == _NOT_TOLD:
        return Training()
    if kind == _BY_RUN:
        return Training(run_id=read.number(8))
    if kind != _TOLD:
        raise FormatError(f"not a record: unknown training {kind}")
    dataset, recipe, proof = (read.take(32) for _ in range(3))
    return Training(dataset.hex(), recipe.hex(), "" if proof == _NOTHING else proof.hex())


def _require_between(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise ConfigError(f"a LoRA cannot have a {what} of {number:,}", hint=f"it is {least:,} to {most:,}")
