"""transformers' own class of a model, evaluated layer by layer: no more of it is in memory than one layer.

The class gets config.json and our arrays; it never sees the folder, nor a file of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats.configuration import Config, canonical_config
from citrate.formats.documents import parse_object

if TYPE_CHECKING:
    import torch

Pieces: TypeAlias = Iterator[tuple[int, NDArray[np.float32]]]
"""First row, and rows as flat float32."""

Weights: TypeAlias = Mapping[str, Callable[[], Pieces]]
"""The weights of a model by parameter name, each read when it is asked for."""

Outputs: TypeAlias = NDArray[np.float32]
"""Logits: positions x vocabulary; or vectors: texts x hidden size."""

LAYER = re.compile(r"(.*\blayers?\.\d+)\..*")
"""Parameter names of what is loaded and dropped together; anything else by the module that holds it."""

_QUANTIZED = ("quantization", "quantization_config")
_GIVEN = ("model_type", "dtype", "torch_dtype")


def built(config: Config, *, pooled: bool, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """The class for ``config``, its parameters without memory (torch's device ``meta``).

    Args:
        config: the model's configuration.
        pooled: whether vectors are wanted rather than logits.
        dtype: of the parameters; float32 by default.

    Raises:
        FormatError: transformers cannot build it.
        BackendMissingError: torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f"the logit check needs {error.name}", hint="pip install 'citrate[training]', or use --checks tensors"
        ) from error
    document = parse_object(canonical_config(config), "config.json")
    for key in (*_QUANTIZED, *_GIVEN):
        document.pop(key, None)
    build: Callable[..., torch.nn.Module] = (AutoModel if pooled else AutoModelForCausalLM).from_config
    settings = {"add_pooling_layer": False} if pooled else {}
    try:
        with _hollow():
            made = AutoConfig.for_model(config.model_type, **document)
            return build(made, dtype=dtype or torch.float32, attn_implementation="eager", **settings).eval()
    except Exception as error:
        raise FormatError(f"transformers cannot build this config.json: {first_line(error)}") from error


def evaluate(network: torch.nn.Module, weights: Weights, sequences: Sequence[Sequence[int]], pooled: str) -> Outputs:
    """Evaluate ``sequences``, all at once, with each layer's weights read once and dropped behind it.

    Args:
        network: from ``built``; hooks may have been put on it.
        weights: every parameter's.
        sequences: token ids.
        pooled: how each sequence becomes one vector; empty for logits at every position.

    Raises:
        FormatError: weights do not fill the model exactly, or transformers cannot run it.
    """
    import torch

    _require_same_names(network, weights)
    longest = max(len(ids) for ids in sequences)
    padding = getattr(network.config, "pad_token_id", None) or 0
    ids = torch.tensor([[*sequence, *[padding] * (longest - len(sequence))] for sequence in sequences])
    mask = torch.tensor([[1] * len(sequence) + [0] * (longest - len(sequence)) for sequence in sequences])
    with _streamed(network, weights), torch.inference_mode():
        try:
            output = network(input_ids=ids, attention_mask=mask, use_cache=False)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise FormatError(f"transformers cannot run this model: {first_line(error)}") from error
    values = getattr(output, "last_hidden_state" if pooled else "logits").to(torch.float32).numpy()
    rows = zip(values, sequences, strict=True)
    return np.concatenate([_pooled(row[: len(sequence)], pooled) for row, sequence in rows])


def materialized(network: torch.nn.Module, weights: Weights) -> torch.nn.Module:
    """``network`` with all of its weights in memory; raises as ``evaluate`` does."""
    import torch

    _require_same_names(network, weights)
    loaded: dict[str, torch.nn.Parameter] = {}
    for name, source in _sources(network, weights).items():
        if source not in loaded:
            values = fill(network.get_parameter(name), source, weights[source]())
            loaded[source] = torch.nn.Parameter(values, requires_grad=False)
        owner, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(owner), attribute, loaded[source])
    return network


def fill(parameter: torch.Tensor, name: str, pieces: Pieces) -> torch.Tensor:
    """``pieces`` as a tensor of the shape and type of ``parameter``.

    Raises:
        FormatError: they are too many or too few.
    """
    import torch

    filled = torch.empty(parameter.shape, dtype=parameter.dtype)
    flat, width, missing = filled.view(-1), parameter.shape[-1] if parameter.dim() > 1 else 1, parameter.numel()
    for first, values in pieces:
        start = first * width
        if start + values.size > flat.numel():
            raise FormatError(f"tensor {name!r} has too many weights")
        flat[start : start + values.size] = torch.from_numpy(values)
        missing -= values.size
    if missing:
        raise FormatError(f"tensor {name!r} was not filled exactly")
    return filled


def first_line(error: Exception) -> str:
    """What an error of somebody else's says, on one line."""
    return str(error).partition("\n")[0][:200]


@contextmanager
def _hollow() -> Iterator[None]:
    """Build modules without memory for their parameters; buffers, which are computed, stay real."""
    import torch

    register = torch.nn.Module.register_parameter

    def hollow(module: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:  # a tied one comes twice, and stays one
            param = torch.nn.Parameter(param.to("meta"), requires_grad=False)
        register(module, name, param)

    torch.nn.Module.register_parameter = hollow  # type: ignore[method-assign, assignment]  # put back below
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]  # as above


def _sources(network: torch.nn.Module, weights: Weights) -> dict[str, str]:
    """Parameter -> name in ``weights``; a tied output matrix has the embedding's."""
    named = dict(network.named_parameters(remove_duplicate=False))
    given = {id(parameter): name for name, parameter in named.items() if name in weights}
    return {name: given.get(id(parameter), name) for name, parameter in named.items()}


def _require_same_names(network: torch.nn.Module, weights: Weights) -> None:
    sources = _sources(network, weights)
    for name in sorted(weights.keys() - sources.keys()):
        raise FormatError(f"tensor {name!r} is none of the model's parameters")
    for name in sorted(set(sources.values()) - weights.keys()):
        raise FormatError(f"tensor {name!r} is missing")


@contextmanager
def _streamed(network: torch.nn.Module, weights: Weights) -> Iterator[None]:
    """Give each block its weights when it is called, and take them away behind it."""
    blocks: dict[str, dict[str, str]] = {}
    for name, source in _sources(network, weights).items():
        layer = LAYER.fullmatch(name)
        blocks.setdefault(layer[1] if layer else name.rpartition(".")[0], {})[name] = source
    hooks = []
    for path, names in blocks.items():
        block = _Block(network, names, weights)
        module = network.get_submodule(path)
        hooks += [module.register_forward_pre_hook(block.load), module.register_forward_hook(block.drop)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Block:
    """Parameters that are in memory together."""

    def __init__(self, network: torch.nn.Module, names: Mapping[str, str], weights: Weights) -> None:
        self._weights, self._names = weights, names
        self._owners = {name: network.get_submodule(name.rpartition(".")[0]) for name in names}
        self._empty = {name: network.get_parameter(name) for name in names}

    def load(self, *_: object) -> None:
        """Read the weights; a hook, so that what it is called with does not matter."""
        import torch

        for name, source in self._names.items():
            values = fill(self._empty[name], source, self._weights[source]())
            setattr(self._owners[name], name.rpartition(".")[2], torch.nn.Parameter(values, requires_grad=False))

    def drop(self, *_: object) -> None:
        """Forget them."""
        for name, owner in self._owners.items():
            setattr(owner, name.rpartition(".")[2], self._empty[name])


def _pooled(vectors: Outputs, mode: str) -> Outputs:
    """One row of a sequence's vectors; all of them where nothing is pooled."""
    if mode == "mean":
        mean: Outputs = vectors.mean(axis=0, keepdims=True)
        return mean
    return {"cls": vectors[:1], "lasttoken": vectors[-1:]}.get(mode, vectors)
