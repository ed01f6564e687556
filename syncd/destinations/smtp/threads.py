"""The lanes of one batch, and the groups of outcomes that come from them.

A group is what has happened since the last one: as many outcomes and SENDINGs as there are share a commit. While the
engine commits, lanes begin their next messages, so that a commit costs no round trip and a round trip no commit.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from syncd import clock
from syncd.destinations.base import Outcome, Verdict
from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay
from syncd.destinations.smtp.shared import Asking, Board, Ended, Event, Flight, Transaction
from syncd.destinations.smtp.thread import Lane
from syncd.mail.message import Message

COMPANY_S = 0.1  # an outcome waits so long for the next SENDING, to share its commit
LANES_S = 0.002  # and a SENDING for those of the other lanes: fewer commits, a tenth less processor time in all
GRACE_S = 1.0  # when stopped: a server that is just answering is listened to


@dataclass(slots=True)
class Group:
    """Outcomes to be made durable together, and the lanes that may go on afterwards."""

    outcomes: list[Outcome] = field(default_factory=list)
    asking: list[Asking] = field(default_factory=list)
    until: float = math.inf  # it closes then at the latest

    def close_within(self, seconds: float) -> None:
        """Wait no longer than so for more."""
        self.until = min(self.until, clock.monotonic() + seconds)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.asking)


class Crew:
    """Lanes at work. One thread calls `start`, `gather`, `release` and `finish`; `stop` comes from any."""

    def __init__(
        self,
        relay: Relay,
        batch: Sequence[Message],
        prepare: Callable[[Message, Connection], Transaction | Outcome],
        pace: Pace,
    ) -> None:
        self._board = Board(relay, deque(map(Flight, batch)), prepare, pace)
        self._events = self._board.events
        lanes = min(relay.options.connections, len(batch))
        self._lanes = [Lane(self._board, f"smtp lane {number}") for number in range(1, lanes + 1)]
        self._started: list[Lane] = []
        self._running = 0
        self._asked: list[Asking] = []  # yielded as SENDING, not yet released
        self._errors: list[Ended] = []
        self._timer = threading.Timer(GRACE_S, self._cancel)
        self._timer.daemon = True
        self._stopped = False

    def start(self) -> None:
        """Connect one lane, then start them all: a wrong password is tried once. Raises what the connecting raised."""
        self._lanes[0].connect()
        for lane in self._lanes:
            lane.start()
            self._started.append(lane)
        self._running = len(self._started)

    def gather(self) -> Sequence[Outcome]:
        """What has happened since the last group; waits for something. Empty when all lanes have ended."""
        group = Group()
        while (self._running or not self._events.empty()) and (event := self._next(group)) is not None:
            if isinstance(event, Outcome):
                group.close_within(COMPANY_S)
                group.outcomes.append(event)
            elif isinstance(event, Ended):
                self._running -= 1
                self._errors.append(event)
            elif self._stopped:
                event.grants.put(None)
            else:
                group.close_within(LANES_S)
                group.asking.append(event)
        if not self._running:
            group.outcomes += self._board.unsent()
        self._asked = group.asking
        return [*group.outcomes, *(Outcome(asking.key, Verdict.SENDING) for asking in group.asking)]

    def release(self) -> None:
        """The last group is durable: its lanes may end their messages."""
        asked, self._asked = self._asked, []
        for asking in asked:
            asking.grants.put(not self._stopped)

    def stop(self) -> None:
        """Begin no further message, end none; what is unanswered after GRACE_S is given up. From any thread."""
        if not self._stopped:
            self._stopped = True
            self._board.stopping.set()
            self._timer.start()

    def finish(self) -> None:
        """Wait until no lane is at work; messages that were not granted are never ended. Repeatable."""
        if self._running:
            self._stopped = True
            self._board.stopping.set()
            self._cancel()
        self._refuse(self._asked)
        while self._running:
            event = self._events.get()
            if isinstance(event, Asking):
                self._refuse([event])
            self._running -= isinstance(event, Ended)
        for lane in self._started:
            lane.join()
        self._timer.cancel()

    def check(self) -> None:
        """Raise what ended the work, if that was not the end of the batch."""
        if self._stopped:
            return
        ended = sorted((ended for ended in self._errors if ended.error), key=lambda ended: not ended.fatal)
        if ended and ended[0].error and (ended[0].fatal or self._board.todo):
            raise ended[0].error

    def _next(self, group: Group) -> Event | None:
        """The next event; None when the group is to be closed instead."""
        patience: float | None = None
        if group.asking and len(group.asking) >= self._running:
            patience = 0.0
        elif group:
            patience = max(0.0, group.until - clock.monotonic())
        try:
            return self._events.get(timeout=patience)
        except queue.Empty:
            return None

    def _refuse(self, asked: Sequence[Asking]) -> None:
        for asking in asked:
            asking.grants.put(None)

    def _cancel(self) -> None:
        for lane in self._lanes:
            lane.cancel()
