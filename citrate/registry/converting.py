"""One conversion to a path of the user's, checked, without the store: `citrate convert`."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from citrate import formats
from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, StoreError, not_written
from citrate.core.records import Artifact, Check, Format, Variant
from citrate.core.sink import Progress, Sink
from citrate.formats import encoding
from citrate.formats.adapter_conversion import (
    adapter_variant,
    check_adapter,
    convert_adapter,
    is_adapter,
    open_updates,
)
from citrate.formats.adapter_predictions import check_predictions, require_comparable
from citrate.formats.encoding import Encoder
from citrate.formats.source import SourceModel
from citrate.registry.atomic import make_folder, sync_directory
from citrate.registry.store import Store
from citrate.registry.store.layout import is_no_room


@dataclass(frozen=True)
class Converted:
    """A variant that was written to ``path``, with the checks it passed."""

    path: Path
    artifact: Artifact
    checks: tuple[Check, ...]
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    """Of a GGUF file: what wrote each type, and why."""


def convert_to_path(
    source: Path,
    variant: Variant,
    out: Path | None,
    level: str | None,
    progress: Progress | None,
    base: Path | None = None,
) -> Converted:
    """Convert a model directory or an adapter to one variant at ``out``, which must not exist: all of it, or nothing.

    Args:
        source: a model directory; or an adapter of PEFT or mlx-lm.
        variant: what to write.
        out: the file (GGUF) or folder to write, outside ``source``; default: ``NAME-QUANTIZATION`` where we are.
        level: ``full``, ``tensors``, or None for the default: ``full`` where all that it takes is here; of an adapter
            ``tensors``, which compares its factors, where ``full`` has both forms predict on the base.
        progress: told of each stage.
        base: of an adapter: the model directory that it was trained on.

    Raises:
        AlreadyExistsError: ``out`` exists.
        ConfigError: a base for a model, none for an adapter in GGUF or checked in full, or ``out`` inside what is read.
        UnsupportedConversionError: this architecture cannot be written so; the message lists what is possible.
        FormatError: a check fails.
        BackendMissingError: what converts or checks it is not installed.
        UnavailableError: full checks, or ModelOpt, take more memory than there is; or the disk is full.
    """
    if is_adapter(source):
        return _convert_adapter(source, adapter_variant(variant), out, base, level == "full", progress)
    if base is not None:
        raise ConfigError(f"{source} is a model, and --base is for adapters", hint="leave --base out")
    model = formats.open_model(source)
    formats.require_possible(model, variant)
    formats.require_checkable(model, variant, level)

    def write(sink: Sink) -> tuple[Check, ...]:
        return formats.convert(model, variant, sink, name=model_name(source), progress=progress).checks

    def check(path: Path) -> tuple[Check, ...]:
        chosen = level or formats.default_check_level(model, variant)
        return formats.check(model, variant, path, level=chosen, progress=progress)

    target = out or Path(default_name(source, variant))
    require_outside(target, [source])
    made = placed(target, formats.is_bare(variant), write, check)
    measured = {check.name for check in made.checks}
    return replace(made, encoders={t: e for t, e in encoding.encoders().items() if f"tensor error {t}" in measured})


def _convert_adapter(
    source: Path, variant: Variant, out: Path | None, base: Path | None, predict: bool, progress: Progress | None
) -> Converted:
    updates = open_updates(source)
    model = formats.open_model(base) if base is not None else None
    if predict:
        if model is None:
            raise ConfigError("full checks of an adapter need its base", hint="--base DIR, the model directory")
        require_comparable(model)

    def write(sink: Sink) -> tuple[Check, ...]:
        return convert_adapter(updates, variant, sink, base=model, name=model_name(source)).checks

    def check(path: Path) -> tuple[Check, ...]:
        checks = check_adapter(updates, variant, path, model)
        if not predict or model is None:
            return checks
        with _runtime_base(model, variant, path.parent, progress) as runtime_base:
            return (*checks, check_predictions(updates, variant, path, model, runtime_base))

    target = out or Path(default_name(source, variant))
    require_outside(target, [source, base] if base is not None else [source])
    return placed(target, formats.is_bare(variant), write, check)


@contextmanager
def _runtime_base(model: SourceModel, variant: Variant, near: Path, progress: Progress | None) -> Iterator[Path]:
    """The base of an adapter as its runtime takes it: for llama.cpp in a file that is made, in F32, for as long."""
    if variant.format is not Format.GGUF:
        yield model.root
        return
    with tempfile.TemporaryDirectory(prefix="base-", dir=near) as folder:
        store = Store(Path(folder))
        with store.writer(bare=True) as writer:
            formats.convert(model, Variant(Format.GGUF, "F32"), writer, progress=progress)
            made = writer.commit()
        yield store.get(made.cid)


def require_outside(target: Path, sources: Iterable[Path]) -> None:
    """Refuse to write into a folder that is read: what is written would be part of it the next time.

    Raises:
        ConfigError: ``target`` is one of ``sources``, or lies in it, wherever links lead.
    """
    real = target.resolve()
    places = [place for place in (real, *real.parents) if place.exists()]
    for source in sources:
        if any(place.samefile(source) for place in places):
            raise ConfigError(
                f"{target} lies in {source}, which it is made from",
                hint="choose a place outside of that folder with --out",
            )


def placed(
    target: Path, bare: bool, write: Callable[[Sink], tuple[Check, ...]], check: Callable[[Path], tuple[Check, ...]]
) -> Converted:
    """Write beside ``target``, check, and move it there: all of it, or nothing.

    Args:
        target: a file or folder that does not exist.
        bare: whether it is a file.
        write: writes into the sink that it is given; returns what it checked by the way.
        check: checks what was written, where it lies then.

    Raises:
        AlreadyExistsError: ``target`` exists.
        CitrateError: it cannot be written; exit 5 where there is no room.
    """
    _require_free(target)
    try:
        make_folder(target.parent)
        with tempfile.TemporaryDirectory(prefix=".citrate-convert-", dir=target.parent) as folder:
            store = Store(Path(folder))
            with store.writer(bare=bare) as writer:
                checks = write(writer)
                artifact = writer.commit()
            path = store.get(artifact.cid)
            checks += check(path)
            path.chmod(0o755 if path.is_dir() else 0o644)
            _require_free(target)  # again: it was a long time
            path.rename(target)
        sync_directory(target.parent)
    except StoreError as error:
        raise _told_of(target, error) from error
    except OSError as error:
        raise not_written(target, error) from error
    return Converted(target, artifact, checks)


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise AlreadyExistsError(f"{target} exists", hint="choose another --out")


def _told_of(target: Path, error: StoreError) -> CitrateError:
    """What went wrong in the store that is made beside ``target`` for a while, and that nobody else knows of."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error) and is_no_room(cause, target.parent):
        cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return not_written(target, cause) if isinstance(cause, OSError) else error


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
