"""Say what a model is without executing or loading anything of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.errors import FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Architecture
from citrate.formats import families, findings, gguf_file, gguf_weights, mlx_source
from citrate.formats.chat_templates import look_over
from citrate.formats.companions import named
from citrate.formats.families.family import Output
from citrate.formats.gguf_file import GgufHeader
from citrate.formats.licence import Licence, find_licence, spdx_of
from citrate.formats.source import SourceModel, open_model
from citrate.formats.tensorrt import decoding
from citrate.formats.tensorrt.schemes import by_algorithm, is_checkpoint
from citrate.formats.tokenizer_files import chat_template, chat_template_sha256, tokenizer_kind

_GGUF_MOST = {
    # llama.cpp ends the process at more than 512 layers or experts
    "block_count": 512,
    "expert_count": 512,
    "attention.head_count": 1 << 12,
    "attention.head_count_kv": 1 << 12,
    "attention.key_length": 1 << 13,
    "attention.value_length": 1 << 13,
    "embedding_length": 1 << 17,
    "feed_forward_length": 1 << 20,
    "vocab_size": 1 << 23,
    "context_length": 1 << 28,
    "rope.dimension_count": 1 << 13,
}


@dataclass(frozen=True)
class Inspection:
    """What a model directory or file claims to be, as far as its structure bears it out."""

    format: str
    """``safetensors``, ``mlx``, ``tensorrt_llm`` or ``gguf``."""
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
    chat_template_example: str = ""
    """A user's message as the chat template lays it out; told by ``examine`` only."""


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
    _require_gguf(root)
    return _inspect_gguf(root)


def examine(path: Path | str, *, deep: bool = False) -> Inspection:
    """As ``inspect``, and look for what is odd: at the whole folder, at pickles, and at what the chat template does.

    What could run code or bring a parser down is read in child processes behind walls, one after the other.

    Args:
        path: a model directory or a GGUF file.
        deep: read all weights too, for NaN and infinite ones.

    Raises:
        NotFoundError: nothing there.
        FormatError: not a model, or a malformed one.
        UnavailableError: this platform has no sandbox.
    """
    found, root = inspect(path), Path(path)
    if root.is_dir():
        model = open_model(root)
        report = findings.of_template(root, found.chat_template)
        odd = (*findings.of_folder(model), *report.findings)
        weights = findings.of_weights(model.tensors) if deep else ()
    else:
        header = gguf_file.read_header(root)
        report = look_over(found.chat_template, gguf_file.special_tokens(header))
        odd = (*_gguf_findings(root, header), *report.findings)
        weights = gguf_weights.not_finite(root, header) if deep else ()
    told = (*found.findings, *odd, *weights)
    return replace(found, findings=told, chat_template_example=report.example)


def _require_gguf(path: Path) -> None:
    magic = b""
    if path.is_file():  # a pipe would be waited for
        try:
            with path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error
    if magic != b"GGUF":
        raise FormatError(
            f"{path.name} is neither a model folder nor a GGUF file", hint="name the folder that holds config.json"
        )


def _gguf_findings(path: Path, header: GgufHeader) -> Iterable[str]:
    """What is odd about a GGUF file whose structure is sound."""
    end = max((tensor.offset + tensor.size_bytes for tensor in header.tensors), default=0)
    behind = path.stat().st_size - end
    if header.tensors and behind > gguf_file.ALIGNMENT:
        yield f"{behind} bytes behind the last tensor belong to nothing"
    templates = [key.rpartition(".")[2] for key in header.metadata if key.startswith("tokenizer.chat_template.")]
    if templates:
        yield f"other chat templates than the one shown: {named(templates)}"
    if not header.text("general.license"):
        yield "no licence: general.license is empty"


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


def require_template(found: Inspection, expected_sha256: str, name: str) -> None:
    """Refuse a chat template that is not the model's: one variant of a version must not read prompts otherwise.

    Args:
        found: what was pulled.
        expected_sha256: of the template that the version's manifest names; empty for none.
        name: how the message calls the model.

    Raises:
        FormatError: both have a template, and they differ.
    """
    if expected_sha256 and found.chat_template_sha256 and found.chat_template_sha256 != expected_sha256:
        raise FormatError(
            f"{name} has a chat template (SHA-256 {found.chat_template_sha256[:16]}…) that its manifest does not name",
            hint="look at it with citrate inspect --chat-template; the publisher can say which one is meant",
        )


def _inspect_directory(root: Path) -> Inspection:
    model = open_model(root)
    template = chat_template(root)
    architecture, remarks = _decoded(model)
    return Inspection(
        format=_format_of(model),
        architecture=architecture,
        output=str(families.output_of(model.config)),
        parameters=architecture.parameters,
        dtypes=_by_frequency(tensor.dtype for tensor in model.tensors),
        size_bytes=model.size_bytes,
        tokenizer=tokenizer_kind(root),
        chat_template=template,
        chat_template_sha256=chat_template_sha256(template),
        licence=find_licence(root),
        findings=(*model.findings, *remarks),
    )


def _format_of(model: SourceModel) -> str:
    if mlx_source.is_mlx(model):
        return "mlx"
    return "tensorrt_llm" if is_checkpoint(model.config) else "safetensors"


def _decoded(model: SourceModel) -> tuple[Architecture, tuple[str, ...]]:
    """The architecture, with the parameters that quantised weights stand for, and what is to be said of these."""
    if is_checkpoint(model.config):
        return _decoded_checkpoint(model)
    try:
        packed = mlx_source.described(model)
        architecture = mlx_source.decoded(model).architecture
    except UnsupportedConversionError as error:
        return model.architecture, (f"{error.message}; parameters are counted as they are packed",)
    return architecture, (f"quantised for MLX ({packed}): as safetensors its weights are decoded",) if packed else ()


def _decoded_checkpoint(model: SourceModel) -> tuple[Architecture, tuple[str, ...]]:
    """As ``_decoded``, of a checkpoint that ModelOpt has quantised."""
    settings = model.config.document.get("quantization_config")
    algorithm = settings.get("quant_algo") if isinstance(settings, dict) else None
    scheme = by_algorithm(algorithm)
    if scheme is None:
        return model.architecture, (f"quantised by ModelOpt as {algorithm!r:.40}; parameters are counted as packed",)
    remark = f"quantised for TensorRT-LLM ({algorithm}): nothing else is made of it"
    return replace(model.architecture, parameters=decoding.parameters(model, scheme)), (remark,)


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
    _require_credible(header, name)
    vocabulary = len(header.items("tokenizer.ggml.tokens"))
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


def _require_credible(header: GgufHeader, name: str) -> None:
    """Refuse numbers that no model has. llama.cpp reserves memory by some, aborts at others, and indexes the lists of
    a vocabulary without comparing their lengths.

    Raises:
        FormatError: which number it is.
    """
    if not name:
        raise FormatError("general.architecture is missing", hint="do not load this file")
    for key, most in _GGUF_MOST.items():
        value = header.integer(f"{name}.{key}")
        if not 0 <= value <= most:
            raise FormatError(f"{name}.{key} = {value} is not credible (0 to {most})", hint="do not load this file")
    tokens = len(header.items("tokenizer.ggml.tokens"))
    for key in ("scores", "token_type"):
        count = len(header.items(f"tokenizer.ggml.{key}"))
        if count not in (0, tokens):
            raise FormatError(f"{tokens} tokens, but {count} of tokenizer.ggml.{key}", hint="do not load this file")


def _by_frequency(names: Iterable[str]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))
