"""The child of ``chat_templates``: looks a template over and renders an example. Run as a module, never imported."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress

from citrate.core.confinement.serving import Request, serve
from citrate.core.errors import FormatError
from citrate.formats.chat import render

EXAMPLE = "What is a CID?"
_OWN_TEXT_CHARS = 400
_INNER = re.compile(r"__\w+__")
_REACHES = "the chat template reaches for {}, which leads into the program that runs it"
_ADDRESS = re.compile(r"(?:https?|ftp|file)://\S{1,80}")


def prepare() -> None:
    """Import the engine before that is refused."""
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401


def answer(request: Request) -> bytes:
    """A JSON document: the example, or why there is none, and what looks odd in the template."""
    template, tokens = str(request["template"]), request["special_tokens"]
    special = {str(k): str(v) for k, v in tokens.items()} if isinstance(tokens, dict) else {}
    findings, example = list(_invisible(template)), ""
    with suppress(RecursionError):  # rendering says so too
        findings += dict.fromkeys(_looked_over(template))
    try:
        example = render(template, EXAMPLE, special)
    except FormatError as error:
        findings.append(error.message)
    else:
        if EXAMPLE not in example:
            findings.append("the chat template leaves out what the user says")
    return json.dumps({"example": example, "findings": findings}).encode()


def _invisible(template: str) -> Iterator[str]:
    """Characters that a reader of the template does not see."""
    hidden = {c for c in template if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") and c not in "\n\r\t"}
    if hidden:
        names = ", ".join(f"U+{ord(c):04X}" for c in sorted(hidden)[:5])
        yield f"the chat template holds invisible characters: {names}"


def _looked_over(template: str) -> Iterator[str]:
    """What the template's syntax says, without running it."""
    from jinja2 import Environment, TemplateError, nodes

    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(template)
    except (TemplateError, RecursionError, ValueError, MemoryError):
        return  # rendering says why
    for attribute in tree.find_all(nodes.Getattr):
        if attribute.attr.startswith("_"):
            yield _REACHES.format(attribute.attr[:40])
    for _ in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield "the chat template wants to load other templates"
    for data in tree.find_all((nodes.TemplateData, nodes.Const)):
        text = data.data if isinstance(data, nodes.TemplateData) else getattr(data, "value", None)
        if isinstance(text, str):
            yield from [_REACHES.format(text[:40])] if _INNER.fullmatch(text) else _own_text(text)


def _own_text(text: str) -> Iterator[str]:
    address = _ADDRESS.search(text)
    if address:
        yield f"the chat template writes an address into conversations: {address[0]}"
    if len(text) > _OWN_TEXT_CHARS:
        yield f"the chat template adds {len(text)} characters of its own text: {' '.join(text.split())[:60]!r}..."


if __name__ == "__main__":
    sys.exit(serve(answer, prepare))
