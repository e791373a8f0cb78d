"""GGUF through llama.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import llama_cpp

from citrate.core.adapters import Applied
from citrate.core.errors import FormatError
from citrate.inference.engines import Sampling
from citrate.inference.engines.incremental import IncrementalText


def load(path: Path, context: int, threads: int, adapter: Applied | None = None) -> LlamaCpp:
    """Load a GGUF file, with an adapter (GGUF, too) beside it.

    Its window is ``context`` tokens, or what the model was trained for where that is smaller.

    Raises:
        FormatError: llama.cpp does not take it; its own words are on stderr.
    """
    try:
        llama = llama_cpp.Llama(
            str(path),
            n_ctx=context,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=-1,
            lora_path=str(adapter.path) if adapter else None,
            lora_scale=adapter.scale if adapter else 1.0,
            verbose=True,  # on stderr, of which the parent keeps the end: nothing else says why a file is refused
        )
    except (ValueError, RuntimeError, AssertionError, UnicodeDecodeError) as error:
        beside = " with this adapter" if adapter else ""
        raise FormatError(f"llama.cpp cannot load {path.name}{beside}") from error
    trained = int(llama_cpp.llama_model_n_ctx_train(llama.model))
    if trained < 1:
        raise FormatError(f"{path.name} says that its model was trained for {trained} tokens of context")
    return LlamaCpp(llama, min(context, trained))


class LlamaCpp:
    """A model in llama.cpp."""

    def __init__(self, llama: llama_cpp.Llama, context: int) -> None:
        self._llama = llama
        self._vocab = llama_cpp.llama_model_get_vocab(llama.model)
        self.context = context
        metadata: Mapping[str, str] = llama.metadata
        self.chat_template = metadata.get("tokenizer.chat_template", "")
        self.special_tokens = {
            "bos_token": self._spelling(llama_cpp.llama_vocab_bos(self._vocab)),
            "eos_token": self._spelling(llama_cpp.llama_vocab_eos(self._vocab)),
        }

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [int(t) for t in self._llama.tokenize(text.encode(), add_bos=add_special_tokens, special=True)]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        self._llama.set_seed(sampling.seed)
        # what an earlier prompt left in the cache was computed in other batches, and has other last bits
        self._llama.reset()  # type: ignore[no-untyped-call]  # llama_cpp has no annotation there
        text = IncrementalText(self._decode)
        tokens = self._llama.generate(
            prompt, temp=sampling.temperature, top_p=sampling.top_p, top_k=0, min_p=0.0, repeat_penalty=1.0
        )
        for token in tokens:
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                return
            yield text.push(int(token))

    def _decode(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``, special ones left out. (`Llama.detokenize` cuts tokens longer than 32 bytes.)"""
        ids, size = (llama_cpp.llama_token * len(tokens))(*tokens), 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_detokenize(self._vocab, ids, len(tokens), buffer, size, False, False)
            if length >= 0:
                return buffer.raw[:length].decode(errors="replace")
            size = -length  # what it takes

    def _spelling(self, token: int) -> str:
        if token < 0:
            return ""
        text = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return bytes(text or b"").decode(errors="replace")
