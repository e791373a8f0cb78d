"""GGUF through llama.cpp."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import llama_cpp

from citrate.core.errors import FormatError
from citrate.inference.engines import Sampling


def load(path: Path, context: int, threads: int) -> LlamaCpp:
    """Load a GGUF file with a window of ``context`` tokens, or the model's own where that is smaller.

    Raises:
        FormatError: llama.cpp does not take it; its own words are on stderr.
    """
    try:
        trained = _trained_context(path)
        llama = llama_cpp.Llama(
            str(path),
            n_ctx=min(context, trained or context),
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=-1,
            verbose=True,  # stderr, of which the parent keeps the end: the only place that says why a file is refused
        )
    except (ValueError, RuntimeError, AssertionError, UnicodeDecodeError) as error:
        raise FormatError(f"llama.cpp cannot load {path.name}") from error
    return LlamaCpp(llama)


def _trained_context(path: Path) -> int:
    """The context length that the model was trained for; 0 if the file does not say."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ValueError("not loadable")
    try:
        return int(llama_cpp.llama_model_n_ctx_train(model))
    finally:
        llama_cpp.llama_model_free(model)


class LlamaCpp:
    """A model in llama.cpp."""

    def __init__(self, llama: llama_cpp.Llama) -> None:
        self._llama = llama
        self._vocab = llama_cpp.llama_model_get_vocab(llama.model)
        self.context = int(llama.n_ctx())
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
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a character may span tokens
        tokens = self._llama.generate(
            prompt, temp=sampling.temperature, top_p=sampling.top_p, top_k=0, min_p=0.0, repeat_penalty=1.0
        )
        for token in tokens:
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                break
            yield decoder.decode(self._llama.detokenize([token], prev_tokens=list(prompt)))
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def _spelling(self, token: int) -> str:
        if token < 0:
            return ""
        text = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return bytes(text or b"").decode(errors="replace")
