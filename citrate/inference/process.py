"""The parent's side of a model process: start it, read it, end it, and say in one error what went wrong there."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from citrate.core.confinement import endings, sandbox
from citrate.core.errors import FormatError, UnavailableError
from citrate.inference.protocol import MAX_LINE_BYTES, Event, Failure, Request, decode_event, encode_request

_MEMORY_HINT = "a smaller variant or a shorter context needs less: citrate select"


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
            env=endings.environment(os.environ, scratch),
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
                    talk = (talk + chunk)[-endings.STDERR_KEPT_BYTES :]
                else:
                    deadline = time.monotonic() + timeout_s
                    *lines, said = (said + chunk).split(b"\n")
                    yield from _parse(lines, said, talk)
    raise endings.crash(process.wait(), talk, "the model crashed its runtime", _MEMORY_HINT)


def _parse(lines: list[bytes], rest: bytes, talk: bytes) -> Iterator[Event]:
    try:
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("line too long")
        events = [decode_event(line) for line in lines]
    except ValueError as error:
        raise FormatError(f"the model process answers nonsense: {error}") from error
    for event in events:
        if isinstance(event, Failure):
            raise endings.failure(event.type, event.message, event.hint, talk, _MEMORY_HINT)
        yield event
