"""Text from a model on this machine, made by a child process that can reach neither network nor files.

A model's file is untrusted even when its hash is right: the hash says whose it is, not that it is harmless. So the
parser and the runtime work in a process of their own (`citrate.inference.worker`, its walls in
`citrate.core.confinement.sandbox`), and what goes wrong there is one error here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from citrate.core.adapters import Applied
from citrate.core.confinement.sandbox import NO_SANDBOX_HINT
from citrate.core.errors import ConfigError, FormatError, NotFoundError, UnavailableError
from citrate.core.records import Architecture, Format
from citrate.inference.device import has_tensorrt_llm
from citrate.inference.engines import ADAPTED, loader
from citrate.inference.limits import usable_processors
from citrate.inference.process import events, model_process
from citrate.inference.protocol import Done, Event, Ready, Request, Text

RUNNABLE = frozenset({Format.GGUF, Format.SAFETENSORS, Format.MLX})
"""The formats that are chosen by themselves: they run inside the sandbox."""
UNCONFINED = frozenset({Format.TENSORRT_LLM})
"""The formats whose runtime starts processes and opens sockets, which the sandbox refuses."""

DEFAULT_CONTEXT = 4096
DEFAULT_TIMEOUT_S = 600.0

_WEIGHTS_SHARE = 2.5
"""Address space for weights: the mapped file, a copy in the layout that the CPU likes best, and slack."""
_WORKING_BYTES = 3 << 30
"""Address space (not memory) for buffers, thread stacks and allocator arenas."""
_UNKNOWN_CACHE_BYTES = 2 << 30
_ONE_THREAD_BYTES = 64 << 20
"""A model below this is done with a token before a second thread has woken up."""


@dataclass(frozen=True)
class Generation:
    """An answer and how long it took."""

    text: str
    prompt_tokens: int
    tokens: int
    finish: str
    """``stop``: the model ended its answer; ``length``: it reached ``max_tokens`` or the context."""
    tokens_per_s: float
    """Tokens after the first, per second; 0 where there is only one."""
    time_to_first_token_s: float
    """From the loaded model to its first token, reading the prompt included."""
    load_s: float
    """From the call to the loaded model, libraries included."""


def generate(
    path: Path,
    format: Format,  # noqa: A002  # the word of the domain
    prompt: str,
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    context: int = DEFAULT_CONTEXT,
    chat: bool = True,
    sandbox: bool = True,
    adapter: Applied | None = None,
    on_text: Callable[[str], None] | None = None,
    architecture: Architecture | None = None,
    threads: int | None = None,
    memory_bytes: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Generation:
    """Answer ``prompt`` with the model at ``path``. No process is left behind, however this ends.

    Args:
        path: a GGUF file, or the directory of a SafeTensors or MLX variant; verified by the caller.
        format: what ``path`` is.
        prompt: the user's message, or with ``chat=False`` (or a model without a chat template) the text to continue.
        max_tokens: the longest answer.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn (nucleus of 0.95).
        seed: for drawing; the same seed gives the same answer on the same machine.
        context: tokens of prompt and answer together; a model trained for fewer keeps its own limit.
        chat: lay the prompt out by the model's own chat template.
        sandbox: False runs the process with nothing but a clean environment: only for models you trust.
        adapter: an adapter of this very model, in the form that the format's runtime takes; verified by the caller.
        on_text: called with each piece of the answer as it comes; whole characters.
        architecture: for the memory limit; without it the cache is reckoned generously.
        threads: CPU threads; by default one for a small model, else those this process may use.
        memory_bytes: address space the process may take beyond its libraries; by default sized from the model.
        timeout_s: the longest silence, while loading as between two tokens.

    Raises:
        ConfigError: an argument out of range, or a prompt that does not fit the context.
        NotFoundError: nothing is at ``path``.
        FormatError: the model is damaged, crashes its runtime, or has a template that fails.
        BackendMissingError: the runtime is not installed; the hint names the extra.
        UnavailableError: no sandbox here, not enough memory, no answer in time.
    """
    (answer,) = generate_each(
        path,
        format,
        (prompt,),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        context=context,
        chat=chat,
        sandbox=sandbox,
        adapter=adapter,
        on_text=on_text,
        architecture=architecture,
        threads=threads,
        memory_bytes=memory_bytes,
        timeout_s=timeout_s,
    )
    return answer


def generate_each(
    path: Path,
    format: Format,  # noqa: A002  # the word of the domain
    prompts: Sequence[str],
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    context: int = DEFAULT_CONTEXT,
    chat: bool = True,
    sandbox: bool = True,
    adapter: Applied | None = None,
    on_text: Callable[[str], None] | None = None,
    on_answer: Callable[[int], None] | None = None,
    architecture: Architecture | None = None,
    threads: int | None = None,
    memory_bytes: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[Generation, ...]:
    """Answer each of ``prompts``, in their order, with a model that is loaded once; as ``generate`` else.

    No prompt sees another: each answer is the one that ``generate`` gives to that prompt alone.

    Args:
        path: as ``generate``, and so the rest.
        format: what ``path`` is.
        prompts: at least one.
        max_tokens: of each answer.
        temperature: 0 is greedy.
        seed: of each answer's drawing.
        context: tokens of a prompt and its answer together.
        chat: lay each prompt out by the model's own chat template.
        sandbox: whether the process is shut in.
        adapter: an adapter of this very model.
        on_text: called with each piece of each answer.
        on_answer: called with the number of prompts that are answered, after each.
        architecture: for the memory limit.
        threads: CPU threads.
        memory_bytes: address space of the process beyond its libraries.
        timeout_s: the longest silence.

    Raises:
        ConfigError: also a prompt that does not fit the context; the message begins with the prompt.
    """
    if not prompts:
        raise ConfigError("no prompt", hint="give at least one")
    _check_arguments(max_tokens, temperature, context, timeout_s)
    if not path.exists():
        raise NotFoundError(f"no such model: {path}")
    if adapter and format not in ADAPTED:
        raise ConfigError(f"{format} takes no adapter", hint=f"these do: {', '.join(ADAPTED)}")
    if format in UNCONFINED and sandbox:
        if not has_tensorrt_llm():
            loader(format)  # says what to install
        raise UnavailableError(f"{format} starts processes that no sandbox allows", hint=NO_SANDBOX_HINT)
    weights = _weight_bytes(path) + (_weight_bytes(adapter.path) if adapter else 0)
    request = Request(
        path=str(path.absolute()),
        format=format,
        prompts=tuple(prompts),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed % (1 << 32),
        context=context,
        chat=chat,
        sandbox=sandbox,
        memory_bytes=memory_bytes or _memory_bytes(weights, architecture, context),
        threads=threads or _threads(weights),
        parent_pid=os.getpid(),
        adapter=str(adapter.path.absolute()) if adapter else "",
        scale=adapter.scale if adapter else 1.0,
    )
    listening = _Listening(time.monotonic(), on_text or (lambda _: None))
    with model_process(request) as running:
        try:
            for event in events(running, timeout_s):
                if isinstance(event, Ready) and sandbox:
                    running.drop_scratch()
                if listening.hear(event) and on_answer is not None:
                    on_answer(len(listening.answers))
                if len(listening.answers) == len(prompts):
                    return tuple(listening.answers)
        except ConfigError as error:
            if len(prompts) == 1:
                raise
            raise ConfigError(f"{prompts[len(listening.answers)]!r:.60}: {error.message}", hint=error.hint) from error
    raise FormatError(f"the model process ended without an answer from {path.name}")


@dataclass
class _Listening:
    """What a model process has said so far."""

    started: float
    on_text: Callable[[str], None]
    load_s: float = 0.0
    parts: list[str] = field(default_factory=list)
    answers: list[Generation] = field(default_factory=list)

    def hear(self, event: Event) -> bool:
        """Take note of an event; returns whether it ended an answer."""
        if isinstance(event, Ready):
            self.load_s = time.monotonic() - self.started
        elif isinstance(event, Text):
            self.parts.append(event.text)
            self.on_text(event.text)
        elif isinstance(event, Done):
            self.answers.append(_generation("".join(self.parts), event, self.load_s))
            self.parts.clear()
            return True
        return False


def _generation(text: str, done: Done, load_s: float) -> Generation:
    seconds = done.last_token_s - done.first_token_s
    speed = (done.tokens - 1) / seconds if done.tokens > 1 and seconds > 0 else 0.0
    return Generation(text, done.prompt_tokens, done.tokens, done.finish, speed, done.first_token_s, load_s)


def _check_arguments(max_tokens: int, temperature: float, context: int, timeout_s: float) -> None:
    if max_tokens < 1:
        raise ConfigError(f"max_tokens is {max_tokens}", hint="ask for at least one token")
    if not 0 <= temperature <= 100:
        raise ConfigError(f"temperature is {temperature:g}", hint="0 is greedy, 1 is the model's own distribution")
    if context < 2:
        raise ConfigError(f"context is {context} tokens", hint="prompt and answer must fit in it")
    if timeout_s <= 0:
        raise ConfigError(f"timeout is {timeout_s:g} s", hint="600 suits all but the largest models")


def _weight_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    return sum(file.stat().st_size for file in files)


def _memory_bytes(weights: int, architecture: Architecture | None, context: int) -> int:
    cache = architecture.kv_cache_bytes(context) if architecture else max(_UNKNOWN_CACHE_BYTES, weights)
    return int(weights * _WEIGHTS_SHARE) + cache + _WORKING_BYTES


def _threads(weights: int) -> int:
    return 1 if weights < _ONE_THREAD_BYTES else usable_processors()
