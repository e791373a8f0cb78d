"""Say what a model is without executing or loading anything of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import Architecture
from citrate.formats import families, gguf_file, mlx_source
from citrate.formats.families.family import Output
from citrate.formats.gguf_file import GgufHeader
from citrate.formats.licence import Licence, find_licence, spdx_of
from citrate.formats.source import open_model
from citrate.formats.tokenizer_files import chat_template, chat_template_sha256, tokenizer_kind


@dataclass(frozen=True)
class Inspection:
    """What a model directory or file claims to be, as far as its structure bears it out."""

    format: str
    """``safetensors``, ``mlx`` or ``gguf``."""
    architecture: Architecture
    output: str
    """``logits`` for a model that writes text, ``embedding`` for one that makes vectors, empty where citrate knows
    neither of the class."""
    parameters: int
    dtypes: tuple[str, ...]
    """The types of its tensors, the one with the most tensors first."""
    size_bytes: int
    """Of the weights."""
    tokenizer: str
    chat_template: str
    chat_template_sha256: str
    licence: Licence | None
    findings: tuple[str, ...]


def inspect(path: Path | str) -> Inspection:
    """Inspect a model directory or a GGUF file.

    Raises:
        NotFoundError: nothing there.
        FormatError: not a model, or a malformed one.
    """
    root = Path(path)
    if not root.exists():
        raise NotFoundError(f"no such file or folder: {path}")
    if root.is_dir():
        return _inspect_directory(root)
    with root.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise FormatError(
            f"{root.name} is neither a model folder nor a GGUF file", hint="name the folder that holds config.json"
        )
    return _inspect_gguf(root)


def require_writes(found: Inspection, name: str) -> None:
    """Refuse a model that writes no text, before any runtime loads it.

    Raises:
        FormatError: it makes vectors of text; ``name`` is how the message calls it.
    """
    if found.output == Output.EMBEDDING:
        raise FormatError(
            f"{name} makes vectors of text and writes none: {found.architecture.name} is an encoder",
            hint="citrate pull fetches it, for a library that computes embeddings",
        )


def _inspect_directory(root: Path) -> Inspection:
    model = open_model(root)
    template, packed = chat_template(root), mlx_source.described(model)
    architecture = mlx_source.decoded(model).architecture
    findings = (f"quantised for MLX ({packed}): as safetensors its weights are decoded",) if packed else ()
    return Inspection(
        format="mlx" if mlx_source.is_mlx(model) else "safetensors",
        architecture=architecture,
        output=str(families.output_of(model.config)),
        parameters=architecture.parameters,
        dtypes=_by_frequency(tensor.dtype for tensor in model.tensors),
        size_bytes=model.size_bytes,
        tokenizer=tokenizer_kind(root),
        chat_template=template,
        chat_template_sha256=chat_template_sha256(template),
        licence=find_licence(root),
        findings=(*model.findings, *findings),
    )


def _inspect_gguf(path: Path) -> Inspection:
    header = gguf_file.read_header(path)
    template = header.text("tokenizer.chat_template")
    licence = header.text("general.license")
    return Inspection(
        format="gguf",
        architecture=_gguf_architecture(header),
        output=str(families.output_of_gguf(header.text("general.architecture"))),
        parameters=sum(tensor.elements for tensor in header.tensors if tensor.name != "rope_freqs.weight"),
        dtypes=_by_frequency(tensor.type_name for tensor in header.tensors),
        size_bytes=sum(tensor.size_bytes for tensor in header.tensors),
        tokenizer=header.text("tokenizer.ggml.model"),
        chat_template=template,
        chat_template_sha256=chat_template_sha256(template),
        licence=Licence(spdx_of(licence), "", "card") if licence else None,
        findings=(),
    )


def _gguf_architecture(header: GgufHeader) -> Architecture:
    name = header.text("general.architecture")
    heads = header.integer(f"{name}.attention.head_count")
    hidden = header.integer(f"{name}.embedding_length")
    layers = header.integer(f"{name}.block_count")
    if layers > 1024 or heads > 4096 or hidden > 1 << 17:
        raise FormatError(f"{layers} layers of {heads} heads are not credible", hint="do not load this file")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    vocabulary = len(tokens.value) if tokens is not None and isinstance(tokens.value, tuple) else 0
    return Architecture(
        name=name,
        class_name="",
        parameters=sum(tensor.elements for tensor in header.tensors if tensor.name != "rope_freqs.weight"),
        context_length=header.integer(f"{name}.context_length"),
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=header.integer(f"{name}.attention.head_count_kv") or heads,
        head_dim=header.integer(f"{name}.attention.key_length") or (hidden // heads if heads else 0),
        vocab_size=header.integer(f"{name}.vocab_size") or vocabulary,
    )


def _by_frequency(names: Iterable[str]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))
