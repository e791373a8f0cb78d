"""The parent's side of a child that answers one request about a hostile file, and ends.

The request is a line of JSON on its stdin, the answer comes on its stdout: a line of JSON that says whether it went
well, then bytes that only the caller understands. The parent believes nothing of it beyond its length.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.confinement import endings, sandbox
from citrate.core.errors import CitrateError, FormatError, UnavailableError

HEAD_MAX_BYTES = 1 << 16
_HINT = "do not use this file"


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    memory_bytes: int
    """Address space beyond what its libraries need."""
    seconds: float
    """From its start to its end."""
    answer_bytes: int
    processor_seconds: int | None = None
    """Of its own work, however busy the machine is; None: as many as ``seconds`` leave it."""


def ask(
    module: str,
    request: Mapping[str, Json],
    reads: Sequence[Path],
    limits: Limits,
    *,
    what: str,
    memory_hint: str = "",
    documents: Sequence[bytes] = (),
) -> bytearray:
    """Have ``python -m module`` (which calls ``serving.serve``) answer ``request`` behind walls.

    Args:
        module: of this package; it is the program, nothing of the request reaches a command line.
        request: what ``serve`` hands to the module's function.
        reads: absolute paths of the files and folders that the child may read beside libraries.
        limits: what it may take.
        what: the file, as messages call it.
        memory_hint: what to do where it wants more memory.
        documents: what the child shall look at and has no file of, for a child that calls ``serving.serve_documents``.

    Returns:
        The answer's bytes, at most ``limits.answer_bytes``.

    Raises:
        FormatError: the child says so, crashes, does not end in time or answers too much: the file is at fault.
        BackendMissingError: the child lacks a library.
        UnavailableError: no sandbox here, or not enough memory.
    """
    envelope: dict[str, object] = {
        "parent_pid": os.getpid(), "reads": [str(path) for path in reads], "memory_bytes": limits.memory_bytes,
        "processor_seconds": limits.processor_seconds, "document_bytes": [len(document) for document in documents],
        "request": dict(request),
    }  # fmt: skip
    sent = b"".join((json.dumps(envelope).encode(), b"\n", *documents))
    with tempfile.TemporaryDirectory(prefix="citrate-child-", ignore_cleanup_errors=True) as scratch:
        # -P: a folder that happens to be the working one must not be searched for modules.
        command = sandbox.wrap([sys.executable, "-P", "-m", module], Path(scratch))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=endings.environment(os.environ, scratch),
            start_new_session=True,  # Ctrl-C is for us: we end it
        )
        try:
            said, talk = _exchange(process, sent, limits, what)
            if process.returncode == -signal.SIGXCPU:
                raise _too_busy(limits, what)
            return _answer(said, talk, process.returncode, what, memory_hint)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


def _exchange(process: subprocess.Popen[bytes], sent: bytes, limits: Limits, what: str) -> tuple[bytearray, bytes]:
    """Send the request while reading; returns all of stdout and the end of stderr once both are closed."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    said, talk, left, listening = bytearray(), b"", memoryview(sent), 2
    deadline = time.monotonic() + limits.seconds
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while listening:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _too_slow(limits, what)
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    left = _send(process, left)
                    if not left:  # it stays open: its end would tell the child that we have ended
                        selector.unregister(process.stdin)
                    continue
                chunk = os.read(key.fd, 1 << 20)
                if not chunk:
                    selector.unregister(key.fileobj)
                    listening -= 1
                elif key.fileobj is process.stderr:
                    talk = (talk + chunk)[-endings.STDERR_KEPT_BYTES :]
                else:
                    said += chunk
                    if len(said) > limits.answer_bytes + HEAD_MAX_BYTES:
                        raise FormatError(f"{what} makes its reader say too much", hint=_HINT)
    try:
        process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _too_slow(limits, what) from None
    return said, talk


def _too_slow(limits: Limits, what: str) -> FormatError:
    return FormatError(f"{what} was not read within {limits.seconds:g} s", hint=_HINT)


def _too_busy(limits: Limits, what: str) -> FormatError:
    return FormatError(f"{what} takes its reader more than {limits.processor_seconds} s of processor time", hint=_HINT)


def _send(process: subprocess.Popen[bytes], left: memoryview) -> memoryview:
    assert process.stdin is not None
    try:
        return left[os.write(process.stdin.fileno(), left) :]
    except BrokenPipeError:  # it died at once: its end says why
        return left[:0]


def _answer(said: bytearray, talk: bytes, code: int, what: str, memory_hint: str) -> bytearray:
    """The answer behind its head; ``said`` is used up."""
    end = said.find(b"\n", 0, HEAD_MAX_BYTES)
    if end < 0:
        raise endings.crash(code, talk, f"{what} crashed its reader", memory_hint)
    try:
        told = json.loads(said[:end])
        kind, message, hint = (str(told[key]) for key in ("error", "message", "hint"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"{what} makes its reader answer nonsense", hint=_HINT) from error
    if kind:
        raise _told(kind, message, hint, talk, memory_hint)
    if code:
        raise endings.crash(code, talk, f"{what} crashed its reader", memory_hint)
    del said[: end + 1]
    return said


def _told(kind: str, message: str, hint: str, talk: bytes, memory_hint: str) -> CitrateError:
    if kind == MemoryError.__name__:
        return UnavailableError(message, hint=memory_hint)
    return endings.failure(kind, message, hint, talk, memory_hint)
