"""A run's curves in one drawing: loss, gradient norm, and the reward where there is one; spikes are marked.

The drawing is lines, labels and marks, written as SVG here and as PNG by ``raster``: by hand, so that no library is
needed and equal runs give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from citrate.training.health import Health, Point, Spike

_WIDTH, _HEIGHT = 720, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 24
_TITLE_PX, _LABEL_PX = 14, 11
_COLOURS = {"loss": "#1f77b4", "gradient norm": "#7f7f7f", "reward": "#2ca02c"}
_GRID = "#dddddd"
SPIKE = "#d62728"
SPIKE_RADIUS_PX = 3


@dataclass(frozen=True)
class Line:
    """Strokes from point to point; places are in pixels from the top left."""

    points: tuple[tuple[float, float], ...]
    colour: str
    """``#rrggbb``."""
    width: float


@dataclass(frozen=True)
class Label:
    """Text on a baseline, which begins at ``x``, or ends there."""

    x: float
    y: float
    text: str
    size: int = _LABEL_PX
    at_end: bool = False


@dataclass(frozen=True)
class Mark:
    """A spike."""

    x: float
    y: float
    step: int


@dataclass(frozen=True)
class Drawing:
    """What is to be seen, back to front, on white."""

    width: int
    height: int
    shapes: tuple[Line | Label | Mark, ...]


@dataclass(frozen=True)
class _Panel:
    """One curve: its name, its points (step, value), and the spikes on it."""

    name: str
    points: tuple[tuple[int, float], ...]
    spikes: tuple[Spike, ...]


def drawing(health: Health, title: str) -> Drawing:
    """Draw a run.

    Args:
        health: how it went.
        title: such as the adapter's name.
    """
    panels = list(_panels(health))
    shapes: list[Line | Label | Mark] = [Label(_LEFT, 20, title, _TITLE_PX)]
    for number, panel in enumerate(panels):
        shapes.extend(_drawn(panel, 30 + number * _HEIGHT, health.steps))
    return Drawing(_WIDTH, 30 + len(panels) * _HEIGHT, tuple(shapes))


def svg(health: Health, title: str) -> str:
    """Draw a run as SVG; see ``drawing``."""
    found = drawing(health, title)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{found.width}" height="{found.height}" '
        f'viewBox="0 0 {found.width} {found.height}" font-family="sans-serif">',
        f'<rect width="{found.width}" height="{found.height}" fill="white"/>',
    ]
    return "\n".join([*lines, *map(_element, found.shapes), "</svg>"]) + "\n"


def _panels(health: Health) -> Iterator[_Panel]:
    def points(value_of: Callable[[Point], str | None]) -> tuple[tuple[int, float], ...]:
        found = ((point.step, float(value_of(point) or "nan")) for point in health.curve)
        return tuple((step, value) for step, value in found if math.isfinite(value))

    def spikes(what: str) -> tuple[Spike, ...]:
        return tuple(spike for spike in health.spikes if spike.what == what and math.isfinite(float(spike.value)))

    yield _Panel("loss", points(lambda point: point.loss), spikes("loss"))
    yield _Panel("gradient norm", points(lambda point: point.grad_norm), spikes("grad_norm"))
    if any(point.reward is not None for point in health.curve):
        yield _Panel("reward", points(lambda point: point.reward), ())


def _drawn(panel: _Panel, top: int, steps: int) -> Iterator[Line | Label | Mark]:
    values = [value for _, value in panel.points] + [float(spike.value) for spike in panel.spikes] or [0.0]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    right, bottom = _WIDTH - _RIGHT, top + _HEIGHT - _BOTTOM
    inner = _HEIGHT - _TOP - _BOTTOM

    def place(step: int, value: float) -> tuple[float, float]:
        return _LEFT + (right - _LEFT) * (step / steps), bottom - inner * ((value - low) / span)

    yield Label(_LEFT, top + 16, panel.name)
    for value, y in ((high, bottom - inner), (low, bottom)):
        yield Line(((_LEFT, y), (right, y)), _GRID, 1)
        yield Label(_LEFT - 6, y + 4, f"{value:.4g}", at_end=True)
    yield Label(right, bottom + 16, f"step {steps}", at_end=True)
    yield Line(tuple(place(step, value) for step, value in panel.points), _COLOURS[panel.name], 1.5)
    for spike in panel.spikes:
        yield Mark(*place(spike.step, float(spike.value)), spike.step)


def _element(shape: Line | Label | Mark) -> str:
    if isinstance(shape, Label):
        anchor = ' text-anchor="end"' if shape.at_end else ""
        return f'<text x="{shape.x}" y="{shape.y}" font-size="{shape.size}"{anchor}>{escape(shape.text)}</text>'
    if isinstance(shape, Mark):
        return (
            f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{SPIKE_RADIUS_PX}" fill="{SPIKE}">'
            f"<title>step {shape.step}</title></circle>"
        )
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    if len(shape.points) == 2 and shape.colour == _GRID:
        (x1, y1), (x2, y2) = shape.points
        return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{_GRID}"/>'
    return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"/>'
