"""MLX through mlx-lm: Apple silicon, and (slowly) any CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import load as load_mlx

from citrate.core.adapters import Applied
from citrate.core.errors import FormatError
from citrate.inference.engines import Sampling
from citrate.inference.engines.incremental import IncrementalText

_NO_END = 1 << 30


def load(path: Path, context: int, threads: int, adapter: Applied | None = None) -> MlxModel:
    """Load an MLX directory, with an adapter of mlx-lm's on it. ``threads`` is MLX's own affair.

    Raises:
        FormatError: mlx-lm does not take it, or it asks for its own code.
    """
    del threads
    if mx.default_device().type == mx.DeviceType.cpu:
        # There MLX compiles by the machine's C++ compiler, into a folder whose name anybody can foretell.
        mx.disable_compile()
    try:
        loaded = load_mlx(
            str(path),
            tokenizer_config={"trust_remote_code": False},
            adapter_path=str(adapter.path) if adapter else None,
            return_config=True,
            trust_remote_code=False,
        )
        model, tokenizer, config = cast("tuple[Module, TokenizerWrapper, dict[str, int]]", loaded)
    except MemoryError:
        raise
    except Exception as error:  # a hostile directory can make it raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FormatError(f"mlx-lm cannot load {path.name}: {reason[0]}") from error
    if adapter:
        for layer in model.modules():  # type: ignore[no-untyped-call]  # mlx has no annotation there
            if "lora_a" in layer:
                layer.scale *= adapter.scale
    return MlxModel(model, tokenizer, min(context, int(config.get("max_position_embeddings") or context)))


class MlxModel:
    """A causal language model in MLX."""

    def __init__(self, model: Module, tokenizer: TokenizerWrapper, context: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.context = context
        template = getattr(tokenizer, "chat_template", None)
        self.chat_template = template if isinstance(template, str) else ""
        names = getattr(tokenizer, "special_tokens_map", {})
        self.special_tokens = {str(name): str(value) for name, value in names.items()}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [int(t) for t in self._tokenizer.encode(text, add_special_tokens=add_special_tokens)]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        mx.random.seed(sampling.seed)
        sampler = make_sampler(temp=sampling.temperature, top_p=sampling.top_p)
        text = IncrementalText(lambda ids: str(self._tokenizer.decode(list(ids), skip_special_tokens=True)))
        for token, _ in generate_step(mx.array(list(prompt)), self._model, max_tokens=_NO_END, sampler=sampler):
            if int(token) in self._tokenizer.eos_token_ids:
                break
            yield text.push(int(token))
