"""The octets in flight in the whole process: asked of a server, or fetched and not yet durable.

One number bounds both memory and what a crash makes us fetch again. A message larger than the whole
budget takes all of it and travels alone. Nobody waits for room while holding some: a reader hands
over its batch first, so the writers always get to give room back. Those that wait are
served in the order in which they came, and nobody takes room past them: a large message has its turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from syncd.errors import Cancelled

BUDGET_OCTETS = 48 << 20  # what the pipe holds (four batches) and a full window on its way; see docs/benchmarks.md


class Budget:
    """Room for octets, shared by every run of this process."""

    def __init__(self, octets: int = BUDGET_OCTETS) -> None:
        self.total = octets
        self.free = octets
        self.change = threading.Condition()
        self.waiting: deque[object] = deque()  # the first of them is next

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
        """Take room if there is some now that nobody waits for; never waits."""
        budget = self._budget
        with budget.change:
            return not budget.waiting and self._take(octets)

    def take(self, octets: int, door: Door | None = None) -> None:
        """Take room, wait for it if need be. Raises Cancelled, also when the `door` is shut."""
        budget, ticket = self._budget, object()

        def over() -> bool:
            return self.cancelled or (door is not None and door.shut)

        with budget.change:
            budget.waiting.append(ticket)
            budget.change.wait_for(lambda: over() or (budget.waiting[0] is ticket and self._take(octets)))
            budget.waiting.remove(ticket)
            budget.change.notify_all()  # there may be room for the next one, too
        if over():
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
        self.wake()

    def wake(self) -> None:
        """Have every `take` look again whether it should wait."""
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


class Door:
    """A run's room as its reader sees it (`sources.base.Room`). Shut: nobody waits for a session that is over."""

    def __init__(self, room: RunRoom) -> None:
        self._room = room
        self.shut = False

    def try_take(self, octets: int) -> bool:
        """As `RunRoom.try_take`."""
        return not self.shut and self._room.try_take(octets)

    def take(self, octets: int) -> None:
        """As `RunRoom.take`. Raises Cancelled when it is shut."""
        self._room.take(octets, self)

    def close(self) -> None:
        """Shut it, from any thread. Repeatable."""
        self.shut = True
        self._room.wake()
