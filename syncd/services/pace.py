"""How fast runs fetch, and how long they still take: from their rows, as one process sees them change.

A row says how much was fetched, and when it was written. The rate is that of the last WINDOW_S; of a run that is seen
for the first time, that since its start, where it has been one slice: between slices a run may wait for hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from syncd.services.overview import RunSummary

WINDOW_S: Final = 30.0
MAX_RUNS: Final = 1000  # those that nobody asked about for longest are forgotten
KEPT: Final = 30  # samples of a run; a row is written about once a second


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a run. `seconds_left` is None where nobody can tell."""

    octets_per_second: float
    seconds_left: float | None


class Paces:
    """Sees the rows of runs change. Thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[float, int]]] = {}  # run → when it was written, octets fetched until then
        self._lock = Lock()

    def of(self, runs: Collection[RunSummary]) -> Mapping[int, Pace]:
        """Returns the pace of each run that is under way and has begun to fetch."""
        found: dict[int, Pace] = {}
        with self._lock:
            for run in runs:
                samples = self._seen.pop(run.run_id) if run.run_id in self._seen else deque(maxlen=KEPT)
                self._seen[run.run_id] = samples  # at the end: asked about last
                rate = self._rate(run)
                if rate is not None:
                    left = run.counts.get("to_fetch_octets", 0) - run.counts.get("fetched_octets", 0)
                    found[run.run_id] = Pace(rate, left / rate if left > 0 and rate >= 1 else None)
            for run_id in list(self._seen)[:-MAX_RUNS]:
                del self._seen[run_id]
        return found

    def _rate(self, run: RunSummary) -> float | None:
        """Returns octets per second."""
        if not run.is_running or run.updated_at is None or not run.counts.get("fetched_octets"):
            return None
        samples, now, octets = self._seen[run.run_id], run.updated_at.timestamp(), run.counts["fetched_octets"]
        if samples and (now < samples[-1][0] or octets < samples[-1][1]):
            samples.clear()  # a clock that was set, or another process went on with the run
        if not samples and run.slices == 1 and run.started_at is not None:
            samples.append((run.started_at.timestamp(), 0))
        if not samples or now > samples[-1][0]:
            samples.append((now, octets))
        while len(samples) > 2 and samples[1][0] < now - WINDOW_S:  # a rate needs two
            samples.popleft()
        (began, before), (ended, after) = samples[0], samples[-1]
        return (after - before) / (ended - began) if ended > began else None
