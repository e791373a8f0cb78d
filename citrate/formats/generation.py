"""Generation defaults of a model, as decimal strings: what its `generation_config.json` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from citrate.formats.documents import parse_object
from citrate.formats.source import SourceModel

_DEFAULTS = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def generation_defaults(model: SourceModel) -> Mapping[str, str]:
    """The sampling defaults that the model's author chose; empty where none are stated.

    Numbers become the shortest decimal that reads back as the same number, since a manifest holds no raw float.

    Raises:
        FormatError: generation_config.json is not JSON.
    """
    companion = next((c for c in model.companions if c.name == "generation_config.json"), None)
    if companion is None:
        return {}
    document = parse_object(companion.read(), companion.name)
    values = {name: document.get(name) for name in _DEFAULTS}
    return {name: _text(value) for name, value in values.items() if isinstance(value, bool | int | float)}


def _text(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return format(Decimal(repr(value)), "f")
