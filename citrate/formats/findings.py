"""What is odd about a model's files, for people: told, not judged, and found without running anything of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.chat_templates import TemplateReport, look_over
from citrate.formats.checkpoint import Checkpoint, read_checkpoints
from citrate.formats.companions import named
from citrate.formats.documents import entries, read_optional
from citrate.formats.dtypes import width
from citrate.formats.licence import find_licence, recognise
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import PIECE_BYTES, read_bytes
from citrate.formats.tokenizer_files import tokenizer_document
from citrate.formats.weights import PICKLES

_PICKLES_MAX = 64
_EXPECTED_HIDDEN = (".gitattributes", ".gitignore", ".cache", ".git")


def of_folder(model: SourceModel) -> tuple[str, ...]:
    """What a look at the whole folder tells beside ``model.findings``.

    Raises:
        UnavailableError: pickles lie there, and this platform has no sandbox to read them in.
    """
    listed = entries(model.root)
    return (
        *_odd_entries(model.root, listed),
        *_pickles(model, listed),
        *_tokenizer(model.root),
        *_licence(model.root),
    )


def of_template(root: Path, template: str) -> TemplateReport:
    """The chat template of the folder ``root``, looked over and tried with the folder's special tokens."""
    return look_over(template, dict(_special_tokens(root)))


def of_weights(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """The tensors that hold NaN or infinite weights; reads all of them.

    Raises:
        FormatError: a file became shorter, or cannot be read.
    """
    wrong = [tensor.name for tensor in tensors if not _is_finite(tensor)]
    return (f"NaN or infinite weights: {named(wrong)}",) if wrong else ()


def _is_finite(tensor: Tensor) -> bool:
    step = PIECE_BYTES - PIECE_BYTES % width(tensor.dtype)
    try:
        for start in range(0, tensor.size_bytes, step):
            read_bytes(tensor, start, min(step, tensor.size_bytes - start))
    except FormatError as error:
        if "NaN or infinite" in error.message:
            return False
        raise
    return True


def _odd_entries(root: Path, listed: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    links: list[str] = []
    hidden: list[str] = []
    programs: list[str] = []
    special: list[str] = []
    folder = root.resolve()
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
    for entry in listed:
        name, mode = _shown(entry.name), entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            target = Path(entry.path).resolve()
            if not target.is_relative_to(folder) and not target.is_relative_to(blobs):
                links.append(name)
        elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            special.append(name)
        elif stat.S_ISREG(mode) and mode & 0o111 and not name.endswith(".py"):
            programs.append(name)
        if name.startswith(".") and entry.name not in _EXPECTED_HIDDEN:
            hidden.append(name)
    told = {
        "links that leave the folder": links,
        "hidden files": hidden,
        "files that are marked as programs": programs,
        "pipes, sockets or devices": special,
    }
    yield from (f"{what}: {named(names)}" for what, names in told.items() if names)


def _pickles(model: SourceModel, listed: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    """What the pickles beside the weights would import, were they unpickled."""
    names = [e.name for e in listed if e.name.endswith(PICKLES) and e.is_file(follow_symlinks=False)]
    others = [name for name in names if name not in model.shards]
    if len(others) > _PICKLES_MAX:
        yield f"{len(others)} pickles beside the weights, of which the first {_PICKLES_MAX} were looked into"
    if others:
        read = read_checkpoints(model.root, others[:_PICKLES_MAX])
        yield from (_pickle(_shown(name), found) for name, found in zip(others, read, strict=False))


def _pickle(name: str, found: Checkpoint) -> str:
    if not found.refusal:
        return f"{name} is a pickle of {len(found.tensors)} tensors; it is not used"
    if not found.globals:
        return f"{name} is no pickle of weights: {found.refusal}"
    return f"{name} is a pickle that would import {found.shown}; it is never loaded"


def _tokenizer(root: Path) -> Iterator[str]:
    """A tokenizer.json that says nothing of how text becomes tokens."""
    document = tokenizer_document(root)
    model = document.get("model") if document is not None else None
    if document is not None and not (isinstance(model, dict) and model.get("vocab")):
        yield "tokenizer.json has no vocabulary: nothing can be converted that needs one"


def _licence(root: Path) -> Iterator[str]:
    """A card and a LICENSE file that say different things."""
    licence = find_licence(root)
    if licence is None:
        yield "no licence: neither the card nor a LICENSE file names one"
    elif licence.origin == "card" and licence.text:
        written = recognise(licence.text)
        if written not in (licence.spdx, "LicenseRef-custom") and not licence.spdx.startswith("LicenseRef-"):
            yield f"the card says {licence.spdx}, the LICENSE file reads like {written}"


def _special_tokens(root: Path) -> Iterator[tuple[str, str]]:
    document = read_optional(root, "tokenizer_config.json", 4 << 20) or {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token: Json = document.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            yield name, token


def _shown(name: str) -> str:
    """A file's name with its control characters shown instead of sent."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)[:120]
