"""Adapters from one format to another: PEFT's, mlx-lm's and llama.cpp's; what was written is read back and compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.canonical import Json
from citrate.core.errors import ConfigError, FormatError, UnsupportedConversionError
from citrate.core.records import Check, Format, Variant, did_you_mean
from citrate.core.sink import Sink
from citrate.formats.adapter import MLX_WEIGHTS, WEIGHTS, open_adapter, write
from citrate.formats.adapter_config import CONFIG
from citrate.formats.adapter_gguf import QUANTIZATIONS, read_gguf, slots_of, write_gguf
from citrate.formats.adapter_mlx import from_mlx, write_mlx, write_weights
from citrate.formats.adapter_updates import ReadBack, Updates, from_peft
from citrate.formats.conversion import Conversion, converter_version
from citrate.formats.documents import pretty
from citrate.formats.measure import rounded_up
from citrate.formats.safetensors import write_file
from citrate.formats.source import SourceModel

_LIMITS = {"F16": 0.001, "BF16": 0.004}
_EXACT = 1e-6
"""What float32 loses where a difference of scales goes into B, and in ``alpha``; 0 is usual."""


def is_adapter(path: Path) -> bool:
    """Whether a directory is an adapter rather than a model."""
    return (path / CONFIG).is_file() and not (path / "config.json").exists()


def open_updates(path: Path) -> Updates:
    """Open an adapter of PEFT or mlx-lm for conversion.

    Raises:
        NotFoundError: a file of it is missing.
        FormatError: it is damaged.
        UnsupportedConversionError: a kind of adapter that other formats cannot say.
    """
    mlx = (path / MLX_WEIGHTS).exists() and not (path / WEIGHTS).exists()
    return from_mlx(path) if mlx else from_peft(path)


def adapter_variant(variant: Variant) -> Variant:
    """``variant`` with its quantization said: that of GGUF is F32, if nothing is.

    Raises:
        UnsupportedConversionError: adapters are not written so.
    """
    if variant == Variant(Format.GGUF):
        return Variant(Format.GGUF, QUANTIZATIONS[0])
    possible = [Variant(Format.SAFETENSORS), Variant(Format.MLX), *(Variant(Format.GGUF, q) for q in QUANTIZATIONS)]
    if variant not in possible:
        hint = f"{did_you_mean(variant, possible)}possible: {', '.join(map(str, possible))}"
        raise UnsupportedConversionError(f"an adapter cannot become {variant}", hint=hint)
    return variant


def convert_adapter(
    source: Updates, variant: Variant, sink: Sink, *, base: SourceModel | None = None, name: str = "adapter"
) -> Conversion:
    """Write ``source`` as ``variant`` into ``sink``; the same adapter, base and name give the same bytes.

    Args:
        source: from ``open_updates``.
        variant: safetensors (PEFT's form), mlx, or gguf in ``F32``, ``F16`` or ``BF16``.
        sink: takes the files.
        base: the model that it was trained on. GGUF needs it; where it is given, every update must fit it.
        name: written into GGUF metadata and the file's name.

    Raises:
        ConfigError: GGUF without ``base``.
        UnsupportedConversionError: the base, or the update of an embedding, cannot be said in that format.
        FormatError: an update does not fit the base, or holds NaN or infinite weights.
    """
    variant = adapter_variant(variant)
    if base is not None:
        slots_of(source, base)
    _require_applied_alike(source, variant, base)
    if variant.format is Format.GGUF:
        if base is None:
            raise ConfigError("an adapter in GGUF needs its base model", hint="--base DIR, the model directory")
        write_gguf(source, base, variant.quantization, sink, name)
    elif variant.format is Format.MLX:
        write_mlx(source, sink, base.config.layers if base else 0)
    elif source.format is Format.SAFETENSORS:
        write(open_adapter(source.root), sink, lambda *_: None)
    else:
        _write_peft(source, sink)
    return Conversion(
        variant=variant,
        checks=(),
        converter="citrate.formats.adapter_conversion",
        version=converter_version(),
        arguments={"name": name} if variant.format is Format.GGUF else {},
        source_dtype=source.source_dtype,
        bare=variant.format is Format.GGUF,
    )


def check_adapter(source: Updates, variant: Variant, path: Path, base: SourceModel | None) -> tuple[Check, ...]:
    """Read back what was written at ``path`` and compare each update's factors with the source's.

    Raises:
        FormatError: a factor differs by more than its type allows, or is missing.
    """
    limit = _LIMITS.get(variant.quantization, _EXACT)
    worst = 0.0
    modules = []
    for found in _read_back(source, variant, path, base):
        a, b = found.update.factors()
        scaled = b.wide * np.float32(found.update.scale)
        worst = max(worst, _error(a.wide, found.a), _error(scaled, found.scaled_b))
        modules.append(found.update.module)
    if modules != [update.module for update in source.updates] or not worst <= limit:
        raise FormatError(
            f"check 'factors' failed: {rounded_up(worst)} from the source, limit {limit}, {len(modules)} updates",
            hint="this is a fault of the converter: please report it",
        )
    return (Check("factors", True, rounded_up(worst), rounded_up(limit)),)


def _require_applied_alike(source: Updates, variant: Variant, base: SourceModel | None) -> None:
    """Refuse the update of an embedding where it may also be the output: MLX updates both then, PEFT the one."""
    embeddings = [update.module for update in source.updates if update.embedding]
    if embeddings and variant.format is not source.format and (base is None or base.config.tied):
        raise UnsupportedConversionError(
            f"the adapter updates {embeddings[0]}, which formats apply differently where it is the output, too",
            hint="--base DIR names the base, if it does not tie them",
        )


def _write_peft(source: Updates, sink: Sink) -> None:
    """Write PEFT's form, as ``open_adapter`` takes it."""
    tensors = []
    for update in source.updates:
        a, b = update.factors()
        stem = f"base_model.model.{update.module}.lora_"
        kind, end = ("embedding_", "") if update.embedding else ("", ".weight")
        tensors += [(f"{stem}{kind}A{end}", a), (f"{stem}{kind}B{end}", b)]
    rank, scale = source.updates[0].rank, source.updates[0].scale
    document: dict[str, Json] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source.base or None,
        "r": rank,
        "lora_alpha": float(f"{scale * rank:.12g}"),  # 0.7 * 8 is 5.6 again
        "lora_dropout": 0.0,
        "target_modules": [update.module for update in source.updates],
        "modules_to_save": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_dora": False,
        "use_rslora": False,
    }
    write_weights(sink, WEIGHTS, tensors, "pt")
    write_file(sink, CONFIG, pretty(document))
    for companion in source.companions:
        write_file(sink, companion.name, companion.read())


def _read_back(source: Updates, variant: Variant, path: Path, base: SourceModel | None) -> Iterator[ReadBack]:
    if variant.format is Format.GGUF:
        assert base is not None, "it was needed to write"
        yield from read_gguf(path, source, base)
        return
    written = {update.module: update for update in open_updates(path).updates}
    for update in source.updates:
        if update.module not in written:
            raise FormatError(f"what was written lacks the update of {update.module}")
        a, b = written[update.module].factors()
        scaled = b.wide * np.float32(written[update.module].scale)
        yield ReadBack(update, a.wide[: update.rank], scaled[:, : update.rank])  # past it are zeros


def _error(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest value."""
    if wanted.shape != found.shape:
        return float("inf")
    largest = float(np.abs(wanted).max())
    difference = float(np.abs(wanted.astype(np.float64) - found).max())
    return difference / largest if largest else difference
