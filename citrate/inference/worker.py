"""The model process: ``python -m citrate.inference.worker`` reads one request on stdin and answers events on stdout.

Order matters: first die with the parent, then give up the files that are not needed, then load the libraries, then
lock down, and only then open the model.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from citrate.core.adapters import Applied
from citrate.core.confinement import sandbox
from citrate.core.errors import CitrateError, ConfigError, FormatError, UnavailableError
from citrate.formats.chat import render
from citrate.inference.engines import Engine, Load, Sampling, loader
from citrate.inference.protocol import (
    Done,
    Event,
    Failure,
    Ready,
    Request,
    Text,
    decode_request,
    encode_event,
)

_LESS = "a smaller variant or a shorter context needs less: citrate select"
_SHORTER = "a shorter prompt, or a model with a longer context"


def main() -> int:
    """Serve one request; returns the exit code, which says nothing that the last event does not."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is talk, not protocol
    request = decode_request(sys.stdin.buffer.readline())
    sandbox.die_with_parent(request.parent_pid)
    send = partial(_send, answers)
    try:
        if request.sandbox:
            read = [Path(path) for path in (request.path, request.adapter) if path]
            sandbox.restrict_files(read, Path(os.environ["TMPDIR"]))
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        load = loader(request.format, adapted=bool(request.adapter))
        if request.sandbox:
            sandbox.lock_down(request.memory_bytes)
        for event in _answer(request, load):
            send(event)
    except CitrateError as error:
        send(Failure(type(error).__name__, error.message, error.hint))
    except MemoryError:
        send(Failure(UnavailableError.__name__, "the model needs more memory than it may take", _LESS))
    except Exception as error:  # noqa: BLE001  # the process boundary: whatever a hostile model provokes is one line
        send(Failure(FormatError.__name__, f"the model cannot be run: {type(error).__name__}: {error}", ""))
    else:
        return 0
    return 1


def _send(answers: int, event: Event) -> None:
    data = encode_event(event)
    while data:
        data = data[os.write(answers, data) :]


def _answer(request: Request, load: Load) -> Iterator[Event]:
    adapter = Applied(Path(request.adapter), request.scale) if request.adapter else None
    engine = load(Path(request.path), request.context, request.threads, adapter)
    yield Ready(engine.context)
    for text in request.prompts:
        yield from _answer_one(engine, request, text)


def _answer_one(engine: Engine, request: Request, text: str) -> Iterator[Event]:
    started = time.monotonic()
    prompt = _prompt_tokens(engine, text, chat=request.chat)
    room = min(request.max_tokens, engine.context - len(prompt))
    tokens, first, last, finish = 0, 0.0, 0.0, "stop"
    for piece in engine.generate(prompt, Sampling(request.temperature, request.seed)):
        last = time.monotonic() - started
        tokens, first = tokens + 1, first or last
        if piece:
            yield Text(piece)
        if tokens >= room:
            finish = "length"
            break
    yield Done(len(prompt), tokens, first, last, finish)


def _prompt_tokens(engine: Engine, prompt: str, *, chat: bool) -> list[int]:
    """The prompt as token ids: a user's message in the model's own chat layout, or the raw text.

    Raises:
        ConfigError: longer than the context; nothing is ever cut silently.
    """
    if chat and engine.chat_template:
        text = render(engine.chat_template, prompt, engine.special_tokens)
        bos = engine.special_tokens.get("bos_token", "")
        tokens = engine.encode(text, add_special_tokens=not (bos and text.startswith(bos)))
    else:
        tokens = engine.encode(prompt, add_special_tokens=True)
    if not tokens:
        raise ConfigError("the prompt is empty", hint="give the model something to continue")
    if len(tokens) >= engine.context:
        raise ConfigError(f"the prompt has {len(tokens)} tokens, the context holds {engine.context}", hint=_SHORTER)
    return tokens


def _end_with_stdin() -> None:
    """The parent keeps our stdin open while it lives; its end is our end, on every platform."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
