"""A recipe's inputs, on this machine and verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate import formats
from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.core.licences import require_derivable
from citrate.core.records import Format, Variant
from citrate.core.sink import Progress
from citrate.training import accelerating, dataset, ranks, recipe, rows
from citrate.training.dataset import Card
from citrate.training.process import Files
from citrate.training.recipe import Backend, Bound, Recipe

if TYPE_CHECKING:
    from citrate.facade import Registry

SAFETENSORS = Variant(Format.SAFETENSORS)
_OTHERWISE = "train on another base, or ask its publisher"
_TRAINED_ON = {Backend.TRL: (Format.SAFETENSORS,), Backend.MLX: (Format.SAFETENSORS, Format.MLX)}


@dataclass(frozen=True)
class Prepared:
    """A recipe with its inputs on this machine, verified."""

    bound: Bound
    files: Files
    dataset_cid: str
    reward_cid: str = ""
    """Of the reward model, where the method wants one."""
    base_ref: str = ""
    """``Model.ref`` of a base that is registered; whoever verifies finds it by that."""
    accelerate: str = ""
    """The configuration by which accelerate starts the processes; empty: we start them."""


@dataclass(frozen=True)
class Model:
    """A model that can be trained on, on this machine and verified."""

    path: Path
    sha256: str
    ref: str = ""
    """``publisher/name@version``, and ``#variant`` where it is not safetensors; empty for a folder."""


def prepare(
    registry: Registry,
    wanted: Recipe,
    beside: Path,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Prepared:
    """Get a recipe's inputs and name them by their content.

    Args:
        registry: where they come from.
        wanted: the recipe.
        beside: the folder that its relative paths start from.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is fetched.

    Raises:
        NotFoundError, NotPermittedError, IntegrityError, StoreError: as `Registry.pull` and `Registry.dataset`.
        NotPermittedError: the base or the reward model must not be used, or its licence forbids derivatives.
        ConfigError: the dataset is not for the method, an accelerate configuration is not taken, or torchrun has
            started this command.
        FormatError: a row of it teaches nothing, or all together are not enough.
    """
    ranks.require_one_command()
    started = accelerating.read(beside / wanted.accelerate, wanted) if wanted.accelerate is not None else None
    base = model_named(registry, wanted.base, beside, gateways, allow, progress, wanted.backend)
    folder, card = _dataset(registry, wanted, beside, gateways, progress)
    reward = None
    if wanted.reinforcement is not None:
        reward = model_named(registry, wanted.reinforcement.reward_model, beside, gateways, allow, progress)
    bound = recipe.bind(
        wanted,
        base_sha256=base.sha256,
        dataset_root=card.root,
        reward_sha256=reward.sha256 if reward else "",
        accelerate=started.text if started and started.decides else "",
    )
    return Prepared(
        bound,
        Files(base.path, folder, reward.path if reward else None),
        registry.store.add(folder).cid,
        registry.store.add(reward.path).cid if reward else "",
        base.ref,
        started.text if started else "",
    )


def model_named(
    registry: Registry,
    named: str,
    beside: Path,
    gateways: Iterable[str],
    allow: frozenset[str],
    progress: Progress | None,
    backend: Backend = Backend.TRL,
) -> Model:
    """A model that can be trained on, by its folder or its reference.

    Raises:
        NotFoundError, NotPermittedError, IntegrityError, StoreError: as `Registry.pull`.
        ConfigError, FormatError: a variant, or a folder, that the backend is not trained on.
    """
    from citrate.registry.unixfs import address

    formats_taken = _TRAINED_ON[backend]
    path = beside / Path(named).expanduser()
    if not path.is_dir():
        if named.startswith(("/", "./", "../", "~")):
            raise NotFoundError(f"no such folder: {path}")
        asked = registry.reference(named).variant or SAFETENSORS
        if asked.format not in formats_taken:
            raise ConfigError(f"{backend} does not train on {asked}", hint=_wanted(backend))
        record = registry.resolve(named.partition("#")[0])
        require_derivable(named, record.licence, _OTHERWISE)
        ref = replace(registry.reference(record.ref), variant=asked)
        pulled = registry.pull(ref, gateways=gateways, allow=allow, progress=progress)
        variant = "" if asked == SAFETENSORS else f"#{asked}"
        return Model(pulled.path, pulled.variant.sha256, f"{record.ref}{variant}")
    found = formats.inspect(path)
    if found.format not in formats_taken:
        raise FormatError(f"{path} is {found.format}: training wants safetensors", hint=_wanted(backend))
    require_derivable(named, found.licence.spdx if found.licence else "", _OTHERWISE)
    return Model(path, address(path, progress=progress).sha256)


def _wanted(backend: Backend) -> str:
    return "backend: mlx takes safetensors and mlx" if backend is Backend.MLX else "citrate pull REF#safetensors"


def _cid(wanted: Recipe) -> str:
    from citrate.registry.cid import Cid

    try:
        return str(Cid.parse(wanted.dataset))
    except FormatError as error:
        raise NotFoundError(
            f"no dataset {wanted.dataset!r:.200}: it is no CID, and no folder beside the recipe",
            hint=f"a file of rows becomes one by: citrate dataset add FILE --method {wanted.method} --license SPDX",
        ) from error


def _dataset(
    registry: Registry, wanted: Recipe, beside: Path, gateways: Iterable[str], progress: Progress | None
) -> tuple[Path, Card]:
    path = beside / Path(wanted.dataset).expanduser()
    if path.is_file():
        raise ConfigError(
            f"{wanted.dataset} is a file of rows, not a dataset",
            hint=f"citrate dataset add {wanted.dataset} --method {wanted.method} --license SPDX prints its CID",
        )
    where = path if path.is_dir() else _cid(wanted)
    card, folder = registry.dataset(where, gateways=gateways, progress=progress)
    if not rows.takes(wanted.method, card.columns):
        raise ConfigError(
            f"the dataset has {' + '.join(card.columns)}, which {wanted.method} does not take",
            hint="citrate dataset add --help lists what each method wants",
        )
    dataset.require_teaching(folder)
    return folder, card
