"""Merge what references and folders name into a model directory: all of it, or nothing.

The methods are those of `citrate.formats.merging`, which knows nothing of the registry and of where things lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from citrate import formats
from citrate.core.adapters import PARENTS_MAX, WHOLE_BASIS_POINTS
from citrate.core.errors import AlreadyExistsError, ConfigError, FormatError
from citrate.core.records import Artifact, Check
from citrate.core.sink import Progress, Sink
from citrate.fine_tuning.parents import Fetching, Found, Named, licence_of, require_trained_on, shares
from citrate.formats import merging_record
from citrate.formats.merging import OF_ADAPTERS, OF_MODELS, How, Method, require_mergeable
from citrate.formats.merging_adapters import AdapterMerge, open_for_merging
from citrate.formats.merging_models import of_models
from citrate.formats.merging_record import MergeRecord, settings_of
from citrate.formats.merging_writing import Merge, Output, write_merged
from citrate.registry.converting import placed, require_outside

if TYPE_CHECKING:
    from citrate.facade import Registry
    from citrate.formats import SourceModel

_LICENCE_TEXTS = ("LICENSE", "LICENCE", "COPYING", "USE_POLICY")


@dataclass(frozen=True)
class Request:
    """What is to be merged: ``adapters`` into ``base``, or ``models`` (by ``ties`` what they changed in ``base``)."""

    how: How
    out: Path
    base: str = ""
    adapters: tuple[Named, ...] = ()
    models: tuple[Named, ...] = ()
    licence: str | None = None

    @property
    def parents(self) -> tuple[Named, ...]:
        """What has a weight."""
        return self.adapters or self.models

    def __post_init__(self) -> None:
        if bool(self.adapters) == bool(self.models):
            raise ConfigError(
                "name either adapters or models to merge", hint="--base REF --adapter REF, or --model REF"
            )
        if len(self.parents) > PARENTS_MAX:
            raise ConfigError(f"a merge has at most {PARENTS_MAX} parents", hint="merge in several steps")
        possible, what = (OF_ADAPTERS, "adapters") if self.adapters else (OF_MODELS, "models")
        if self.how.method not in possible:
            raise ConfigError(f"{what} are not merged by {self.how.method}", hint=f"--method {' or '.join(possible)}")
        if self.adapters and not self.base:
            raise ConfigError("adapters are merged into a model", hint="--base REF, the one that they were trained on")
        if self.models:
            _require_models(self)
        if not 0 < self.how.density <= 1:
            raise ConfigError(
                f"a density of {self.how.density:g} keeps nothing, or more than all", hint="--density 0.5"
            )


@dataclass(frozen=True)
class Merged:
    """A merged model on disk."""

    path: Path
    artifact: Artifact
    record: MergeRecord
    licence: str
    """Empty where no parent states one."""
    licences: tuple[tuple[str, str], ...]
    """Of each parent, as it was named."""
    rank: int | None
    """Of what was added, were it one adapter; None for models."""
    alpha: float | None
    """Likewise."""

    @property
    def basis_points(self) -> tuple[int, ...]:
        """The adapters' shares as a merge is recorded on chain; empty where one is not registered, or not positive."""
        adapters = [parent for parent in self.record.parents if parent.kind == "adapter"]
        weights = [Decimal(parent.weight) for parent in adapters]
        if not adapters or not all(parent.id for parent in adapters) or min(weights) <= 0:
            return ()
        points = [int(weight * WHOLE_BASIS_POINTS / sum(weights)) for weight in weights]
        left = WHOLE_BASIS_POINTS - sum(points)
        points = [each + (place < left) for place, each in enumerate(points)]
        return tuple(points) if min(points) > 0 else ()


def merge(
    registry: Registry,
    request: Request,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Merged:
    """Merge, and write a model directory that ``register_model`` takes.

    Raises:
        ConfigError: weights that add up to nothing, licences that differ and none is asked for, or ``out`` in a parent.
        NotPermittedError: a licence forbids derivatives, or a parent must not be used.
        AlreadyExistsError: ``out`` exists.
        FormatError: the parents do not fit each other, or hold NaN.
        NotFoundError, IntegrityError, StoreError: as `Registry.pull`.
    """
    if request.out.exists():
        raise AlreadyExistsError(f"{request.out} exists", hint="choose another --out")
    weights = shares(request.parents)
    fetching = Fetching(registry, tuple(gateways), allow, progress)
    base = fetching.model(request.base, "base") if request.base else None
    weighted = [fetching.model(each.text, "model") for each in request.models]
    weighted += [fetching.adapter(each.text) for each in request.adapters]
    parents = [base, *weighted] if base else weighted
    require_outside(request.out, [each.path for each in parents])
    licence = licence_of(parents, request.licence)
    model, work = _work(request, base, weighted, [float(weight) for weight in weights])
    told = [replace(f.parent, weight=f"{w.normalize():f}") for f, w in zip(weighted, weights, strict=True)]
    record = MergeRecord(str(request.how.method), settings_of(request.how), (*([base.parent] if base else []), *told))
    artifact = _write(model, work, _output(record, licence, parents[0].licence), request.out, progress)
    rank, alpha = (work.rank, work.alpha) if isinstance(work, AdapterMerge) else (None, None)
    return Merged(request.out, artifact, record, licence, tuple((f.named, f.licence) for f in parents), rank, alpha)


def _require_models(request: Request) -> None:
    slerp = request.how.method is Method.SLERP
    if len(request.models) < 2:
        raise ConfigError("one model alone is not merged", hint="--model REF --model REF")
    if slerp and (request.base or len(request.models) > 2):
        raise ConfigError("slerp takes two models, and no base", hint="--method ties takes more")
    if slerp and any(each.weight is not None and not 0 <= each.weight <= 1 for each in request.models):
        raise ConfigError("slerp stays between its models: weights are 0 to 1", hint="--model A=0.7 --model B")
    if not slerp and not request.base:
        raise ConfigError(
            "ties merges what models changed in the one that they come from", hint="--base REF names that one"
        )


def _work(
    request: Request, base: Found | None, weighted: Sequence[Found], weights: Sequence[float]
) -> tuple[SourceModel, AdapterMerge | Merge]:
    """The model whose files the result has, and where its tensors come from."""
    names = [found.named for found in weighted]
    if base is not None and request.adapters:
        for found in weighted:
            require_trained_on(found, base)
        model = _opened(base)
        opened = [open_for_merging(found.path, model, found.named) for found in weighted]
        return model, AdapterMerge(model, opened, weights, request.how)
    models = [_opened(found) for found in weighted]
    return of_models(models, names, weights, request.how, _opened(base) if base else None)


def _opened(found: Found) -> SourceModel:
    model = formats.open_model(found.path)
    require_mergeable(model, found.named)
    return model


@dataclass(frozen=True)
class _Beside:
    """What is written beside the weights, and what is not."""

    record: MergeRecord
    licence: str
    keeps_licence: bool
    """Whether the licence is that of the model whose files are taken, and its text with it."""


def _output(record: MergeRecord, licence: str, first: str) -> _Beside:
    return _Beside(record, licence, licence == first)


def _write(model: SourceModel, work: Merge, beside: _Beside, out: Path, progress: Progress | None) -> Artifact:
    names = [companion.name for companion in model.companions]
    texts = {
        merging_record.FILE: beside.record.encode(),
        "README.md": merging_record.card(beside.licence, beside.record),
    }
    left_out = frozenset(name for name in names if name.startswith(_LICENCE_TEXTS) and not beside.keeps_licence)
    left_out |= {"training.json"}

    def write(sink: Sink) -> tuple[Check, ...]:
        write_merged(model, work, Output(sink, texts, left_out, progress=progress))
        return ()

    def check(path: Path) -> tuple[Check, ...]:
        wanted = {tensor.name: (tensor.dtype, tensor.shape) for tensor in model.tensors}
        if {tensor.name: (tensor.dtype, tensor.shape) for tensor in formats.open_model(path).tensors} != wanted:
            raise FormatError("what was written lacks tensors", hint="this is a fault of citrate: please report it")
        return ()

    return placed(out, False, write, check).artifact
