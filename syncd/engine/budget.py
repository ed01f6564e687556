"""The memory that messages take in the whole process: asked of a server, or fetched and not yet durable.

One number bounds both memory and what a crash makes us fetch again. It counts what has come as well as what was asked
for: a message that turns out longer than listed takes more while it comes, or goes to a file where there is no more.
Each message takes MESSAGE_OCTETS beside its octets, and each run a share for its connection. A long message is never
in memory as a whole, so no message counts as more than a third of everything.

Nobody waits for room while keeping some that others need: a reader hands over its batch first, so the writers always
get to give room back, and a message that grows never waits. Those that wait are served in the order in which they came,
and nobody takes room past them: a large message has its turn.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from syncd.errors import Cancelled
from syncd.mail.body import MEMORY_CAP_OCTETS, Body

BUDGET_OCTETS: Final = 36 << 20  # two batches in the pipe and a full window on its way; see docs/benchmarks.md
MESSAGE_OCTETS: Final = 1 << 10  # rows, digests and objects of one message, as measured
RUN_OCTETS: Final = 768 << 10  # receive buffer, TLS, listing, pages of rows and caches of databases of one run
SHORT_OCTETS: Final = 64 << 10  # so much shorter than listed, a message gives back the rest at once
SESSIONS: Final = 12  # with sources in the whole process, beside the first of each run: each takes as much as a run
PARTS: Final = 3  # of the budget: one of them is what a message counts as at most, and what runs leave for messages
CROWD_RUNS: Final = 8  # with more than these side by side, a body of half the length goes to a file
GROWTH_PARTS: Final = 12  # of the budget: one more of them is for messages that turn out longer than listed


class Budget:
    """Room for octets, shared by every run of this process."""

    def __init__(self, octets: int = BUDGET_OCTETS) -> None:
        self.total = octets
        self.free = octets  # less than nothing while messages have grown
        self.largest = octets // PARTS
        self.growth = octets // GROWTH_PARTS
        self.reserved = 0  # by runs, of the total
        self.runs = 0  # under way; one more session of a run counts as one more run
        self.sessions = 0  # such sessions
        self.lock = threading.RLock()  # taken by itself for each message: half the time of a condition
        self.change = threading.Condition(self.lock)
        self.waiting: deque[object] = deque()  # the first of them is next

    def room(self) -> RunRoom:
        """One run's share."""
        return RunRoom(self)


class RunRoom:
    """`sources.base.Room` for one run, out of the common budget. `begin` first; `end` gives back what is left."""

    def __init__(self, budget: Budget, of: RunRoom | None = None) -> None:
        """`of` is the run's own room, where this one is for one more session of it."""
        self.most = budget.largest - MESSAGE_OCTETS  # octets that a message counts as, at most
        self._cancelled = False
        self._of = of
        self._budget = budget
        self._taken = 0  # guarded by the budget's lock, as the next two
        self._reserved = 0
        self._begun = False

    @property
    def longest(self) -> int:
        """The octets of the longest body that is kept in memory.

        While a body comes it takes a multiple of its octets, in each run: 32 runs of messages of 1.9 MiB took 200 MiB
        in all, and take 130 with files.
        """
        return MEMORY_CAP_OCTETS if self._budget.runs <= CROWD_RUNS else MEMORY_CAP_OCTETS // 2

    @property
    def cancelled(self) -> bool:
        """Returns whether the run was cancelled."""
        return self._cancelled or (self._of is not None and self._of.cancelled)

    def another(self) -> RunRoom | None:
        """Returns room for one more session of the run, begun; `end` it. None where there are SESSIONS."""
        budget = self._budget
        with budget.lock:
            if budget.sessions >= SESSIONS:
                return None
            budget.sessions += 1
            room = RunRoom(budget, of=self)
            room.begin()
            return room

    def begin(self) -> None:
        """Take the run's own share, which never leaves less for messages than the largest one needs."""
        budget = self._budget
        with budget.lock:
            budget.runs += 1
            self._begun = True
            self._reserved = min(RUN_OCTETS, budget.total - budget.largest - budget.reserved)
            budget.reserved += self._reserved
            budget.free -= self._reserved

    def end(self) -> None:
        """Give everything back: the run is over. Repeatable."""
        with self._budget.lock:
            self._budget.reserved -= self._reserved
            self._budget.free += self._reserved
            self._budget.runs -= self._begun
            self._budget.sessions -= self._begun and self._of is not None
            self._reserved, self._begun = 0, False
            self.release()

    def try_take(self, octets: int) -> bool:
        """Take room for a message if there is some now that nobody waits for; never waits."""
        budget = self._budget
        with budget.lock:
            return not budget.waiting and self._take(octets)

    def take(self, octets: int, door: Door | None = None) -> None:
        """Take room for a message, wait for it if need be. Raises Cancelled, also when the `door` is shut."""
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

    def grow(self, octets: int) -> bool:
        """Take so many octets more for a message that is longer than listed, if there is room; never waits."""
        budget = self._budget
        with budget.lock:
            if octets > budget.free + budget.growth:
                return False
            budget.free -= octets
            self._taken += octets
            return True

    def shrink(self, octets: int) -> None:
        """Give back so many octets of a message that takes less: it is shorter than listed, or is in a file."""
        self._give(octets)

    def taken_by(self, listed: int, body: Body | None) -> int:
        """Returns what a message takes that was listed with so many octets, and has come (or not: None).

        A source has taken more for a message that turned out longer, unless it is in a file (`sources.base.Room`). A
        message that is much shorter gives back the rest.
        """
        listed = min(listed, self.most)
        if body is None or body.data is None or listed - SHORT_OCTETS <= body.octets <= listed:
            return listed
        if body.octets < listed:
            self.shrink(listed - body.octets)
        return body.octets

    def give(self, octets: int, messages: int) -> None:
        """Give back the room of so many messages; `octets` is the sum of what they take, see `taken_by`."""
        self._give(octets + messages * MESSAGE_OCTETS)

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds, and give nothing back meanwhile. Raises Cancelled."""
        with self._budget.change:
            self._budget.change.wait_for(lambda: self.cancelled, seconds)
        if self.cancelled:
            raise Cancelled("cancelled while waiting until the server may be asked again")

    def release(self) -> None:
        """Give back the room of all messages: none is under way any more. Repeatable."""
        self._give(self._taken)

    def cancel(self) -> None:
        """Wake a waiting `take`, from any thread."""
        self._cancelled = True
        self.wake()

    def wake(self) -> None:
        """Have every `take` look again whether it should wait."""
        with self._budget.change:
            self._budget.change.notify_all()

    def _take(self, octets: int) -> bool:
        budget = self._budget
        need = min(octets, self.most) + MESSAGE_OCTETS
        if need > budget.free:
            return False
        budget.free -= need
        self._taken += need
        return True

    def _give(self, octets: int) -> None:
        """Give back, and never more than was taken: a figure that is wrong does not make room out of nothing."""
        budget = self._budget
        with budget.change:
            octets = min(octets, self._taken)
            budget.free += octets
            self._taken -= octets
            budget.change.notify_all()


class Door:
    """A run's room as its reader sees it (`sources.base.Room`). Shut: nobody waits for a session that is over."""

    def __init__(self, room: RunRoom) -> None:
        self._room = room
        self.shut = False

    @property
    def longest(self) -> int:
        """As `RunRoom.longest`."""
        return self._room.longest

    def try_take(self, octets: int) -> bool:
        """As `RunRoom.try_take`."""
        return not self.shut and self._room.try_take(octets)

    def take(self, octets: int) -> None:
        """As `RunRoom.take`. Raises Cancelled when it is shut."""
        self._room.take(octets, self)

    def grow(self, octets: int) -> bool:
        """As `RunRoom.grow`."""
        return not self.shut and self._room.grow(octets)

    def shrink(self, octets: int) -> None:
        """As `RunRoom.shrink`."""
        self._room.shrink(octets)

    def close(self) -> None:
        """Shut it, from any thread. Repeatable."""
        self.shut = True
        self._room.wake()
