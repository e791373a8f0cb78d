"""The files that are published beside the weights, cleaned; everything else in a model directory stays at home."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from citrate.formats.configuration import carries_code, is_local_path, local_paths, strip_private
from citrate.formats.documents import (
    CONFIG_MAX_BYTES,
    TOKENIZER_MAX_BYTES,
    entries,
    inside,
    names_in,
    parse_object,
    pretty,
    read_bounded,
)

_VERBATIM = re.compile(
    r"tokenizer\.(json|model)|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|sentencepiece\.bpe\.model"
    r"|chat_template\.(jinja|json)|(training|merge)\.json|README\.md|(LICEN[CS]E|COPYING|NOTICE|USE_POLICY)(\.md|\.txt)?"
)
_TEXTS = re.compile(r"README\.md|(LICEN[CS]E|COPYING|NOTICE|USE_POLICY)(\.md|\.txt)?")
_CLEANED = re.compile(
    r"(generation|tokenizer|preprocessor|processor|image_processor|video_preprocessor)_config\.json"
    r"|special_tokens_map\.json|config_sentence_transformers\.json|sentence_\w+_config\.json|modules\.json"
    r"|\d_(Pooling|Normalize)/config\.json"
)
_EXPECTED = re.compile(
    r"config\.json|.*\.safetensors|model\.safetensors\.index\.json|\.git(attributes|ignore)?|\.cache|\d_Normalize"
)
_TEXT_MAX_BYTES = 4 << 20
_NAMED_MAX = 5


@dataclass(frozen=True)
class Companion:
    """A file to publish: its path in the artifact, where it lies, and whether its JSON is rewritten without
    local paths and references to code."""

    name: str
    path: Path
    clean: bool

    def read(self) -> bytes:
        """The bytes to publish.

        Raises:
            FormatError: too large, or JSON that is none.
        """
        data = read_bounded(self.path, limit_of(self.name))
        if not self.clean or data.lstrip()[:1] != b"{":
            return data
        return pretty(strip_private(parse_object(data, self.name)))


def limit_of(name: str) -> int:
    """The size in bytes past which a companion file is refused."""
    if name.rpartition("/")[2].startswith(("tokenizer.", "vocab.", "merges", "spiece", "sentencepiece")):
        return TOKENIZER_MAX_BYTES
    return _TEXT_MAX_BYTES if not name.endswith(".json") else CONFIG_MAX_BYTES * 4


def companion(root: Path, name: str) -> Companion | None:
    """The file ``name`` of the directory ``root``, if it is one to publish beside weights.

    Raises:
        FormatError: it is, and leads outside the directory.
    """
    clean = bool(_CLEANED.fullmatch(name))
    return Companion(name, inside(root, name), clean) if clean or _VERBATIM.fullmatch(name) else None


def companions(root: Path, weights: Collection[str] = ()) -> tuple[tuple[Companion, ...], tuple[str, ...]]:
    """The files to publish in byte order of their names, and findings about the rest.

    ``weights``: names of weight files that need no mention.

    Raises:
        FormatError: a file to publish leads outside the directory, is too large or is not valid JSON.
    """
    published: list[Companion] = []
    dropped: list[str] = []
    findings: list[str] = []
    for name in _names(root):
        found = companion(root, name)
        if found is not None:
            findings += _findings(found)
            published.append(found)
        elif name not in weights and not _EXPECTED.fullmatch(name):
            dropped.append(name)
    code = [name for name in dropped if name.endswith(".py")]
    others = [name for name in dropped if not name.endswith(".py")]
    if code:
        findings.append(f"custom code is neither run nor published: {named(code)}")
    if others:
        findings.append(f"not published: {named(others)}")
    findings += _config_findings(root)
    return tuple(published), tuple(findings)


def root_companions(root: Path) -> tuple[list[Companion], list[str]]:
    """The card and licence of a pipeline, and the other names beside them."""
    names = names_in(root)
    kept = [name for name in names if _TEXTS.fullmatch(name)]
    dropped = [name for name in names if name not in kept and name != "model_index.json" and not name.startswith(".")]
    return [Companion(name, inside(root, name), False) for name in kept], dropped


def part_companion(root: Path, name: str) -> Companion | None:
    """The file ``name`` (``part/file``) of a pipeline, if it is one to publish."""
    file = name.rpartition("/")[2]
    clean = file in ("config.json", "scheduler_config.json") or _CLEANED.fullmatch(file) is not None
    return Companion(name, inside(root, name), clean) if clean or _VERBATIM.fullmatch(file) else None


def _names(root: Path) -> list[str]:
    names: list[str] = []
    for entry in entries(root):
        if entry.is_dir(follow_symlinks=False):
            inner = root / entry.name / "config.json"
            names.append(f"{entry.name}/config.json" if inner.exists() else entry.name)
        else:
            names.append(entry.name)
    return sorted(names)


def _findings(companion: Companion) -> list[str]:
    data = companion.read()
    if companion.name == "README.md":
        lines = data.decode(errors="replace").splitlines()
        paths = [line for line in lines if is_local_path(line.partition(": ")[2].strip())]
        return [f"README.md names a local path: {paths[0][:80]!r}"] if paths else []
    if companion.clean:
        original = read_bounded(companion.path, limit_of(companion.name))
        if b'"auto_map"' in original:
            return [f"{companion.name} refers to custom code: dropped"]
    return []


def _config_findings(root: Path) -> list[str]:
    document = parse_object(read_bounded(inside(root, "config.json"), CONFIG_MAX_BYTES), "config.json")
    findings: list[str] = []
    if carries_code(document):
        findings.append("config.json refers to custom code (auto_map): dropped")
    local = local_paths(document)
    if local:
        findings.append(f"config.json holds local paths ({named(local)}): dropped")
    return findings


def named(names: list[str]) -> str:
    """The first of ``names``, and how many more."""
    shown = ", ".join(names[:_NAMED_MAX])
    return shown if len(names) <= _NAMED_MAX else f"{shown} and {len(names) - _NAMED_MAX} more"
