"""The front matter of a model's card: YAML between two lines of dashes at the start of README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from citrate.core.errors import FormatError, NotFoundError
from citrate.formats.documents import inside, read_bounded

CARD = "README.md"
_CARD_MAX_BYTES = 4 << 20
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*(\r?\n|\Z)", re.DOTALL)
_FRONT_MATTER_MAX = 64 << 10
_ANCHOR = re.compile(r"(^|[\s,\[:])[&*][A-Za-z0-9]")


def front_matter(root: Path) -> Mapping[str, object]:
    """The fields that the card of the model directory ``root`` states; none where it has no card, or one without them.

    YAML's anchors let a few bytes stand for gigabytes: where there are any, only fields of the licence are read, as
    plain lines.

    Raises:
        FormatError: it is no YAML, or the card leads outside the directory or is too large.
    """
    try:
        text = read_bounded(inside(root, CARD), _CARD_MAX_BYTES).decode(errors="replace")
    except NotFoundError:
        return {}
    match = _FRONT_MATTER.match(text[:_FRONT_MATTER_MAX])
    if not match:
        return {}
    if _ANCHOR.search(match[1]):
        return _plain_fields(match[1])
    try:
        fields = yaml.safe_load(_as_meant(match[1]))
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        # the last two: what PyYAML's own constructors fail with, such as that of `!!int ""`
        raise FormatError(f"{CARD}: its front matter is not valid YAML", hint="repair the card") from error
    return fields if isinstance(fields, dict) else {}


def _as_meant(front: str) -> str:
    """Norwegian is no boolean, and a tab that people indented with stands for two spaces."""
    lines = "\n".join(front.splitlines()) + "\n"
    return lines.replace("- no\n", '- "no"\n').replace("\t", "  ")


def _plain_fields(front: str) -> Mapping[str, object]:
    return {
        key: value.strip().strip("'\"") for key, value in re.findall(r"^(license\w*):\s*(.+)$", front, re.MULTILINE)
    }
