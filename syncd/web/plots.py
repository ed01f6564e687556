"""Plots of the last days, drawn here as SVG: they are there without JavaScript, and follow the theme.

Each is one path of bars. A table behind the plots has the numbers, for screen readers and for whoever wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from syncd.db.days import Day
from syncd.services.words import octets

WIDTH: Final = 10  # of a day, in units of the drawing
GAP: Final = 2
HEIGHT: Final = 60
LEAST: Final = 1.5  # so that a small number beside large ones is still seen


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars, a day each; `path` is the `d` of an SVG path (SVG 2 §9.3)."""

    name: str
    total: str
    highest: str
    width: int
    height: int
    path: str


def plots(days: Sequence[Day]) -> list[Plot]:
    """Returns the plots of the overview."""
    return [
        _plot("Messages", [it.messages for it in days], _number),
        _plot("Octets", [it.octets for it in days], octets),
        _plot("Failed runs", [it.failures for it in days], _number),
    ]


def _plot(name: str, values: Sequence[int], show: Callable[[int], str]) -> Plot:
    highest = max(values, default=0)
    bars = [
        f"M{at * WIDTH},{HEIGHT}v-{max(LEAST, HEIGHT * value / highest):.1f}h{WIDTH - GAP}V{HEIGHT}z"
        for at, value in enumerate(values)
        if value > 0
    ]
    return Plot(name, show(sum(values)), show(highest), len(values) * WIDTH - GAP, HEIGHT, "".join(bars))


def _number(value: int) -> str:
    return f"{value:,}"
