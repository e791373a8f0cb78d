"""A run's curves as one SVG file: loss, gradient norm, and the reward where there is one; spikes are marked.

Written by hand, so that it needs no library and equal runs give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from citrate.training.health import Health, Point, Spike

_WIDTH, _HEIGHT = 720, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 24
_COLOURS = {"loss": "#1f77b4", "gradient norm": "#7f7f7f", "reward": "#2ca02c"}
_SPIKE = "#d62728"


@dataclass(frozen=True)
class _Panel:
    """One curve: its name, its points (step, value), and the spikes on it."""

    name: str
    points: tuple[tuple[int, float], ...]
    spikes: tuple[Spike, ...]


def svg(health: Health, title: str) -> str:
    """Draw a run.

    Args:
        health: how it went.
        title: such as the adapter's name.
    """
    panels = list(_panels(health))
    height = 30 + len(panels) * _HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        lines.extend(_drawn(panel, 30 + number * _HEIGHT, health.steps))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panels(health: Health) -> Iterator[_Panel]:
    def points(value_of: Callable[[Point], str | None]) -> tuple[tuple[int, float], ...]:
        found = ((point.step, float(value_of(point) or "nan")) for point in health.curve)
        return tuple((step, value) for step, value in found if math.isfinite(value))

    def spikes(what: str) -> tuple[Spike, ...]:
        return tuple(spike for spike in health.spikes if spike.what == what)

    yield _Panel("loss", points(lambda point: point.loss), spikes("loss"))
    yield _Panel("gradient norm", points(lambda point: point.grad_norm), spikes("grad_norm"))
    if any(point.reward is not None for point in health.curve):
        yield _Panel("reward", points(lambda point: point.reward), ())


def _drawn(panel: _Panel, top: int, steps: int) -> Iterator[str]:
    values = [value for _, value in panel.points] + [float(spike.value) for spike in panel.spikes]
    values = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    bottom = top + _HEIGHT - _BOTTOM
    inner = _HEIGHT - _TOP - _BOTTOM

    def place(step: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step / steps)
        return f"{x:.1f},{bottom - inner * ((value - low) / span):.1f}"

    yield f'<text x="{_LEFT}" y="{top + 16}">{panel.name}</text>'
    for value, y in ((high, bottom - inner), (low, bottom)):
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
    yield f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 16}" text-anchor="end">step {steps}</text>'
    yield _curve([place(step, value) for step, value in panel.points], _COLOURS[panel.name])
    for spike in panel.spikes:
        if math.isfinite(float(spike.value)):
            across, down = place(spike.step, float(spike.value)).split(",")
            yield f'<circle cx="{across}" cy="{down}" r="3" fill="{_SPIKE}"><title>step {spike.step}</title></circle>'


def _curve(places: Sequence[str], colour: str) -> str:
    return f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
