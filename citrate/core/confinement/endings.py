"""What the end of a child says: its exit code and its last words, which may come from a hostile file."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

from citrate.core import errors
from citrate.core.errors import CitrateError, ConfigError, FormatError, UnavailableError

STDERR_KEPT_BYTES = 16_384
_ERROR_WORDS = ("error", "failed", "invalid")
_OUT_OF_MEMORY = (
    *("bad_alloc", "cannot allocate", "failed to allocate", "out of memory", "unable to allocate"),
    "memory allocation of",  # Rust's
    "can't allocate memory",  # torch's
)
_PASSED_ON = (ConfigError, UnavailableError, FormatError, errors.BackendMissingError)

_SET_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # its backtrace would start a debugger
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLX_DISABLE_COMPILE": "1",  # on Linux it compiles by starting a compiler, which the sandbox refuses
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_KEPT_ENVIRONMENT = frozenset({"PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "OMP_", "MKL_", "OPENBLAS_", "GGML_", "DYLD_")


def environment(ours: Mapping[str, str], scratch: str) -> dict[str, str]:
    """What a child may know: never keys or passwords. Caches and temporary files go to ``scratch``."""
    kept = {k: v for k, v in ours.items() if k in _KEPT_ENVIRONMENT or k.startswith(_KEPT_PREFIXES)}
    caches = dict.fromkeys(("TMPDIR", "HF_HOME", "XDG_CACHE_HOME"), scratch)
    return {**kept, **_SET_ENVIRONMENT, **caches}


def failure(kind: str, message: str, hint: str, talk: bytes, memory_hint: str) -> CitrateError:
    """A child's error as ours: one of ours by name, or it is damage.

    Args:
        kind: the class that the child names.
        message: what it says; made one printable line.
        hint: what it advises.
        talk: the end of its stderr.
        memory_hint: what to do if it was memory that it lacked.
    """
    known = {cls.__name__: cls for cls in _PASSED_ON}
    cls, message, why = known.get(kind, FormatError), printable(message), last_error(talk)
    if cls is FormatError and is_out_of_memory(talk):
        return no_memory(memory_hint)
    if cls is FormatError and why and ":" not in message:
        message += f": {why}"
    return cls(message, hint=printable(hint))


def crash(code: int, talk: bytes, what: str, memory_hint: str) -> CitrateError:
    """The error of a child that ended without an answer; ``what`` is the sentence that its way of ending completes."""
    if code == -signal.SIGKILL:
        return UnavailableError("the model process was killed, probably for want of memory", hint=memory_hint)
    if is_out_of_memory(talk):
        return no_memory(memory_hint)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    why = last_error(talk)
    return FormatError(f"{what} ({how}){f': {why}' if why else ''}")


def no_memory(hint: str) -> UnavailableError:
    """The error of a child that ran into its memory limit."""
    return UnavailableError("the model needs more memory than it may take", hint=hint)


def is_out_of_memory(talk: bytes) -> bool:
    """Whether a library complained of memory."""
    text = talk.decode(errors="replace").lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY)


def last_error(talk: bytes) -> str:
    """The first line of a child's stderr that speaks of an error; empty if none does."""
    lines = talk.decode(errors="replace").splitlines()
    line = next((line for line in lines if any(word in line.lower() for word in _ERROR_WORDS)), "")
    return re.sub(r"\S*/(?=\S)", "", printable(line)).strip()[:200]  # a path says only where the runtime was built


def printable(text: str) -> str:
    """One line without control characters: the text may come from a hostile file."""
    return "".join(c for c in text.replace("\n", " ") if c.isprintable())
