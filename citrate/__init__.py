"""An on-chain model registry with IPFS storage: publish once, fetch anywhere, verify every byte.

The whole of it, from a model directory to text; the first write starts a local chain and makes a key:

    >>> from citrate import Registry
    >>> registry = Registry.open(home=home)
    >>> published = registry.register_model("examples/tiny-llama", name="tiny-llama", variants="safetensors,gguf:Q8_0")
    >>> published.status
    'published'

Anyone who reads the same chain names the model, without downloading a byte of it:

    >>> record = registry.resolve("me/tiny-llama")
    >>> [str(variant.variant) for variant in record.variants]
    ['safetensors', 'gguf:Q8_0']

and asks which variant suits a machine, and why:

    >>> choice = registry.select("me/tiny-llama", device="cpu", memory_gb=32)
    >>> str(choice.variant)
    'gguf:Q8_0'

A pull fetches from the sources of the settings and verifies every byte before the path is returned; ``run`` loads
the model in a child process without network:

    >>> pulled = registry.pull("me/tiny-llama#gguf:Q8_0")
    >>> pulled.source
    'store'
    >>> registry.run("me/tiny-llama", "What is the capital of France?").text
    'The capital of France is Paris.'

Errors are ``citrate.core.errors``; each carries a message, a hint with the next command, and typed fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from citrate.core.settings import Settings as Settings
    from citrate.facade import Registry as Registry

__version__ = "0.1.0"

_LAZY = {"Registry": "citrate.facade", "Settings": "citrate.core.settings"}


def __getattr__(name: str) -> object:
    # PEP 562: `import citrate` costs nothing until a name is used
    if name not in _LAZY:
        raise AttributeError(f"module 'citrate' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
