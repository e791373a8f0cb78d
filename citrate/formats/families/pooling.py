"""How a text's vectors become one: what sentence-transformers keeps beside an embedding model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.documents import read_array, read_object

POOLING: Mapping[str, int] = {"mean": 1, "cls": 2, "lasttoken": 3}
"""How the vectors of a text's tokens become one: sentence-transformers' names, llama.cpp's numbers."""


def metadata(root: Path) -> Mapping[str, int]:
    """The key of a GGUF file that says it; none where the model does not; raises as ``mode_of`` does."""
    mode = mode_of(root)
    return {"pooling_type": POOLING[mode]} if mode else {}


def mode_of(root: Path) -> str:
    """How sentence-transformers' modules.json says that a text becomes one vector; empty where it says nothing.

    Raises:
        UnsupportedConversionError: in a way that llama.cpp does not have, or through further layers.
        FormatError: malformed.
    """
    modules = read_array(root, "modules.json") if (root / "modules.json").exists() else []
    mode = ""
    for module in modules:
        kind, folder = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(folder, str):
            raise FormatError("modules.json is malformed")
        name = kind.rpartition(".")[2]
        if name == "Pooling":
            mode = mode or _mode(read_object(root, f"{folder}/config.json"))
        elif name not in ("Transformer", "Normalize"):
            raise UnsupportedConversionError(f"modules.json adds a {name!r:.40} layer, which GGUF would lack")
    return mode


def _mode(document: Mapping[str, Json]) -> str:
    older = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    for name, key in older.items():
        if document.get(f"pooling_mode_{key}"):
            return name
    mode = document.get("pooling_mode")
    if isinstance(mode, str) and mode in POOLING:
        return mode
    raise UnsupportedConversionError("it pools the vectors of its tokens in a way that llama.cpp does not")
