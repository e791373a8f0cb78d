"""A prompt as the model was taught to read it: its own chat template, rendered with bounds.

A template is a program that comes with a model. It runs in Jinja's immutable sandbox, with limits on processor time and
on what it writes; memory is limited by the process that it runs in, which is always a child behind walls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from citrate.core.confinement.processor_time import time_limit
from citrate.core.errors import BackendMissingError, FormatError

MAX_TEMPLATE_CHARS = 1 << 18
MAX_OUTPUT_CHARS = 1 << 20
"""Written beside the prompt."""
MAX_SECONDS = 2.0
"""Of processor time; published templates take milliseconds."""
_RAW_HINT = "complete the raw text instead: --raw"


def render(template: str, prompt: str, special_tokens: Mapping[str, str]) -> str:
    """The text of one user message, ready for the answer. Call it from the main thread.

    Args:
        template: Jinja source, as in ``chat_template.jinja`` or ``tokenizer.chat_template`` of a GGUF file.
        prompt: what the user says.
        special_tokens: ``bos_token``, ``eos_token`` and others that templates name.

    Raises:
        FormatError: too long, not a template, fails, does not end, or writes or takes too much.
        BackendMissingError: jinja2 is not installed.
    """
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise BackendMissingError("chat templates need jinja2", hint="pip install 'citrate[gguf]'") from error
    if len(template) > MAX_TEMPLATE_CHARS:
        raise FormatError(f"the chat template has {len(template)} characters", hint=_RAW_HINT)

    def refuse(message: str) -> str:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().astimezone().strftime(pattern)
    messages = [{"role": "user", "content": prompt}]
    try:
        with time_limit(MAX_SECONDS):
            pieces = environment.from_string(template).generate(
                messages=messages, add_generation_prompt=True, tools=None, **special_tokens
            )
            return _joined(pieces, MAX_OUTPUT_CHARS + 4 * len(prompt))
    except (TimeoutError, RecursionError) as error:
        raise FormatError("the model's chat template does not end", hint=_RAW_HINT) from error
    except MemoryError as error:
        raise FormatError("the model's chat template takes more memory than it may", hint=_RAW_HINT) from error
    except FormatError:
        raise
    except Exception as error:  # a hostile template can make the engine raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"the model's chat template fails: {reason}", hint=_RAW_HINT) from error


def _joined(pieces: Iterator[str], limit: int) -> str:
    text: list[str] = []
    for piece in pieces:
        limit -= len(piece)
        if limit < 0:
            raise FormatError("the model's chat template writes more text than any conversation has", hint=_RAW_HINT)
        text.append(piece)
    return "".join(text)


def _to_json(value: object, indent: int | None = None) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
