"""A diffusers pipeline: several networks in folders of their own, named by model_index.json. Only passed on.

Layout: https://huggingface.co/docs/diffusers/using-diffusers/other-formats. Weights of a part are
``diffusion_pytorch_model.safetensors`` or ``model.safetensors``, or shards with an index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.companions import Companion, named, part_companion, root_companions
from citrate.formats.configuration import Config
from citrate.formats.documents import names_in, read_object
from citrate.formats.safetensors_file import Tensor
from citrate.formats.weights import PICKLED, PICKLES, Weights, read_weights

PIPELINE_CONFIG = "model_index.json"
_PART = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PARTS_MAX = 32
_STEMS = ("diffusion_pytorch_model", "model", "diffusion_pytorch_model.fp16", "model.fp16")
_PICKLED_STEMS = ("diffusion_pytorch_model", "pytorch_model")


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline consists of."""

    config: Config
    companions: tuple[Companion, ...]
    findings: tuple[str, ...]
    tensors: tuple[Tensor, ...]


def read_pipeline(root: Path) -> Pipeline:
    """Read model_index.json and the parts that it names.

    Raises:
        FormatError: malformed, a part is missing, or one has pickled weights only.
    """
    config = _config(root)
    published, dropped = root_companions(root)
    tensors: list[Tensor] = []
    findings: list[str] = []
    parts = _parts(config)
    for part in parts:
        names = _names(root, part)
        found = _weights(root, part, names)
        tensors += found.tensors
        findings += found.findings
        used = {tensor.path.name for tensor in found.tensors}
        for name in names:
            companion = part_companion(root, f"{part}/{name}")
            if companion:
                published.append(companion)
            elif name not in used and not name.endswith((".safetensors.index.json", ".bin.index.json")):
                dropped.append(f"{part}/{name}")
    if not tensors:
        raise FormatError(f"{root} is a pipeline without weights", hint="download its folders too")
    left = sorted(set(dropped) - set(parts))
    if left:
        findings.append(f"not published: {named(left)}")
    return Pipeline(config, tuple(sorted(published, key=lambda c: c.name)), tuple(findings), tuple(tensors))


def _config(root: Path) -> Config:
    """model_index.json as a configuration without the numbers of a language model."""
    document = read_object(root, PIPELINE_CONFIG)
    class_name = document.get("_class_name")
    if not isinstance(class_name, str):
        raise FormatError(f"{PIPELINE_CONFIG} does not say _class_name")
    return Config(document, class_name, "", 0, 0, 0, 0, 0, 0, 0)


def _parts(config: Config) -> list[str]:
    """The folders that the pipeline names: entries that are a library and a class."""
    parts = [
        key
        for key, value in config.document.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(half, str) for half in value)
    ]
    if len(parts) > _PARTS_MAX or not all(_PART.fullmatch(part) for part in parts):
        raise FormatError(f"{PIPELINE_CONFIG} names parts that no pipeline has")
    return sorted(parts)


def _names(root: Path, part: str) -> list[str]:
    folder = root / part
    if folder.is_symlink() or not folder.is_dir():
        raise FormatError(f"the pipeline's part {part!r} is missing", hint="download the whole pipeline")
    return names_in(folder)


def _weights(root: Path, part: str, names: Sequence[str]) -> Weights:
    """The tensors of a part; those of half precision where there are no others, and pickled ones last."""
    for stem in _STEMS:
        if any(name.startswith(f"{stem}.safetensors") for name in names):
            return read_weights(root, f"{part}/", stem)
    for stem in _PICKLED_STEMS:
        if any(name in (f"{stem}.bin", f"{stem}.bin.index.json") for name in names):
            return read_weights(root, f"{part}/", stem, PICKLED)
    others = [name for name in names if name.endswith((".safetensors", *PICKLES))]
    if others:
        raise FormatError(
            f"the pipeline's part {part!r} holds weights under names that no loader knows ({others[0]})",
            hint="download its diffusion_pytorch_model.safetensors or model.safetensors",
        )
    return Weights(())
