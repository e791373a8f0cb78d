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
from citrate.core.records import Format
from citrate.inference.device import has_tensorrt_llm
from citrate.inference.engines import ADAPTED, loader
from citrate.inference.limits import usable_processors
from citrate.inference.process import events, model_process
from citrate.inference.protocol import Done, Event, Ready, Request, Text

RUNNABLE = frozenset({Format.GGUF, Format.SAFETENSORS, Format.MLX})
"""The formats that are chosen by themselves: they run inside the sandbox."""
UNCONFINED = frozenset({Format.TENSORRT_LLM})
"""The formats whose runtime starts processes and opens sockets, which the sandbox refuses."""

_WEIGHTS_SHARE = 2.5
"""Address space for weights: the mapped file, a copy in the layout that the CPU likes best, and slack."""
_WORKING_BYTES = 3 << 30
"""Address space (not memory) for buffers, thread stacks and allocator arenas."""
_CACHE_BYTES = 2 << 30
"""Address space for the keys and values of the context; as much as the weights, where those are more."""
_ONE_THREAD_BYTES = 64 << 20
"""A model below this is done with a token before a second thread has woken up."""


@dataclass(frozen=True)
class GenerationSettings:
    """How prompts are answered.

    Raises:
        ConfigError: a number out of range.
    """

    max_tokens: int = 256
    """Of the longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn (nucleus of 0.95)."""
    seed: int = 0
    """For drawing, anew for each prompt; the same seed gives the same answer on the same machine."""
    context: int = 4096
    """Tokens of prompt and answer together; a model trained for fewer keeps its own limit."""
    chat: bool = True
    """Whether prompts are laid out by the model's own chat template."""
    sandbox: bool = True
    """False runs the process with nothing but a clean environment: only for models you trust."""
    threads: int | None = None
    """Of the CPU; by default one for a small model, else those this process may use."""
    memory_bytes: int | None = None
    """Address space that the process may take beyond its libraries; by default sized from the model."""
    timeout_s: float = 600.0
    """The longest silence, while loading as between two tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}", hint="ask for at least one token")
        if not 0 <= self.temperature <= 100:
            raise ConfigError(
                f"temperature is {self.temperature:g}", hint="0 is greedy, 1 is the model's own distribution"
            )
        if self.context < 2:
            raise ConfigError(f"context is {self.context} tokens", hint="prompt and answer must fit in it")
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout is {self.timeout_s:g} s", hint="600 suits all but the largest models")


USUAL = GenerationSettings()


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
    settings: GenerationSettings = USUAL,
    *,
    adapter: Applied | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    """Answer one prompt; as ``generate_each`` else."""
    (answer,) = generate_each(path, format, (prompt,), settings, adapter=adapter, on_text=on_text)
    return answer


def generate_each(
    path: Path,
    format: Format,  # noqa: A002  # the word of the domain
    prompts: Sequence[str],
    settings: GenerationSettings = USUAL,
    *,
    adapter: Applied | None = None,
    on_text: Callable[[str], None] | None = None,
    on_answer: Callable[[int], None] | None = None,
) -> tuple[Generation, ...]:
    """Answer each of ``prompts``, in their order, with the model at ``path``, which is loaded once.

    No prompt sees another: each answer is the one that the prompt alone gets. No process is left behind, however this
    ends.

    Args:
        path: a GGUF file, or the directory of a SafeTensors or MLX variant; verified by the caller.
        format: what ``path`` is.
        prompts: at least one: a user's messages, or with ``chat=False`` (or a model without a chat template) texts to
            continue.
        settings: how each of them is answered.
        adapter: an adapter of this very model, in the form that the format's runtime takes; verified by the caller.
        on_text: called with each piece of each answer as it comes; whole characters.
        on_answer: called with the number of prompts that are answered, after each.

    Raises:
        ConfigError: no prompt, a format that takes no adapter, or a prompt that does not fit the context; of several
            prompts the message begins with that one.
        NotFoundError: nothing is at ``path``.
        FormatError: the model is damaged, crashes its runtime, or has a template that fails.
        BackendMissingError: the runtime is not installed; the hint names the extra.
        UnavailableError: no sandbox here, not enough memory, no answer in time.
    """
    if not prompts:
        raise ConfigError("no prompt", hint="give at least one")
    _require_runnable(path, format, settings, adapter)
    listening = _Listening(time.monotonic(), on_text or (lambda _: None), on_answer or (lambda _: None))
    with model_process(_request(path, format, prompts, settings, adapter)) as running:
        try:
            for event in events(running, settings.timeout_s):
                if isinstance(event, Ready) and settings.sandbox:
                    running.drop_scratch()
                listening.hear(event)
                if len(listening.answers) == len(prompts):
                    return tuple(listening.answers)
        except ConfigError as error:
            if len(prompts) == 1:
                raise
            raise ConfigError(f"{prompts[len(listening.answers)]!r:.60}: {error.message}", hint=error.hint) from error
    raise FormatError(f"the model process ended without an answer from {path.name}")


def _require_runnable(path: Path, format: Format, settings: GenerationSettings, adapter: Applied | None) -> None:  # noqa: A002
    if not path.exists():
        raise NotFoundError(f"no such model: {path}")
    if adapter and format not in ADAPTED:
        raise ConfigError(f"{format} takes no adapter", hint=f"these do: {', '.join(ADAPTED)}")
    if format in UNCONFINED and settings.sandbox:
        if not has_tensorrt_llm():
            loader(format)  # says what to install
        raise UnavailableError(f"{format} starts processes that no sandbox allows", hint=NO_SANDBOX_HINT)


def _request(
    path: Path,
    format: Format,  # noqa: A002
    prompts: Sequence[str],
    settings: GenerationSettings,
    adapter: Applied | None,
) -> Request:
    weights = _weight_bytes(path) + (_weight_bytes(adapter.path) if adapter else 0)
    return Request(
        path=str(path.absolute()),
        format=format,
        prompts=tuple(prompts),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed % (1 << 32),
        context=settings.context,
        chat=settings.chat,
        sandbox=settings.sandbox,
        memory_bytes=settings.memory_bytes or _memory_bytes(weights),
        threads=settings.threads or _threads(weights),
        parent_pid=os.getpid(),
        adapter=str(adapter.path.absolute()) if adapter else "",
        scale=adapter.scale if adapter else 1.0,
    )


@dataclass
class _Listening:
    """What a model process has said so far."""

    started: float
    on_text: Callable[[str], None]
    on_answer: Callable[[int], None]
    load_s: float = 0.0
    parts: list[str] = field(default_factory=list)
    answers: list[Generation] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take note of an event, and pass it on to whom it concerns."""
        if isinstance(event, Ready):
            self.load_s = time.monotonic() - self.started
        elif isinstance(event, Text):
            self.parts.append(event.text)
            self.on_text(event.text)
        elif isinstance(event, Done):
            self.answers.append(_generation("".join(self.parts), event, self.load_s))
            self.parts.clear()
            self.on_answer(len(self.answers))


def _generation(text: str, done: Done, load_s: float) -> Generation:
    seconds = done.last_token_s - done.first_token_s
    speed = (done.tokens - 1) / seconds if done.tokens > 1 and seconds > 0 else 0.0
    return Generation(text, done.prompt_tokens, done.tokens, done.finish, speed, done.first_token_s, load_s)


def _weight_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    return sum(file.stat().st_size for file in files)


def _memory_bytes(weights: int) -> int:
    return int(weights * _WEIGHTS_SHARE) + max(_CACHE_BYTES, weights) + _WORKING_BYTES


def _threads(weights: int) -> int:
    return 1 if weights < _ONE_THREAD_BYTES else usable_processors()
