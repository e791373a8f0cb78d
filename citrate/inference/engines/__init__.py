"""The runtimes behind `generate`: one file a format, each with a function ``load``. Only model processes import them.

Adding a runtime is adding a file here and a line to ``MODULES``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from citrate.core.adapters import Applied
from citrate.core.errors import BackendMissingError
from citrate.core.records import Format

MODULES: Mapping[Format, tuple[str, str]] = {
    Format.GGUF: ("citrate.inference.engines.gguf", "gguf"),
    Format.SAFETENSORS: ("citrate.inference.engines.transformers", "training"),
    Format.MLX: ("citrate.inference.engines.mlx", "mlx"),
    Format.TENSORRT_LLM: ("citrate.inference.engines.tensorrt_llm", ""),
}
"""Format -> (module, the extra of citrate that brings what it imports; TensorRT-LLM pins too much for an extra)."""
ADAPTED: Mapping[Format, tuple[str, ...]] = {
    Format.GGUF: (),
    Format.SAFETENSORS: ("peft",),
    Format.MLX: ("mlx_lm.tuner.utils",),
}
"""The formats that take an adapter -> what their runtimes import for it, before anything is read."""
_TENSORRT_LLM = "install TensorRT-LLM beside citrate, as NVIDIA says for this GPU, or name another: #gguf:Q4_K_M"


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. ``temperature`` 0 takes the likeliest; ``top_p`` matters above 0 only."""

    temperature: float
    seed: int
    top_p: float = 0.95


class Engine(Protocol):
    """A loaded model."""

    context: int
    """Tokens of prompt and answer together that it can hold."""
    chat_template: str
    """Empty where the model has none."""
    special_tokens: Mapping[str, str]
    """``bos_token``, ``eos_token``: what chat templates name."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of ``text``; special tokens written in it are recognised."""
        ...

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        """Yield, for each further token, the text that it completes, until the model ends.

        Inside a character that spans tokens that is nothing; one left incomplete at the end is dropped.
        """
        ...


class Load(Protocol):
    """How a runtime loads a model."""

    def __call__(self, path: Path, context: int, threads: int, adapter: Applied | None = None) -> Engine:
        """Load the model at ``path``, with ``adapter`` on it; ``context`` is the most tokens wanted.

        Raises:
            FormatError: it cannot be loaded.
            MemoryError: it takes more than there is.
        """
        ...


def loader(format: Format, *, adapted: bool = False) -> Load:  # noqa: A002  # the word of the domain
    """Import the runtime of ``format``, heavy libraries included, and return its ``load``.

    Args:
        format: what is to be loaded.
        adapted: import what an adapter needs, too.

    Raises:
        BackendMissingError: its library is not installed.
    """
    module, extra = MODULES[format]
    try:
        for needed in ADAPTED[format] if adapted else ():
            importlib.import_module(needed)
        return cast(Load, importlib.import_module(module).load)
    except ImportError as error:
        raise BackendMissingError(
            f"{format} needs {error.name or 'a library'}, which is not installed",
            hint=f"pip install 'citrate[{extra}]'" if extra else _TENSORRT_LLM,
        ) from error
