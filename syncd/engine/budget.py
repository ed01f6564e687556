"""The octets in flight in the whole process: asked of a server, or fetched and not yet durable.

One number bounds both memory and what a crash makes us fetch again. A message larger than the whole
budget takes all of it and travels alone. Nobody waits for room while holding some: a reader hands
over its batch first, so the writers always get to give room back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from syncd.errors import Cancelled

BUDGET_OCTETS = 24 << 20  # three batches; with all else under 150 MiB, see docs/benchmarks.md


class Budget:
    """Room for octets, shared by every run of this process."""

    def __init__(self, octets: int = BUDGET_OCTETS) -> None:
        self._total = octets
        self._free = octets
        self._change = threading.Condition()

    def room(self) -> RunRoom:
        """One run's share: asks the common budget, and can be woken by a cancel."""
        return RunRoom(self)

    def try_take(self, octets: int) -> bool:
        """Take room if there is some now."""
        octets = min(octets, self._total)
        with self._change:
            if octets > self._free:
                return False
            self._free -= octets
            return True

    def take(self, octets: int, room: RunRoom) -> None:
        """Take room; wait until there is some. Raises Cancelled."""
        octets = min(octets, self._total)
        with self._change:
            self._change.wait_for(lambda: room.cancelled or octets <= self._free)
            if room.cancelled:
                raise Cancelled("cancelled while waiting for room in memory")
            self._free -= octets

    def give(self, octets: int) -> None:
        """Give room back."""
        with self._change:
            self._free += octets
            self._change.notify_all()

    def wake(self) -> None:
        """Make those who wait look at their cancel flag."""
        with self._change:
            self._change.notify_all()

    def cost(self, octets: int) -> int:
        """What a message of so many octets takes: never more than there is in all."""
        return min(octets, self._total)


class RunRoom:
    """`sources.base.Room` for one run; whatever a run still holds at its end goes back by `release`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0
        self._lock = threading.Lock()
        self.cancelled = False

    def try_take(self, octets: int) -> bool:
        """Take room if there is some; never waits."""
        if not self._budget.try_take(octets):
            return False
        self._hold(self._budget.cost(octets))
        return True

    def take(self, octets: int) -> None:
        """Take room, wait for it if need be. Raises Cancelled."""
        self._budget.take(octets, self)
        self._hold(self._budget.cost(octets))

    def give(self, octets: Iterable[int]) -> None:
        """Give back what was taken, one figure for each message."""
        total = sum(map(self._budget.cost, octets))
        self._hold(-total)
        self._budget.give(total)

    def release(self) -> None:
        """Give everything back: the run is over."""
        with self._lock:
            held, self._held = self._held, 0
        self._budget.give(held)

    def cancel(self) -> None:
        """Wake a waiting `take`, from any thread."""
        self.cancelled = True
        self._budget.wake()

    def _hold(self, octets: int) -> None:
        with self._lock:
            self._held += octets
