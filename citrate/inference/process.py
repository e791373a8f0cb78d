"""The parent's side of a model process: start it, read it, end it, and say in one error what went wrong there."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from citrate.core import errors
from citrate.core.confinement import sandbox
from citrate.core.errors import CitrateError, ConfigError, FormatError, UnavailableError
from citrate.inference.protocol import MAX_LINE_BYTES, Event, Failure, Request, decode_event, encode_request

_STDERR_KEPT_BYTES = 16_384
_KEPT_ENVIRONMENT = frozenset({"PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "OMP_", "MKL_", "OPENBLAS_", "GGML_", "DYLD_")
_SET_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # its backtrace would start a debugger
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLX_DISABLE_COMPILE": "1",  # on Linux it compiles by starting a compiler, which the sandbox refuses
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_MEMORY_HINT = "a smaller variant or a shorter context needs less: citrate select"
_ERROR_WORDS = ("error", "failed", "invalid")
_OUT_OF_MEMORY = ("bad_alloc", "cannot allocate", "failed to allocate", "out of memory", "unable to allocate")


@dataclass(frozen=True)
class ModelProcess:
    """A child that has its request."""

    process: subprocess.Popen[bytes]
    scratch: Path
    """Its folder for temporary files, which only the loading of libraries needs."""

    def drop_scratch(self) -> None:
        """Remove the folder early, so that not even a parent that is killed leaves it behind."""
        shutil.rmtree(self.scratch, ignore_errors=True)


@contextmanager
def model_process(request: Request) -> Iterator[ModelProcess]:
    """Start the child and hand it the request; kill it at the end, whatever the end is."""
    # -P: a folder that happens to be the working one must not be searched for modules.
    command = [sys.executable, "-P", "-m", "citrate.inference.worker"]
    with tempfile.TemporaryDirectory(prefix="citrate-run-", ignore_cleanup_errors=True) as scratch:
        process = subprocess.Popen(
            sandbox.wrap(command, Path(scratch)) if request.sandbox else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(os.environ, scratch),
            start_new_session=True,  # Ctrl-C is for us: we end it
        )
        try:
            _hand_over(process, request)
            yield ModelProcess(process, Path(scratch))
        finally:
            _end(process)


def _hand_over(process: subprocess.Popen[bytes], request: Request) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once: the reader says why
        process.stdin.write(encode_request(request))
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def _environment(ours: Mapping[str, str], scratch: str) -> dict[str, str]:
    """What the child may know: never keys or passwords. Caches and temporary files go to ``scratch``."""
    kept = {k: v for k, v in ours.items() if k in _KEPT_ENVIRONMENT or k.startswith(_KEPT_PREFIXES)}
    caches = dict.fromkeys(("TMPDIR", "HF_HOME", "XDG_CACHE_HOME"), scratch)
    return {**kept, **_SET_ENVIRONMENT, **caches}


def events(running: ModelProcess, timeout_s: float) -> Iterator[Event]:
    """Yield what the child says; a failure, a crash or silence becomes the error it means."""
    process = running.process
    assert process.stdout is not None and process.stderr is not None
    said, talk = b"", b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        deadline = time.monotonic() + timeout_s
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise UnavailableError(
                    f"the model process said nothing for {timeout_s:g} s", hint="a smaller variant may answer in time"
                )
            for key, _ in ready:
                chunk = os.read(key.fd, 65_536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    talk = (talk + chunk)[-_STDERR_KEPT_BYTES:]
                else:
                    deadline = time.monotonic() + timeout_s
                    *lines, said = (said + chunk).split(b"\n")
                    yield from _parse(lines, said, talk)
    raise _crash(process.wait(), talk)


def _parse(lines: list[bytes], rest: bytes, talk: bytes) -> Iterator[Event]:
    try:
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("line too long")
        events = [decode_event(line) for line in lines]
    except ValueError as error:
        raise FormatError(f"the model process answers nonsense: {error}") from error
    for event in events:
        if isinstance(event, Failure):
            raise _failure(event, talk)
        yield event


def _failure(failure: Failure, talk: bytes) -> CitrateError:
    """The child's error as ours; one of ours by name, or it is damage."""
    kind = getattr(errors, failure.type, FormatError)
    if kind not in (ConfigError, UnavailableError, FormatError, errors.BackendMissingError):
        kind = FormatError
    message, why = _printable(failure.message), _last_error(talk)
    if kind is FormatError and _is_out_of_memory(talk):
        return _no_memory()
    if kind is FormatError and why and ":" not in message:
        message += f": {why}"
    return kind(message, hint=_printable(failure.hint))


def _crash(code: int, talk: bytes) -> CitrateError:
    if code == -signal.SIGKILL:
        return UnavailableError("the model process was killed, probably for want of memory", hint=_MEMORY_HINT)
    if _is_out_of_memory(talk):
        return _no_memory()
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    why = _last_error(talk)
    return FormatError(f"the model crashed its runtime ({how}){f': {why}' if why else ''}")


def _no_memory() -> UnavailableError:
    return UnavailableError("the model needs more memory than it may take", hint=_MEMORY_HINT)


def _is_out_of_memory(talk: bytes) -> bool:
    text = talk.decode(errors="replace").lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY)


def _last_error(talk: bytes) -> str:
    """The first line of the child's stderr that speaks of an error; empty if none does."""
    lines = talk.decode(errors="replace").splitlines()
    line = next((line for line in lines if any(word in line.lower() for word in _ERROR_WORDS)), "")
    return re.sub(r"\S*/(?=\S)", "", _printable(line)).strip()[:200]  # a path says only where the runtime was built


def _printable(text: str) -> str:
    """One line without control characters: the text may come from a hostile file."""
    return "".join(c for c in text.replace("\n", " ") if c.isprintable())
