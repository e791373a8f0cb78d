"""The nouns of citrate, as frozen dataclasses. Read this file first.

Hashes are lower-case hex without ``0x``; ids, addresses and transaction hashes are lower-case or checksummed hex
with ``0x``, as the chain's tools print them. Sizes are bytes, prices wei.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from citrate.core.errors import ConfigError, NotFoundError
from citrate.core.spelling import meant

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION_PATTERN = re.compile(r"[a-z0-9][a-z0-9._+-]{0,31}")
ALIAS_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
ADDRESS_PATTERN = re.compile(r"0x[0-9a-fA-F]{40}")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
_VARIANT_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,14}")

LATEST = "latest"
"""The computed alias: the newest release that is not deprecated."""

PROFILE = "unixfs-v1-2025"
"""How files become blocks unless another way is asked for: leaves of 1 MiB (``citrate.registry.dag``)."""
TENSOR_PROFILE: Final = "citrate-tensor-v1"
"""The same with leaves that end where tensors do (``citrate.registry.cutting``)."""

MANIFEST_MAX_BYTES = 1 << 20


class Format(StrEnum):
    """The formats a variant can have; ``number`` is what stands on chain."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    MLX = "mlx"
    TENSORRT_LLM = "tensorrt_llm"

    @property
    def number(self) -> int:
        """The format's number on chain."""
        return list(Format).index(self) + 1


class Task(StrEnum):
    """What a variant is wanted for."""

    INFERENCE = "inference"
    TRAINING = "training"


class Status(StrEnum):
    """How a version or a LoRA stands with moderation, best first; its number on chain is its place here."""

    ACTIVE = "active"
    FLAGGED = "flagged"
    """Reported, and nothing is decided: it stops nobody."""
    QUARANTINED = "quarantined"
    REMOVED = "removed"

    @property
    def is_quarantined(self) -> bool:
        """Whether it is to be refused: quarantined, or removed for ever."""
        return self in (Status.QUARANTINED, Status.REMOVED)


@dataclass(frozen=True, order=True)
class Variant:
    """One format + quantization + target, written ``format[:quantization][@target]``."""

    format: Format
    quantization: str = ""
    target: str = ""

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Parse ``safetensors``, ``gguf:Q4_K_M``, ``tensorrt_llm:fp8@sm90``.

        Raises:
            ConfigError: the format is unknown or a part has characters or a length that the chain would refuse.
        """
        head, at, target = text.partition("@")
        name, colon, quantization = head.partition(":")
        if name not in list(Format):
            close = meant(name, Format)
            suggestion = f"did you mean {close}{text[len(name) :]}? " if close else ""
            raise ConfigError(
                f"unknown format {name!r} in variant {text!r}",
                hint=f"{suggestion}formats: {', '.join(Format)}; for example gguf:Q4_K_M",
            )
        for separator, part in ((colon, quantization), (at, target)):
            if separator and not _VARIANT_PART.fullmatch(part):
                raise ConfigError(f"variant {text!r} is malformed", hint="write it as format[:quantization][@target]")
        return cls(Format(name), quantization, target)

    def __str__(self) -> str:
        text = str(self.format)
        if self.quantization:
            text += f":{self.quantization}"
        return f"{text}@{self.target}" if self.target else text


def did_you_mean(variant: Variant, among: Iterable[Variant]) -> str:
    """``did you mean gguf:Q4_K_M? ``, to begin a hint with: the one of ``among`` that ``variant`` is a misspelling of;
    empty where none is."""
    known = {f"{other.quantization}@{other.target}": other for other in among if other.format is variant.format}
    close = meant(f"{variant.quantization}@{variant.target}", known)
    return f"did you mean {known[close]}? " if close else ""


@dataclass(frozen=True)
class Reference:
    """A model, version or alias as a user names it: ``publisher/name[@version|:alias][#variant]``."""

    publisher: str
    name: str
    version: str = ""
    alias: str = ""
    variant: Variant | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference; ``publisher/name`` alone means ``:latest``.

        Raises:
            ConfigError: the text is no reference; the hint shows the form.
        """
        rest, _, variant = text.partition("#")
        publisher, slash, rest = rest.partition("/")
        name, at, version = rest.partition("@")
        alias = ""
        if not at:
            name, colon, alias = rest.partition(":")
            if colon and not ALIAS_PATTERN.fullmatch(alias):
                raise ConfigError(f"malformed alias in {text!r}", hint=_REFERENCE_HINT)
        elif not VERSION_PATTERN.fullmatch(version):
            raise ConfigError(f"malformed version in {text!r}", hint=_REFERENCE_HINT)
        if not slash or not publisher or not NAME_PATTERN.fullmatch(name) or text.endswith("#"):
            raise ConfigError(f"{text!r} is not a model reference", hint=_REFERENCE_HINT)
        if not version and not alias:
            alias = LATEST
        return cls(publisher, name, version, alias, Variant.parse(variant) if variant else None)

    def __str__(self) -> str:
        text = f"{self.publisher}/{self.name}"
        text += f"@{self.version}" if self.version else f":{self.alias}"
        return f"{text}#{self.variant}" if self.variant else text


_REFERENCE_HINT = "write it as publisher/name, publisher/name@1.0.0 or publisher/name:alias"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact. ``path`` is relative, with ``/``; the CID is that of the file alone."""

    path: str
    size_bytes: int
    sha256: str
    cid: str
    tsize: int | None = None
    """Bytes of all blocks of the file, where they do not follow from its size: its leaves are cut at tensors."""


@dataclass(frozen=True)
class Artifact:
    """The files of a variant, addressed. ``bare``: one file, whose CID and SHA-256 are the artifact's own;
    else a directory, whose SHA-256 is that of its listing (``core.digests.listing_sha256``)."""

    cid: str
    sha256: str
    size_bytes: int
    files: tuple[FileEntry, ...]
    bare: bool


@dataclass(frozen=True)
class VariantRecord:
    """A variant as it stands on chain: where it is (CID), what it is (SHA-256) and how many bytes."""

    variant: Variant
    cid: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class VersionRecord:
    """A version as it stands on chain at ``block_number``, with every variant."""

    model_id: str
    version_id: str
    publisher: str
    """The address that named the model; stays after a transfer."""
    name: str
    version: str
    licence: str
    manifest_sha256: str
    """Of the newest manifest of this version."""
    manifest_history: tuple[str, ...]
    """SHA-256 of every manifest of this version, oldest first."""
    signers: tuple[str, ...]
    """Who owned the model when each of those manifests was recorded."""
    price_wei: int
    """What it was published with; see ``price_now_wei``."""
    created_at: int
    """Unix seconds of the block."""
    deprecated: bool
    replacement: str
    """Version id, or empty."""
    variants: tuple[VariantRecord, ...]
    block_number: int
    status: Status | None = None
    """As moderation sees it, the worse of its own and its base's; None where nobody moderates."""
    asked_price_wei: int | None = None
    """What access costs now; None where no contract sells it."""
    governed: bool | None = None
    """Whether prices and moderation were looked at; False where the chain lacks the contracts that hold them, None
    where nobody is named who governs them, so that they may be there."""

    @property
    def ref(self) -> str:
        """The full reference, ``publisher/name@version``."""
        return f"{self.publisher}/{self.name}@{self.version}"

    @property
    def price_now_wei(self) -> int:
        """What access costs now, or what the version was published with where no contract sells it."""
        return self.price_wei if self.asked_price_wei is None else self.asked_price_wei

    @property
    def quarantined(self) -> bool | None:
        """Whether it is quarantined or removed; None where nobody moderates."""
        return None if self.status is None else self.status.is_quarantined


def variant_of(record: VersionRecord, variant: Variant) -> VariantRecord:
    """The chain's record of ``variant``.

    Raises:
        NotFoundError: the version does not have it; the hint lists those it has.
    """
    for candidate in record.variants:
        if candidate.variant == variant:
            return candidate
    there = [candidate.variant for candidate in record.variants]
    suggestion = did_you_mean(variant, there)
    hint = f"{suggestion}it has: {', '.join(map(str, there))}"
    raise NotFoundError(f"{record.ref} has no variant {variant}", hint=hint)


@dataclass(frozen=True)
class Architecture:
    """What a model is, as far as memory and runtime need to know."""

    name: str
    """The family that citrate knows (``llama``), or ``other``."""
    class_name: str
    """``architectures[0]`` of config.json, such as ``LlamaForCausalLM``."""
    parameters: int
    context_length: int
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int

    def kv_cache_bytes(self, context: int) -> int:
        """Bytes of a 16-bit key-value cache for ``context`` tokens."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2 * min(context, self.context_length or context)


@dataclass(frozen=True)
class Check:
    """One measured property of a converted variant against its limit.

    ``value`` and ``limit`` are decimal strings (two significant digits, rounded up), because a manifest holds no
    raw floats: the same input must give the same bytes.
    """

    name: str
    passed: bool
    value: str = ""
    limit: str = ""


class DeviceKind(StrEnum):
    """The kinds of device ``select`` chooses for."""

    CPU = "cpu"
    APPLE_SILICON = "apple_silicon"
    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"


@dataclass(frozen=True)
class Device:
    """The machine a variant must run on. ``memory_bytes`` is what the model may use: GPU memory where there is a
    GPU, else what the operating system or its cgroup leaves to this process."""

    kind: DeviceKind
    memory_bytes: int
    arch: str = ""
    """``sm90`` for NVIDIA, ``gfx942`` for AMD; empty where it does not matter."""
    name: str = ""
    lacks: frozenset[Format] = frozenset()
    """Formats that would suit it, but whose runtime is not installed; empty of a device that was only described."""


@dataclass(frozen=True)
class Selection:
    """The variant for a device, why, and why not the others."""

    variant: Variant
    reason: str
    device: Device
    rejected: Mapping[Variant, str] = field(default_factory=dict)
