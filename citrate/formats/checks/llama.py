"""Ask llama.cpp, in a child process behind walls and with limits: a file that it cannot load may abort it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.adapters import Applied
from citrate.core.canonical import Json
from citrate.core.confinement.child import Limits, ask
from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats.checks.tokens import Tokenized, believed, nonsense
from citrate.formats.streaming import default_threads

_TIMEOUT_S = 3600.0
_WEIGHTS_SHARE = 2.5
"""Address space for weights: the mapped file, a copy in the layout that the CPU likes best, and slack."""
_WORKING_BYTES = 4 << 30
"""Address space (not memory) for buffers, cache, thread stacks and allocator arenas."""
_TOKENS_MAX_BYTES = 64 << 20


def tokenize(path: Path, texts: Sequence[str]) -> Tokenized:
    """What the tokenizer inside a GGUF file makes of ``texts``; raises as ``logits`` does."""
    answer = _ask({"texts": list(texts)}, path, _TOKENS_MAX_BYTES)
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise nonsense(path.name) from error
    return believed(said, len(texts), path.name)


def logits(
    path: Path, sequences: Sequence[Sequence[int]], vocabulary: int, adapter: Applied | None = None
) -> NDArray[np.float32]:
    """Logits of a GGUF file, with an adapter on it, at every position of ``sequences``: positions x ``vocabulary``.

    Raises:
        FormatError: llama.cpp cannot load or evaluate the file.
        BackendMissingError: llama-cpp-python is not installed.
    """
    wanted = vocabulary * sum(len(ids) for ids in sequences)
    request = _evaluation(sequences)
    if adapter:
        request |= {"adapter": str(adapter.path.absolute()), "scale": adapter.scale}
    answer = _ask(request, path, 4 * wanted, adapter)
    if len(answer) != 4 * wanted:
        raise FormatError(f"llama.cpp reads another vocabulary in {path.name} than its source has")
    return np.frombuffer(answer, np.float32).reshape(-1, vocabulary)


def vectors(path: Path, sequences: Sequence[Sequence[int]], pooling: int, width: int) -> NDArray[np.float32]:
    """One vector for each of ``sequences`` by a GGUF file: sequences x ``width``; raises as ``logits`` does.

    Args:
        path: the file.
        sequences: token ids.
        pooling: llama.cpp's number of how a text's tokens become one vector.
        width: the model's hidden size.
    """
    request = {**_evaluation(sequences), "pooling": pooling}
    answer = _ask(request, path, 4 * width * len(sequences))
    if len(answer) != 4 * width * len(sequences):
        raise FormatError(f"llama.cpp reads other vectors in {path.name} than its source has")
    return np.frombuffer(answer, np.float32).reshape(-1, width)


def _evaluation(sequences: Sequence[Sequence[int]]) -> dict[str, Json]:
    return {"sequences": [list(ids) for ids in sequences], "threads": default_threads()}


def _ask(request: Mapping[str, Json], path: Path, answer_bytes: int, adapter: Applied | None = None) -> bytearray:
    if importlib.util.find_spec("llama_cpp") is None:
        raise BackendMissingError("checking GGUF needs llama-cpp-python", hint="pip install 'citrate[gguf]'")
    files = [path, adapter.path] if adapter else [path]
    memory = int(sum(file.stat().st_size for file in files) * _WEIGHTS_SHARE) + 4 * answer_bytes + _WORKING_BYTES
    return ask(
        "citrate.formats.checks.llama_process",
        {**request, "path": str(path.absolute())},
        [file.absolute() for file in files],
        Limits(memory, _TIMEOUT_S, answer_bytes),
        what=f"{path.name}, given to llama.cpp,",
        memory_hint="check it on a machine with more memory, or with --checks tensors",
    )
