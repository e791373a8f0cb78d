"""A recipe's inputs, on this machine and verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate import formats
from citrate.core.errors import ConfigError, FormatError, NotFoundError, NotPermittedError
from citrate.core.records import Format, Variant
from citrate.core.sink import Progress
from citrate.training import accelerating, recipe, rows
from citrate.training.dataset import Card
from citrate.training.process import Files
from citrate.training.recipe import Bound, Recipe

if TYPE_CHECKING:
    from citrate.facade import Registry

SAFETENSORS = Variant(Format.SAFETENSORS)


@dataclass(frozen=True)
class Prepared:
    """A recipe with its inputs on this machine, verified."""

    bound: Bound
    files: Files
    dataset_cid: str
    reward_cid: str = ""
    """Of the reward model, where the method wants one."""


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
        ConfigError: the dataset is not for the method.
    """
    base, base_sha256 = model_named(registry, wanted.base, beside, gateways, allow, progress)
    folder, card = _dataset(registry, wanted, beside, gateways, progress)
    reward, reward_sha256 = None, ""
    if wanted.reinforcement is not None:
        named = wanted.reinforcement.reward_model
        reward, reward_sha256 = model_named(registry, named, beside, gateways, allow, progress)
    accelerate = accelerating.read(beside / wanted.accelerate, wanted) if wanted.accelerate is not None else ""
    bound = recipe.bind(
        wanted,
        base_sha256=base_sha256,
        dataset_root=card.root,
        reward_sha256=reward_sha256,
        accelerate=accelerate,
    )
    return Prepared(
        bound,
        Files(base, folder, reward),
        registry.store.add(folder).cid,
        registry.store.add(reward).cid if reward else "",
    )


def model_named(
    registry: Registry,
    named: str,
    beside: Path,
    gateways: Iterable[str],
    allow: frozenset[str],
    progress: Progress | None,
) -> tuple[Path, str]:
    """The folder of a model that can be trained on, and the SHA-256 that names it."""
    from citrate.registry.unixfs import address

    path = beside / Path(named).expanduser()
    if not path.is_dir():
        if named.startswith(("/", "./", "../", "~")):
            raise NotFoundError(f"no such folder: {path}")
        ref = replace(registry.reference(named), variant=SAFETENSORS)
        _require_derivable(registry, named)
        pulled = registry.pull(ref, gateways=gateways, allow=allow, progress=progress)
        return pulled.path, pulled.variant.sha256
    found = formats.inspect(path)
    if found.format != Format.SAFETENSORS:
        raise FormatError(f"{path} is {found.format}: training wants safetensors", hint="citrate pull REF#safetensors")
    return path, address(path, progress=progress).sha256


def _require_derivable(registry: Registry, named: str) -> None:
    licence = registry.resolve(named.partition("#")[0]).licence
    if "-nd" in licence.lower():
        raise NotPermittedError(
            f"the licence of {named}, {licence}, forbids derivatives",
            hint="train on another base, or ask its publisher",
        )


def _dataset(
    registry: Registry, wanted: Recipe, beside: Path, gateways: Iterable[str], progress: Progress | None
) -> tuple[Path, Card]:
    path = beside / Path(wanted.dataset).expanduser()
    if path.is_file():
        raise ConfigError(
            f"{wanted.dataset} is a file of rows, not a dataset",
            hint=f"citrate dataset add {wanted.dataset} --method {wanted.method} --license SPDX prints its CID",
        )
    where = path if path.is_dir() else wanted.dataset
    card, folder = registry.dataset(where, gateways=gateways, progress=progress)
    if not rows.takes(wanted.method, card.columns):
        raise ConfigError(
            f"the dataset has {' + '.join(card.columns)}, which {wanted.method} does not take",
            hint="citrate dataset add --help lists what each method wants",
        )
    return folder, card
