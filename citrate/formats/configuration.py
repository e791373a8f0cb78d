"""config.json: read with bounds, and written in the one form that every loader reads right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.documents import pretty, read_object

_BOUNDS = {
    # what no published model comes near, and what keeps loops and allocations that depend on it small
    "layers": 1024,
    "hidden_size": 1 << 17,
    "heads": 1 << 12,
    "kv_heads": 1 << 12,
    "head_dim": 1 << 13,
    "vocab_size": 1 << 23,
    "context_length": 1 << 28,
}

_SPELLINGS = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "vocab_size": ("vocab_size",),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx"),
}

_PRIVATE_KEYS = ("_name_or_path", "name_or_path", "auto_map", "custom_pipelines", "tokenizer_file", "trust_remote_code")
_CODE_KEYS = ("auto_map", "custom_pipelines")
_LOCAL_PATH = re.compile(r"[A-Za-z]:[\\/]|/[^/\s][^/]*/|~[^/]*/")
_NESTED_MAX = 64

RESPELLED = ("llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of the decoders that are converted: their rotary parameters are one set for all layers, and every
loader reads them in one of two spellings."""


@dataclass(frozen=True)
class Config:
    """config.json. The numbers are 0 where an architecture has no such thing."""

    document: Mapping[str, Json]
    class_name: str
    model_type: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding matrix."""
        return self.document.get("tie_word_embeddings") is True

    @property
    def one_rope(self) -> bool:
        """Whether all layers rotate alike; transformers 5 nests the parameters by kind of layer where they do not."""
        parameters = self.document.get("rope_parameters")
        return not isinstance(parameters, dict) or not any(isinstance(each, dict) for each in parameters.values())

    @property
    def rope(self) -> Mapping[str, Json]:
        """The rotary parameters of all layers as transformers 5 spells them: ``rope_type``, ``rope_theta``, and what
        the type needs. Only where ``one_rope``.

        Raises:
            FormatError: they are malformed.
        """
        return _rope(self.document)


def read_config(root: Path) -> Config:
    """Read config.json of a model directory.

    Raises:
        NotFoundError: there is none.
        FormatError: not JSON, or a number in it that no model has.
    """
    document = read_object(root, "config.json")
    architectures = document.get("architectures")
    class_name = architectures[0] if isinstance(architectures, list) and architectures else ""
    nested = document.get("text_config")
    text: Mapping[str, Json] = nested if isinstance(nested, dict) else {}
    numbers = {name: _number(document, text, name) for name in _SPELLINGS}
    numbers["kv_heads"] = numbers["kv_heads"] or numbers["heads"]
    if numbers["heads"] and not numbers["head_dim"]:
        numbers["head_dim"] = numbers["hidden_size"] // numbers["heads"]
    model_type = document.get("model_type")
    if not isinstance(class_name, str) or not isinstance(model_type, str | None):
        raise FormatError("config.json: architectures and model_type must be text")
    return Config(document, class_name, model_type or "", **numbers)


def canonical_config(config: Config) -> bytes:
    """config.json as we publish it: no local path, no remote code, and of the decoders in ``RESPELLED`` the rotary
    parameters in the old and the new spelling. Every other entry is the source's own."""
    return pretty(canonical_document(config))


def canonical_document(config: Config) -> dict[str, Json]:
    """What ``canonical_config`` writes.

    transformers 5 writes ``rope_parameters`` only; mlx-lm reads ``rope_theta`` and ``rope_scaling`` for most decoders
    and silently falls back to other angles without them. Both spellings together load right everywhere, but only of
    decoders that rotate in one way: Gemma 3 or ModernBERT have a set of parameters for each kind of layer, and a loader
    would take what we put beside them for the value of one.
    """
    document = strip_private(config.document)
    stated = "rope_parameters" in document or "rope_theta" in document
    if stated and config.model_type in RESPELLED and config.one_rope:
        rope = dict(config.rope)
        document["rope_parameters"] = rope
        document["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        document["rope_scaling"] = None if rope["rope_type"] == "default" else scaling
    return document


def strip_private(document: Mapping[str, Json]) -> dict[str, Json]:
    """``document`` without what belongs to the author's machine or would make a loader run code, however deep it lies.

    Raises:
        FormatError: it is nested more deeply than any configuration.
    """
    return _stripped(document, 0)


def _stripped(document: Mapping[str, Json], depth: int) -> dict[str, Json]:
    return {
        key: _cleaned(value, depth + 1)
        for key, value in document.items()
        if key not in _PRIVATE_KEYS and not _names_a_path(key, value)
    }


def _cleaned(value: Json, depth: int) -> Json:
    if depth > _NESTED_MAX:
        raise FormatError(f"a configuration is nested more than {_NESTED_MAX} deep", hint="repair its JSON files")
    if isinstance(value, dict):
        return _stripped(value, depth)
    return [_cleaned(item, depth + 1) for item in value] if isinstance(value, list) else value


def _names_a_path(key: str, value: Json) -> bool:
    """Whether an entry is a path of somebody's machine; tables of labels and the texts of tokens may look like one."""
    return is_local_path(value) and key != "content" and not key.isdecimal()


def is_local_path(value: Json) -> bool:
    """Whether a JSON value is a path of somebody's machine."""
    return isinstance(value, str) and len(value) <= 4096 and _LOCAL_PATH.match(value) is not None


def local_paths(document: Mapping[str, Json]) -> list[str]:
    """The entries that are paths of somebody's machine, those of inner objects as ``outer.inner``."""
    return [name for name, key, value in _entries(document) if _names_a_path(key, value)]


def carries_code(document: Mapping[str, Json]) -> bool:
    """Whether a configuration asks its loader to run code from the repository."""
    return any(
        key in _CODE_KEYS or (key == "trust_remote_code" and bool(value)) for _, key, value in _entries(document)
    )


def _entries(document: Mapping[str, Json], before: str = "", depth: int = 0) -> Iterator[tuple[str, str, Json]]:
    """Every entry of an object and of the objects in it: its full name, its key, its value."""
    for key, value in document.items():
        yield before + key, key, value
        inner = value if isinstance(value, list) else [value]
        for item in inner if depth < _NESTED_MAX else ():
            if isinstance(item, dict):
                yield from _entries(item, f"{before}{key}.", depth + 1)


def number(document: Mapping[str, Json], key: str, default: float | None = None) -> float:
    """The finite number at ``key``.

    Raises:
        FormatError: missing without a default, not a number, or out of float range.
    """
    value = document.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e30:
        raise FormatError(f"config.json: {key} must be a number, not {value!r:.40}")
    return float(value)


def _rope(document: Mapping[str, Json]) -> Mapping[str, Json]:
    new, old = document.get("rope_parameters"), document.get("rope_scaling")
    source = new if new is not None else old
    if not isinstance(source, dict | None):
        raise FormatError("config.json: rope_parameters must be an object")
    rope: dict[str, Json] = dict(source or {})
    legacy = rope.pop("type", None)
    kind = rope.setdefault("rope_type", legacy or "default")
    if not isinstance(kind, str):
        raise FormatError("config.json: rope_type must be text")
    theta = rope.get("rope_theta", document.get("rope_theta"))
    rope["rope_theta"] = number({"rope_theta": theta}, "rope_theta", 10000.0)
    return rope


def _number(document: Mapping[str, Json], text: Mapping[str, Json], name: str) -> int:
    for source in (document, text):
        for key in _SPELLINGS[name]:
            value = source.get(key)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _BOUNDS[name]:
                raise FormatError(
                    f"config.json: {key} = {value!r:.40} is not credible (0 to {_BOUNDS[name]})",
                    hint="repair config.json, or download the model again",
                )
            return value
    return 0
