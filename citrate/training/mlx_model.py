"""The model that MLX trains: loaded by mlx-lm, mlx-lm's LoRA layers in it, its adapter as PEFT has it.

mlx-lm's factors lie the other way round: its ``lora_a`` is [in, rank], PEFT's A is [rank, in].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model

from citrate.core.canonical import Json
from citrate.core.errors import TrainingError
from citrate.core.records import FileEntry, Format, Variant
from citrate.core.sink import Buffer
from citrate.formats.adapter import MLX_WEIGHTS
from citrate.formats.adapter_config import CONFIG
from citrate.formats.adapter_conversion import convert_adapter, open_updates
from citrate.formats.configuration import canonical_config
from citrate.formats.documents import pretty
from citrate.formats.source import SourceModel, open_model
from citrate.training.recipe import Lora, Recipe

if TYPE_CHECKING:
    import torch

_LINEAR = (Linear, QuantizedLinear)
_PREFIX, _SUFFIX = "base_model.model.", ".weight"


class Model:
    """A base with an adapter on it that is trained."""

    def __init__(self, base: Path, recipe: Recipe) -> None:
        """Load it, with the adapter's first weights drawn from MLX's random generator.

        Raises:
            FormatError: the base is damaged.
            TrainingError: mlx-lm does not take it, or it has no such layers.
        """
        source = open_model(base)
        self._lora = recipe.lora
        self.module = _loaded(source)
        self.module.set_dtype(getattr(mx, recipe.precision))
        self.module.freeze()
        self._targets = _targets(self.module, recipe.lora.targets)
        _require_same_names(source, self._targets)
        linear_to_lora_layers(self.module, 0, {**self._parameters(), "keys": set(self._targets)})
        self.module.train()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the adapter's factors, named and laid out as PEFT has them."""
        found = flat(self.module.trainable_parameters())
        return {_peft_name(name): tensor_of(value).T.contiguous() for name, value in found.items()}

    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put factors into it that ``weights`` gave."""
        found = [(_mlx_name(name), mx.array(tensor.T.contiguous().numpy())) for name, tensor in weights.items()]
        self.module.load_weights(found, strict=False)

    def write_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's form; beside it, in ``mlx/``, as mlx-lm writes one."""
        mlx = folder / "mlx"
        mlx.mkdir(parents=True)
        mx.save_safetensors(str(mlx / MLX_WEIGHTS), flat(self.module.trainable_parameters()))
        document: dict[str, Json] = {
            "fine_tune_type": "lora",
            "num_layers": len(self.module.layers),
            "lora_parameters": {**self._parameters(), "keys": [*self._targets]},
        }
        (mlx / CONFIG).write_bytes(pretty(document))
        convert_adapter(open_updates(mlx), Variant(Format.SAFETENSORS), _Folder(folder))

    def _parameters(self) -> dict[str, Json]:
        lora: Lora = self._lora
        return {"rank": lora.rank, "scale": lora.alpha / lora.rank, "dropout": float(lora.dropout)}


def tensor_of(value: mx.array) -> torch.Tensor:
    """A copy of an array of MLX; integers without a sign become int64, which safetensors has everywhere."""
    import torch

    plain = np.array(value)
    return torch.from_numpy(plain.astype(np.int64) if plain.dtype.kind == "u" else plain)


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of MLX, by dotted names."""
    return cast("dict[str, mx.array]", tree_flatten(tree, destination={}))


def nested(arrays: Mapping[str, mx.array]) -> Any:
    """The tree that ``flat`` gave the arrays of."""
    return tree_unflatten(dict(arrays))


def _loaded(source: SourceModel) -> Any:
    settings = json.loads(canonical_config(source.config))  # mlx-lm reads the old names of rotary parameters only
    try:
        model, _ = load_model(source.root, model_config=settings, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # whatever a folder that it does not know makes it raise
        raise TrainingError(
            f"mlx-lm cannot load the base: {' '.join(str(error).split())[:300]}",
            hint="backend: trl trains what transformers loads",
        ) from error
    return model


def _targets(model: Any, wanted: Sequence[str] | str) -> list[str]:
    """The paths of the layers that get an update: those named, or all linear ones but the output, as PEFT has it."""
    linear = [path for path, module in model.named_modules() if isinstance(module, _LINEAR)]
    if isinstance(wanted, str):
        return sorted(path for path in linear if ".layers." in path)
    found: set[str] = set()
    for name in wanted:
        named = [path for path in linear if path == name or path.endswith(f".{name}")]
        if not named:
            raise TrainingError(
                f"the base has no linear layer {name[:80]!r}", hint="lora.targets: all-linear, or names such as q_proj"
            )
        found.update(named)
    return sorted(found)


def _require_same_names(source: SourceModel, targets: Sequence[str]) -> None:
    """PEFT's form names layers as the base's files do; a family that mlx-lm renames would get an adapter of nothing."""
    names = {tensor.name for tensor in source.tensors}
    other = next((target for target in targets if f"{target}.weight" not in names), None)
    if other is not None:
        raise TrainingError(
            f"mlx-lm calls a layer {other}, and the base's files do not", hint="backend: trl trains this family"
        )


def _peft_name(name: str) -> str:
    module, _, side = name.rpartition(".lora_")
    return f"{_PREFIX}{module}.lora_{side.upper()}{_SUFFIX}"


def _mlx_name(name: str) -> str:
    module, _, side = name.removeprefix(_PREFIX).removesuffix(_SUFFIX).rpartition(".lora_")
    return f"{module}.lora_{side.lower()}"


class _Folder:
    """A sink that is a folder of a run's own, which nobody else looks at yet."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, size_bytes: int | None = None) -> _File:  # noqa: ARG002 - nothing to reserve
        return _File(self._root / path)


class _File:
    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("xb")

    def write(self, data: Buffer) -> None:
        self._file.write(data)

    def close(self) -> FileEntry:
        """Its hashes are left out: it is hashed when it is stored."""
        self._file.close()
        return FileEntry(self._path.name, self._path.stat().st_size, "", "")
