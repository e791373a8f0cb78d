"""How a training run's health is told by the commands that know of it, and drawn."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from citrate.cli import context
from citrate.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from citrate.training.health import Health


_SHOWN = 3


def health_document(health: Health) -> dict[str, object]:
    """As JSON: numbers as decimal text, as they stand in the proof; without the curve, but with the rewards that its
    first and its last tenth come to."""
    document: dict[str, object] = health.model_dump(mode="json", by_alias=True, exclude={"curve", "schema_"})
    found = _reward(health)
    return {**document, "reward": {"begin": found[0], "end": found[1]} if found else None}


def notes(health: Health) -> list[str]:
    """What a user should know of the rows."""
    return list(health.row_count.notes()) if health.row_count else []


def talk(health: Health) -> None:
    """For people, a line or two."""
    loss, norm = health.loss, health.grad_norm
    context.talk(
        f"loss {loss.begin} to {loss.end} (least {loss.least} at step {loss.least_step}); "
        f"gradient norm {norm.median} in the middle, {norm.largest} at most; {norm.clipped} of {health.steps} clipped"
    )
    if found := _reward(health):
        context.talk(f"reward {found[0]} to {found[1]}")
    if health.spike_count:
        shown = ", ".join(f"step {spike.step} ({spike.what} {spike.value})" for spike in health.spikes[:3])
        context.talk(
            f"{health.spike_count} spikes: {shown}{', ...' if health.spike_count > len(health.spikes[:3]) else ''}"
        )


def _reward(health: Health) -> tuple[str, str] | None:
    """The mean reward over the first and the last tenth of the curve; None where there was no reward model."""
    rewards = [float(point.reward) for point in health.curve if point.reward is not None]
    if not rewards:
        return None
    tenth = max(1, len(rewards) // 10)
    return f"{fmean(rewards[:tenth]):.4g}", f"{fmean(rewards[-tenth:]):.4g}"


def require_drawable(path: Path | None) -> None:
    """Refuse a plot that cannot be drawn, before anything is done.

    Raises:
        ConfigError: another format than SVG and PNG, or a folder that is not there.
    """
    if path is None:
        return
    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigError(f"{path.name} is neither SVG nor PNG, and nothing else is drawn", hint="--plot FILE.svg")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"no such folder: {path.parent}", hint="make it, or name another file")


def draw(health: Health, title: str, path: Path) -> None:
    """Write the curves, as SVG or PNG by the file's name.

    Raises:
        StoreError: the file cannot be written.
    """
    from citrate.training import plot, raster

    try:
        if path.suffix.lower() == ".png":
            path.write_bytes(raster.png(plot.drawing(health, title)))
        else:
            path.write_text(plot.svg(health, title), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", hint="name another file") from error
    context.talk(f"drawn: {path}")
