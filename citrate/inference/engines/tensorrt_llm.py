"""TensorRT-LLM checkpoints through TensorRT-LLM's own Python interface, where NVIDIA's package is installed.

Written against its documented interface (``LLM``, ``SamplingParams``, ``generate_async``); not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorrt_llm
import transformers

from citrate.core.adapters import Applied
from citrate.core.errors import FormatError
from citrate.inference.engines import Sampling
from citrate.inference.engines.incremental import IncrementalText


def load(path: Path, context: int, threads: int, adapter: Applied | None = None) -> TensorRtLlm:
    """Load a checkpoint on the GPU, which takes no adapter (``ADAPTED``).

    Raises:
        FormatError: TensorRT-LLM does not take it.
    """
    del threads, adapter
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = tensorrt_llm.LLM(model=str(path), max_seq_len=context, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # whatever its loaders raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FormatError(f"TensorRT-LLM cannot load {path.name}: {reason[0]}") from error
    return TensorRtLlm(model, tokenizer, context)


class TensorRtLlm:
    """A model in TensorRT-LLM."""

    def __init__(self, model: tensorrt_llm.LLM, tokenizer: transformers.PreTrainedTokenizerBase, context: int) -> None:
        self._model, self._tokenizer, self.context = model, tokenizer, context
        template = tokenizer.chat_template
        self.chat_template = template if isinstance(template, str) else ""
        self.special_tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [int(token) for token in self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        wanted = drawn if sampling.temperature else {"top_k": 1}
        parameters = tensorrt_llm.SamplingParams(max_tokens=self.context - len(prompt), **wanted)
        text = IncrementalText(lambda ids: str(self._tokenizer.decode(list(ids), skip_special_tokens=True)))
        running = self._model.generate_async(list(prompt), parameters, streaming=True)
        seen = 0
        try:
            for answer in running:
                tokens = answer.outputs[0].token_ids
                yield from (text.push(int(token)) for token in tokens[seen:])
                seen = len(tokens)
        finally:
            running.abort()
