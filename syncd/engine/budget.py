"""The octets in flight in the whole process: asked of a server, or fetched and not yet durable.

One number bounds both memory and what a crash makes us fetch again. A message larger than the whole
budget takes all of it and travels alone. Nobody waits for room while holding some: a reader hands
over its batch first, so the writers always get to give room back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from syncd.errors import Cancelled

BUDGET_OCTETS = 48 << 20  # what the pipe holds (four batches) and a full window on its way; see docs/benchmarks.md


class Budget:
    """Room for octets, shared by every run of this process."""

    def __init__(self, octets: int = BUDGET_OCTETS) -> None:
        self.total = octets
        self.free = octets
        self.change = threading.Condition()

    def room(self) -> RunRoom:
        """One run's share."""
        return RunRoom(self)


class RunRoom:
    """`sources.base.Room` for one run, out of the common budget; `release` gives back what is held at its end."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0  # guarded by the budget's lock
        self.cancelled = False

    def try_take(self, octets: int) -> bool:
        """Take room if there is some now; never waits."""
        budget = self._budget
        with budget.change:
            return self._take(octets)

    def take(self, octets: int) -> None:
        """Take room, wait for it if need be. Raises Cancelled."""
        with self._budget.change:
            self._budget.change.wait_for(lambda: self.cancelled or self._take(octets))
        if self.cancelled:
            raise Cancelled("cancelled while waiting for room in memory")

    def pause(self, seconds: float) -> None:
        """Wait so long, holding what is held. Raises Cancelled."""
        with self._budget.change:
            self._budget.change.wait_for(lambda: self.cancelled, seconds)
        if self.cancelled:
            raise Cancelled("cancelled while waiting until the server may be asked again")

    def give(self, octets: Iterable[int]) -> None:
        """Give back what was taken, one figure for each message."""
        total = self._budget.total
        self._give(sum(min(one, total) for one in octets))

    def release(self) -> None:
        """Give everything back: the run is over. Repeatable."""
        self._give(self._held)

    def cancel(self) -> None:
        """Wake a waiting `take`, from any thread."""
        self.cancelled = True
        with self._budget.change:
            self._budget.change.notify_all()

    def _take(self, octets: int) -> bool:
        budget = self._budget
        octets = min(octets, budget.total)
        if octets > budget.free:
            return False
        budget.free -= octets
        self._held += octets
        return True

    def _give(self, octets: int) -> None:
        budget = self._budget
        with budget.change:
            budget.free += octets
            self._held -= octets
            budget.change.notify_all()
