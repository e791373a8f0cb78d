"""Parsing of what several commands take: variants, check levels, what is allowed, tasks."""

from __future__ import annotations

from citrate.core.errors import ConfigError
from citrate.core.records import Task, Variant
from citrate.registry.permission import ALLOWED


def variants(text: str | None) -> tuple[Variant, ...] | None:
    """Parse ``safetensors,gguf:Q4_K_M``; None stays None.

    Raises:
        ConfigError: an empty list or an unknown format.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError("--variants is empty", hint="for example --variants safetensors,gguf:Q4_K_M")
    return tuple(map(Variant.parse, parts))


def check_level(text: str | None) -> str | None:
    """``full`` or ``tensors``.

    Raises:
        ConfigError: anything else.
    """
    if text not in (None, "full", "tensors"):
        raise ConfigError(f"--checks {text!r} is not known", hint="--checks full or --checks tensors")
    return text


def allowed(text: str | None) -> frozenset[str]:
    """Parse ``--allow deprecated,quarantined``.

    Raises:
        ConfigError: another word.
    """
    words = frozenset(word.strip() for word in (text or "").split(",") if word.strip())
    for word in words:
        if word not in ALLOWED:
            raise ConfigError(f"--allow {word!r} is not known", hint=f"--allow {','.join(ALLOWED)}")
    return words


def task(text: str) -> Task:
    """``inference`` or ``training``.

    Raises:
        ConfigError: anything else.
    """
    if text not in list(Task):
        raise ConfigError(f"--task {text!r} is not known", hint=f"--task {' or '.join(Task)}")
    return Task(text)
