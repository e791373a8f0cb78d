"""The child of ``llama``: answers one request behind walls. Run as a module, never imported."""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from citrate.core.confinement.serving import serve
from citrate.core.errors import FormatError

_PIECE_MAX = 1 << 16
"""Bytes; a longer token would read as nothing, and fail the gate."""


def prepare() -> None:
    """Import what starts threads or looks for files, before that is refused."""
    import llama_cpp  # noqa: F401
    import numpy  # noqa: F401


def answer(request: Any) -> bytes:
    """Token ids as JSON, or logits or vectors as raw float32.

    Raises:
        FormatError: llama.cpp does not take the file or cannot evaluate it; its own words are on stderr.
    """
    try:
        if "texts" in request:
            return tokens(request["path"], request["texts"])
        if "pooling" in request:
            return vectors(request["path"], request["sequences"], request["pooling"], request["threads"])
        adapter = {"lora_path": request["adapter"], "lora_scale": request["scale"]} if "adapter" in request else {}
        return logits(request["path"], request["sequences"], request["threads"], adapter)
    except (ValueError, RuntimeError, AssertionError, UnicodeDecodeError) as error:
        raise FormatError("llama.cpp cannot use what was written") from error


def tokens(path: str, texts: list[str]) -> bytes:
    """Token ids of each text, without and with what the tokenizer puts around it, and the former as text, as JSON."""
    from llama_cpp import Llama

    llama = Llama(path, vocab_only=True, verbose=False)
    found = [
        [llama.tokenize(text.encode(), add_bos=around, special=True) for text in texts] for around in (False, True)
    ]
    return json.dumps([*found, [spelled(llama, ids) for ids in found[0]]]).encode()


def spelled(llama: Any, ids: list[int]) -> str:
    """The text that ``ids`` add up to, special tokens spelled out; llama.cpp's own detokenizer would tidy it up."""
    import llama_cpp

    vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
    buffer = ctypes.create_string_buffer(_PIECE_MAX)
    sizes = (llama_cpp.llama_token_to_piece(vocabulary, token, buffer, _PIECE_MAX, 0, True) for token in ids)
    return b"".join(buffer.raw[:size] for size in sizes).decode(errors="replace")


def logits(path: str, sequences: list[list[int]], threads: int, adapter: dict[str, Any]) -> bytes:
    """Logits at every position of each sequence, as float32, one sequence after the other."""
    import numpy as np
    from llama_cpp import Llama

    longest = max(len(ids) for ids in sequences)
    sizes: Any = {"n_ctx": longest, "n_batch": longest, "n_threads": threads}
    llama: Any = Llama(path, logits_all=True, verbose=True, **sizes, **adapter)
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
    llama: Any = llama_cpp.Llama(path, embedding=True, pooling_type=pooling, verbose=True, **sizes)
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
    sys.exit(serve(answer, prepare))
