"""Parsing of what several commands take: variants, check levels, what is allowed, tasks."""

from __future__ import annotations

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import SHA256_PATTERN, Task, Variant
from citrate.registry.cid import Cid
from citrate.registry.permission import ALLOWED

PROFILE_HELP = "unixfs-v1-2025, or citrate-tensor-v1: cut at tensors, so that versions share those that stay."


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


def hash_of(text: str | None, flag: str) -> str:
    """A SHA-256 or Merkle root in hex, with ``0x`` or without; empty for None.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return ""
    digits = text.strip().lower().removeprefix("0x")
    if not SHA256_PATTERN.fullmatch(digits) or not int(digits, 16):
        raise ConfigError(f"{flag} {text[:80]!r} is no hash", hint="a hash is 64 hex digits, not all of them zero")
    return digits


def check_level(text: str | None) -> str | None:
    """``full`` or ``tensors``.

    Raises:
        ConfigError: anything else.
    """
    if text not in (None, "full", "tensors"):
        raise ConfigError(f"--checks {text!r} is not known", hint="--checks full or --checks tensors")
    return text


def cid(text: str) -> str:
    """A CID alone, in its usual text; the callback of the arguments that take one.

    Raises:
        ConfigError: it is none, or a path follows.
    """
    alone, slash, _ = text.partition("/")
    try:
        found = str(Cid.parse(alone))
    except FormatError as error:
        raise ConfigError(error.message, hint=error.hint) from error
    if slash:
        raise ConfigError(
            f"{text[:200]!r} is a CID and a path, and this takes a CID alone",
            hint=f"citrate cat {text[:200]} prints it",
        )
    return found


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
