"""config.json: read with bounds, and written in the one form that every loader reads right."""

from __future__ import annotations

from collections.abc import Mapping
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
    def rope(self) -> Mapping[str, Json]:
        """The rotary parameters as transformers 5 spells them: ``rope_type``, ``rope_theta``, and what the type needs.

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
    """config.json as we publish it: no local path, no remote code, rotary parameters in the old and the new spelling.

    transformers 5 writes ``rope_parameters`` only; mlx-lm reads ``rope_theta`` and ``rope_scaling`` for most families
    and silently falls back to other angles without them. Both spellings together load right everywhere.
    """
    document = strip_private(config.document)
    if "rope_parameters" in document or "rope_theta" in document:
        rope = dict(config.rope)
        document["rope_parameters"] = rope
        document["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        document["rope_scaling"] = None if rope["rope_type"] == "default" else scaling
    return pretty(document)


def strip_private(document: Mapping[str, Json]) -> dict[str, Json]:
    """``document`` without what belongs to the author's machine or would make a loader run code."""
    return {key: value for key, value in document.items() if key not in _PRIVATE_KEYS and not is_local_path(value)}


def is_local_path(value: Json) -> bool:
    """Whether a JSON value is a path of somebody's machine."""
    if not isinstance(value, str) or len(value) > 4096:
        return False
    windows = len(value) > 2 and value[0].isalpha() and value[1] == ":" and value[2] in "\\/"
    return windows or (value[:1] in ("/", "~") and "/" in value[1:])


def carries_code(document: Mapping[str, Json]) -> bool:
    """Whether a configuration asks its loader to run code from the repository."""
    return "auto_map" in document or "custom_pipelines" in document or bool(document.get("trust_remote_code"))


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
