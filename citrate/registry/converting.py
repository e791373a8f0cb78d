"""One conversion to a path of the user's, checked, without the store: `citrate convert`."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from citrate import formats
from citrate.core.errors import AlreadyExistsError, CitrateError
from citrate.core.records import Artifact, Check, Variant
from citrate.core.sink import Progress
from citrate.registry.store import Store


@dataclass(frozen=True)
class Converted:
    """A variant that was written to ``path``, with the checks it passed."""

    path: Path
    artifact: Artifact
    checks: tuple[Check, ...]


def convert_to_path(
    source: Path, variant: Variant, out: Path | None, level: str | None, progress: Progress | None
) -> Converted:
    """Convert a model directory to one variant at ``out``, which must not exist: all of it, or nothing.

    Args:
        source: a model directory.
        variant: what to write.
        out: the file (GGUF) or folder to write; default: ``NAME-QUANTIZATION`` in the working folder.
        level: ``full``, ``tensors`` or None for the default of the model's size.
        progress: told of each stage.

    Raises:
        AlreadyExistsError: ``out`` exists.
        UnsupportedConversionError: this architecture cannot be written so; the message lists what is possible.
        FormatError: a check fails.
    """
    model = formats.open_model(source)
    target = out or Path(default_name(source, variant))
    if target.exists():
        raise AlreadyExistsError(f"{target} exists", hint="choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".citrate-convert-", dir=target.parent) as folder:
            store = Store(Path(folder))
            with store.writer(bare=formats.is_bare(variant)) as writer:
                conversion = formats.convert(model, variant, writer, name=model_name(source), progress=progress)
                artifact = writer.commit()
            path = store.get(artifact.cid)
            checks = formats.check(
                model, variant, path, level=level or formats.default_check_level(model), progress=progress
            )
            path.chmod(0o755 if path.is_dir() else 0o644)
            path.rename(target)
    except OSError as error:
        raise CitrateError(f"{target} cannot be written: {error.strerror}", hint="choose another --out") from error
    return Converted(target, artifact, (*conversion.checks, *checks))


def model_name(source: Path) -> str:
    """The folder's name, as a model may be called."""
    name = re.sub(r"[^a-z0-9._-]+", "-", source.resolve().name.lower()).strip("-._")[:64]
    return name or "model"


def default_name(source: Path, variant: Variant) -> str:
    """``tiny-llama-Q4_K_M.gguf``, ``tiny-llama-mlx-4bit``."""
    name = model_name(source)
    if formats.is_bare(variant):
        return f"{name}-{variant.quantization}.{variant.format}"
    return "-".join(part for part in (name, str(variant.format), variant.quantization, variant.target) if part)
