"""A prompt as the model was taught to read it: its own chat template, rendered with bounds."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from citrate.core.errors import BackendMissingError, FormatError

MAX_TEMPLATE_CHARS = 1 << 18
MAX_SECONDS = 5
_RAW_HINT = "complete the raw text instead: --raw"


def render(template: str, prompt: str, special_tokens: Mapping[str, str]) -> str:
    """The text of one user message, ready for the answer.

    The template comes with the model, so it is hostile: it runs in Jinja's immutable sandbox, in the model process with
    its memory limit, and for ``MAX_SECONDS`` at most. Call it from the main thread.

    Args:
        template: Jinja source, as in ``chat_template.jinja`` or ``tokenizer.chat_template`` of a GGUF file.
        prompt: what the user says.
        special_tokens: ``bos_token``, ``eos_token`` and others that templates name.

    Raises:
        FormatError: too long, not a template, fails, or does not end.
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
        with _time_limit(MAX_SECONDS):
            compiled = environment.from_string(template)
            return compiled.render(messages=messages, add_generation_prompt=True, tools=None, **special_tokens)
    except (TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise FormatError(f"the model's chat template fails: {error}", hint=_RAW_HINT) from error
    except (TimeoutError, RecursionError) as error:
        raise FormatError("the model's chat template does not end", hint=_RAW_HINT) from error


def _to_json(value: object, indent: int | None = None) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
