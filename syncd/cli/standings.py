"""A job's standing by its schedule, in words: when it is due next, what is to be known of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.cli.render import duration, instant

if TYPE_CHECKING:
    from syncd.services.overview import Standing

PAUSES: Final = {
    "person": "paused",
    "sign_in": "paused, as its sign-in was refused again and again",
    "deaths": "paused, as its worker died again and again",
}


def next_run(standing: Standing | None) -> str:
    """Returns when a job is due next, by its schedule; "-" where no service runs it."""
    if standing is None:
        return "-"
    if standing.paused:
        return "paused"
    if standing.next_run is None:
        return "-"
    left = (standing.next_run - clock.now()).total_seconds()
    return f"in {duration(left)}" if left >= 1 else "now"


def standing_lines(name: str, standing: Standing | None) -> Iterator[str]:
    """Yields what is to be known of a job's standing by its schedule."""
    if standing is None:
        return
    if standing.paused:
        yield f"{PAUSES[standing.paused]} since {instant(standing.paused_since)}; to go on: syncd resume {name}"
    if standing.late_since is not None:
        yield f"late since {instant(standing.late_since)}: no run has succeeded for longer than late_after"
