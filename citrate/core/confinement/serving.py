"""The child's side of `child.ask`: put up the walls, read one request, answer it, end.

Order matters: first die with the parent, then give up the files that are not needed, then load the libraries, then lock
down, and only then look at the file.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from citrate.core.canonical import Json
from citrate.core.confinement import sandbox
from citrate.core.errors import CitrateError, FormatError

Request: TypeAlias = Mapping[str, Json]


def serve(answer: Callable[[Request], bytes], prepare: Callable[[], None] | None = None) -> int:
    """Answer the request on stdin; returns the exit code. The main function of a child.

    Args:
        answer: called behind the walls.
        prepare: imports what ``answer`` needs, before the walls that would refuse it.
    """
    return serve_documents(lambda request, _: answer(request), prepare)


def serve_documents(
    answer: Callable[[Request, Sequence[bytes]], bytes], prepare: Callable[[], None] | None = None
) -> int:
    """As ``serve``; ``answer`` gets the documents that the parent sent along, too."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is talk, not protocol
    envelope = json.loads(sys.stdin.buffer.readline())
    sandbox.die_with_parent(int(envelope["parent_pid"]))
    documents = [sys.stdin.buffer.read(size) for size in envelope["document_bytes"]]
    try:
        sandbox.restrict_files([Path(path) for path in envelope["reads"]], Path(os.environ["TMPDIR"]))
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        if prepare is not None:
            prepare()
        sandbox.lock_down(int(envelope["memory_bytes"]), envelope["processor_seconds"])
        data = answer(envelope["request"], documents)
    except CitrateError as error:
        return _refuse(out, type(error).__name__, error.message, error.hint)
    except MemoryError:
        return _refuse(out, MemoryError.__name__, "reading this takes more memory than it may", "")
    except Exception as error:  # noqa: BLE001  # the process boundary: whatever a hostile file provokes is one line
        return _refuse(out, FormatError.__name__, f"{type(error).__name__}: {error}"[:500], "")
    _send(out, json.dumps({"error": "", "message": "", "hint": ""}).encode() + b"\n")
    _send(out, data)
    return 0


def _refuse(out: int, kind: str, message: str, hint: str) -> int:
    _send(out, json.dumps({"error": kind, "message": message[:4000], "hint": hint[:4000]}).encode() + b"\n")
    return 1


def _send(out: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(out, left) :]


def _end_with_stdin() -> None:
    """The parent keeps our stdin open while it lives; its end is our end, on every platform."""
    while os.read(0, 4096):
        pass
    os._exit(1)
