"""The child of ``llama``: reads one request on stdin, answers on stdout. Run as a module, never imported."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main() -> None:
    """Answer with token ids as JSON, or with logits as raw float32."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever llama.cpp prints is talk
    if "texts" in request:
        data = tokens(request["path"], request["texts"], request["special"])
    else:
        data = logits(request["path"], request["sequences"], request["threads"])
    with os.fdopen(answers, "wb") as out:
        out.write(data)


def tokens(path: str, texts: list[str], special: bool) -> bytes:
    """Token ids of each text, as JSON."""
    from llama_cpp import Llama

    llama = Llama(path, vocab_only=True, verbose=False)
    return json.dumps([llama.tokenize(text.encode(), add_bos=special, special=True) for text in texts]).encode()


def logits(path: str, sequences: list[list[int]], threads: int) -> bytes:
    """Logits at every position of each sequence, as float32, one sequence after the other."""
    import numpy as np
    from llama_cpp import Llama

    longest = max(len(ids) for ids in sequences)
    llama: Any = Llama(path, n_ctx=longest, n_batch=longest, n_threads=threads, logits_all=True, verbose=False)
    parts = []
    for ids in sequences:
        llama.reset()
        llama.eval(ids)
        parts.append(np.array(llama.scores[: len(ids)], np.float32))
    return np.concatenate(parts).tobytes()


if __name__ == "__main__":
    main()
