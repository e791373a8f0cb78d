"""Ask llama.cpp, in a child process: a file that it cannot load may abort it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats.streaming import default_threads

_TIMEOUT_S = 3600
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH")


def tokenize(path: Path, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of ``texts`` by the tokenizer inside a GGUF file, without and with what it puts around them.

    Raises as ``logits`` does.
    """
    plain, special = json.loads(_ask({"path": str(path), "texts": list(texts)}))
    return plain, special


def logits(path: Path, sequences: Sequence[Sequence[int]], vocabulary: int) -> NDArray[np.float32]:
    """Logits of a GGUF file at every position of ``sequences``: positions x ``vocabulary``.

    Raises:
        FormatError: llama.cpp cannot load or evaluate the file.
        BackendMissingError: llama-cpp-python is not installed.
    """
    request = {"path": str(path), "sequences": [list(ids) for ids in sequences], "threads": default_threads()}
    answer = np.frombuffer(_ask(request), np.float32)
    if answer.size != vocabulary * sum(len(ids) for ids in sequences):
        raise FormatError(f"llama.cpp reads another vocabulary in {path.name} than its source has")
    return answer.reshape(-1, vocabulary)


def vectors(path: Path, sequences: Sequence[Sequence[int]], pooling: int, width: int) -> NDArray[np.float32]:
    """One vector for each of ``sequences`` by a GGUF file: sequences x ``width``; raises as ``logits`` does.

    Args:
        path: the file.
        sequences: token ids.
        pooling: llama.cpp's number of how a text's tokens become one vector.
        width: the model's hidden size.
    """
    request = {"path": str(path), "sequences": [list(ids) for ids in sequences], "threads": default_threads()}
    answer = np.frombuffer(_ask({**request, "pooling": pooling}), np.float32)
    if answer.size != width * len(sequences):
        raise FormatError(f"llama.cpp reads other vectors in {path.name} than its source has")
    return answer.reshape(-1, width)


def _ask(request: object) -> bytes:
    if importlib.util.find_spec("llama_cpp") is None:
        raise BackendMissingError("checking GGUF needs llama-cpp-python", hint="pip install 'citrate[gguf]'")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["GGML_NO_BACKTRACE"] = "1"  # an abort would otherwise start a debugger
    command = [sys.executable, "-m", "citrate.formats.checks.llama_process"]
    try:
        done = subprocess.run(  # nothing of the request reaches a command line
            command,
            input=json.dumps(request).encode(),
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FormatError(f"llama.cpp did not answer within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
        raise FormatError(f"llama.cpp cannot use what was written: {lines[-1][:200]}")
    return done.stdout
