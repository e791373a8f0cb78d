"""What the libraries of a run raise, told in one line; where memory ran out, with the setting that needs less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from citrate.core.errors import NO_ROOM, TrainingError, UnavailableError

LESS_TO_LOAD = "quantization: nf4 holds the base in a quarter of float32, precision: bfloat16 in half of it"
LESS_OF_A_STEP = "halve batch_size and double accumulation, lower max_length, or quantization: nf4"
_RAISED = (ValueError, RuntimeError, OSError, LookupError, MemoryError)
_MEMORY = ("t allocate memory", "unable to allocate", "out of memory", "insufficient memory", "bad_alloc")
"""What torch ("can't"), the kernel ("cannot"), MLX, CUDA, Metal and C++ say then."""
_TEXT_MAX = 300


@contextmanager
def telling(what: str, *, memory: str, less: str, hint: str = "") -> Iterator[None]:
    """Tell what is raised within as a TrainingError, and a full disk as an UnavailableError.

    Args:
        what: what failed, such as ``training failed``.
        memory: what memory was wanted for, such as ``a step``.
        less: the settings with which it needs less of it.
        hint: what to do otherwise.
    """
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, _RAISED) or _is_of_a_tokenizer(error)):
            raise
        if is_want_of_memory(error):
            raise TrainingError(f"there is not enough memory for {memory}", hint=less) from error
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise UnavailableError(f"{what}: {error.strerror}", hint="free some space, and run it again") from error
        raise TrainingError(f"{what}: {' '.join(str(error).split())[:_TEXT_MAX]}", hint=hint) from error


def _is_of_a_tokenizer(error: BaseException) -> bool:
    """Whether the library that cuts text raised it: a plain Exception where it refuses its file, and what is none
    where it panics."""
    return type(error) is Exception or type(error).__module__ == "pyo3_runtime"


def is_want_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU (whose error is a RuntimeError)."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY)
