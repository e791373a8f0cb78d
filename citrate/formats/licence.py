"""Find a model's licence: what its card says, else what its LICENSE file is recognised as."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.formats.card import CARD, front_matter
from citrate.formats.documents import inside, read_bounded

_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md", "LICENCE.txt", "COPYING")
_TEXT_MAX_BYTES = 4 << 20
LICENCE_MAX = 64
"""Characters of an identifier, as the chain takes them."""

_FROM_CARD = {
    # the hub's identifiers that are no SPDX identifiers in lower case
    "afl-3.0": "AFL-3.0",
    "agpl-3.0": "AGPL-3.0-only",
    "apache-2.0": "Apache-2.0",
    "artistic-2.0": "Artistic-2.0",
    "bsd": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsl-1.0": "BSL-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc-by-2.0": "CC-BY-2.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-3.0": "CC-BY-SA-3.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "cc-by-nd-4.0": "CC-BY-ND-4.0",
    "bsd-3-clause-clear": "BSD-3-Clause-Clear",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-3.0": "GPL-3.0-only",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "isc": "ISC",
    "mit": "MIT",
    "mpl-2.0": "MPL-2.0",
    "unlicense": "Unlicense",
    "wtfpl": "WTFPL",
}

_SPELLINGS = {spdx.lower(): spdx for spdx in (*_FROM_CARD.values(), "GPL-3.0-or-later", "Zlib", "0BSD")}

_FROM_TEXT = (
    # words that stand in the text, in the order in which they must be tried
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("LicenseRef-llama-3.3", ("llama 3.3 community license",)),
    ("LicenseRef-llama-3.2", ("llama 3.2 community license",)),
    ("LicenseRef-llama-3.1", ("llama 3.1 community license",)),
    ("LicenseRef-llama-3", ("llama 3 community license",)),
    ("LicenseRef-llama-2", ("llama 2 community license",)),
    ("LicenseRef-gemma", ("gemma terms of use",)),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("CC-BY-NC-SA-4.0", ("attribution-noncommercial-sharealike 4.0",)),
    ("CC-BY-NC-ND-4.0", ("attribution-noncommercial-noderivatives 4.0",)),
    ("CC-BY-NC-4.0", ("attribution-noncommercial 4.0",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0",)),
    ("CC-BY-ND-4.0", ("attribution-noderivatives 4.0",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("MIT", ("permission is hereby granted, free of charge", "without restriction")),
    ("Unlicense", ("free and unencumbered software released into the public domain",)),
)

_COMMUNITY = re.compile(r"(llama|gemma|qwen|deepseek)[a-z0-9.-]*")


@dataclass(frozen=True)
class Licence:
    """A licence as SPDX writes it, its full text where a file holds it, and where it was found."""

    spdx: str
    text: str
    origin: str
    """``card`` or ``file``."""


def find_licence(path: Path | str) -> Licence | None:
    """The licence of the model directory ``path``: its card's, else its LICENSE file's; None where neither says.

    Raises:
        FormatError: the card's front matter is malformed, what it states is no licence, or a file leads outside the
            directory.
    """
    root = Path(path)
    text = _licence_text(root)
    stated = _card(root)
    if stated:
        return Licence(stated, text, "card")
    return Licence(recognise(text), text, "file") if text else None


def spdx_of(name: str, custom_name: str = "") -> str:
    """Map an identifier of a card (``apache-2.0``, ``llama3.1``, ``other`` + its name) to SPDX or ``LicenseRef-``."""
    key = name.strip().lower()
    if name.strip().startswith("LicenseRef-"):
        return name.strip()
    known = _FROM_CARD.get(key) or _SPELLINGS.get(key)
    if known:
        return known
    if key == "other" and custom_name:
        key = custom_name.strip().lower()
        if key in _FROM_CARD:
            return _FROM_CARD[key]
    if _COMMUNITY.fullmatch(key):
        key = re.sub(r"^([a-z]+)-?(\d)", r"\1-\2", key)
    return f"LicenseRef-{re.sub(r'[^a-z0-9.-]+', '-', key).strip('-') or 'other'}"[:LICENCE_MAX]


def stated_spdx(flag: str) -> str:
    """As ``spdx_of``, of what somebody types.

    Raises:
        ConfigError: empty, of several lines, or longer than the chain takes.
    """
    hint = "--license SPDX, for example --license apache-2.0"
    if not flag.strip():
        raise ConfigError("the licence is empty", hint=hint)
    found = spdx_of(flag)
    if not _is_short(found):
        raise ConfigError(f"{flag[:40]!r} is no licence: at most {LICENCE_MAX} characters of a line", hint=hint)
    return found


def recognise(text: str) -> str:
    """The SPDX identifier of a licence text; ``LicenseRef-custom`` where it is none that we know."""
    words = " ".join(text.lower().split())
    for spdx, marks in _FROM_TEXT:
        if all(mark in words for mark in marks):
            return spdx
    return "LicenseRef-custom"


def _licence_text(root: Path) -> str:
    for name in _FILES:
        try:
            return read_bounded(inside(root, name), _TEXT_MAX_BYTES).decode(errors="replace")
        except NotFoundError:
            continue
    return ""


def _card(root: Path) -> str:
    """The SPDX identifier that the card states; empty where it states none."""
    fields = front_matter(root)
    licence = fields.get("license")
    if isinstance(licence, list):
        licence = licence[0] if licence else None
    if not isinstance(licence, str) or licence.strip().lower() in ("", "unknown"):
        return ""
    custom = fields.get("license_name")
    found = spdx_of(licence, custom if isinstance(custom, str) else "")
    if not _is_short(found):
        raise FormatError(
            f"{CARD}: {licence[:40]!r} is no licence: at most {LICENCE_MAX} characters of a line",
            hint="repair the card",
        )
    return found


def _is_short(spdx: str) -> bool:
    return len(spdx) <= LICENCE_MAX and spdx.isprintable()
