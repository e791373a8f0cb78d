"""The child of ``llama``: reads one request on stdin, answers on stdout. Run as a module, never imported."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main() -> None:
    """Answer with token ids as JSON, or with logits or vectors as raw float32."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever llama.cpp prints is talk
    if "texts" in request:
        data = tokens(request["path"], request["texts"])
    elif "pooling" in request:
        data = vectors(request["path"], request["sequences"], request["pooling"], request["threads"])
    else:
        data = logits(request["path"], request["sequences"], request["threads"])
    with os.fdopen(answers, "wb") as out:
        out.write(data)


def tokens(path: str, texts: list[str]) -> bytes:
    """Token ids of each text, without and with what the tokenizer puts around it, as JSON."""
    from llama_cpp import Llama

    llama = Llama(path, vocab_only=True, verbose=False)
    found = [
        [llama.tokenize(text.encode(), add_bos=around, special=True) for text in texts] for around in (False, True)
    ]
    return json.dumps(found).encode()


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


def vectors(path: str, sequences: list[list[int]], pooling: int, threads: int) -> bytes:
    """One vector a sequence, as float32."""
    import llama_cpp
    import numpy as np

    longest = max(len(ids) for ids in sequences)
    sizes: Any = {"n_ctx": longest, "n_batch": longest, "n_ubatch": longest, "n_threads": threads}
    llama: Any = llama_cpp.Llama(path, embedding=True, pooling_type=pooling, verbose=False, **sizes)
    parts = []
    for ids in sequences:
        llama._batch.reset()  # the public call takes text, and would tokenise it again
        llama._batch.add_sequence(ids, 0, False)
        llama._ctx.kv_cache_clear()
        llama._ctx.decode(llama._batch)
        found = llama_cpp.llama_get_embeddings_seq(llama._ctx.ctx, 0)
        parts.append(np.array(found[: llama.n_embd()], np.float32))
    return np.concatenate(parts).tobytes()


if __name__ == "__main__":
    main()
