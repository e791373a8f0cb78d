"""Damage a copy of a model directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path


def edited(source: Path, target: Path, config: Callable[[dict[str, object]], None] | None = None) -> Path:
    """A copy of ``source`` at ``target`` whose config.json went through ``config``."""
    shutil.copytree(source, target)
    if config:
        path = target / "config.json"
        document = json.loads(path.read_text())
        config(document)
        path.write_text(json.dumps(document))
    return target


def with_header(path: Path, edit: Callable[[dict[str, dict[str, object]]], None]) -> None:
    """Rewrite the header of a safetensors file; the data stays."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
