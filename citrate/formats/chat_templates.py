"""What a chat template makes of a message, and what is odd about it, found out in a child behind walls."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass

from citrate.core.canonical import Json
from citrate.core.confinement.child import Limits, ask
from citrate.core.errors import FormatError, UnavailableError

_LIMITS = Limits(memory_bytes=256 << 20, seconds=20.0, answer_bytes=16 << 20)
_FINDINGS_MAX = 20
_MEMORY = "do not use this template"


@dataclass(frozen=True)
class TemplateReport:
    """A template looked over."""

    example: str
    """One user message as the model would read it; empty where the template fails."""
    findings: tuple[str, ...]


def look_over(template: str, special_tokens: Mapping[str, str]) -> TemplateReport:
    """Render an example of ``template`` and look for what no template needs. Whatever it does ends here as a finding.

    Raises:
        UnavailableError: this platform has no sandbox.
    """
    if not template:
        return TemplateReport("", ())
    if importlib.util.find_spec("jinja2") is None:
        return TemplateReport("", ("the chat template was not looked into: pip install 'citrate[gguf]'",))
    request: dict[str, Json] = {"template": template, "special_tokens": dict(special_tokens)}
    try:
        said = json.loads(
            ask("citrate.formats.chat_process", request, [], _LIMITS, what="the chat template", memory_hint=_MEMORY)
        )
        return TemplateReport(str(said["example"]), tuple(map(_shown, said["findings"]))[:_FINDINGS_MAX])
    except FormatError as error:
        return TemplateReport("", (error.message,))
    except UnavailableError as error:
        if error.hint != _MEMORY:
            raise
        return TemplateReport("", ("the model's chat template takes more memory than it may",))
    except (ValueError, KeyError, TypeError):
        return TemplateReport("", ("the chat template makes its reader answer nonsense",))


def _shown(finding: object) -> str:
    return "".join(c for c in str(finding) if c.isprintable())[:300]
