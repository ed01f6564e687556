"""The sender threads of one batch, and the groups of outcomes that come from them.

A group has everything that happened since the last group: outcomes and SENDINGs share a commit. While the engine
commits, the threads begin their next messages, so a commit costs no round trip and a round trip costs no commit.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from syncd import clock
from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay
from syncd.destinations.smtp.shared import Asking, Event, Grant, Outgoing, Shared, ThreadEnded, Transaction
from syncd.destinations.smtp.thread import SenderThread
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict

OUTCOME_WAIT_S = 0.1  # an outcome waits so long for the next SENDING, to share its commit
SENDING_WAIT_S = 0.002  # a SENDING waits for those of other threads: fewer commits, a tenth less processor time
GRACE_S = 1.0  # after a stop, replies that are about to come are read for so long


@dataclass(slots=True)
class Group:
    """Outcomes to be made durable together, and the threads that may go on afterwards."""

    outcomes: list[Outcome] = field(default_factory=list)
    asking: list[Asking] = field(default_factory=list)
    until: float = math.inf  # the group closes then at the latest

    def close_within(self, seconds: float) -> None:
        """Wait at most `seconds` for more."""
        self.until = min(self.until, clock.monotonic() + seconds)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.asking)


class SenderThreads:
    """Sender threads at work. One thread calls `start`, `gather`, `release` and `finish`; any thread may `stop`."""

    def __init__(
        self,
        relay: Relay,
        batch: Sequence[Message],
        prepare: Callable[[Message, Connection], Transaction | Outcome],
        pace: Pace,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        """No further message is begun once `over` returns True."""
        self._shared = Shared(relay, deque(map(Outgoing, batch)), prepare, pace, over)
        self._events = self._shared.events
        count = min(relay.options.connections, len(batch))
        self._threads = [SenderThread(self._shared, f"smtp sender {number}") for number in range(1, count + 1)]
        self._started: list[SenderThread] = []
        self._running = 0
        self._asked: list[Asking] = []  # yielded as SENDING, not yet released
        self._errors: list[ThreadEnded] = []
        self._timer = threading.Timer(GRACE_S, self._cancel)
        self._timer.daemon = True
        self._stopped = False

    def start(self) -> None:
        """Connect one thread, then start them all: a wrong password is tried once. Raises what `Relay.take` raises."""
        self._threads[0].connect()
        for thread in self._threads:
            thread.start()
            self._started.append(thread)
        self._running = len(self._started)

    def gather(self) -> Sequence[Outcome]:
        """Wait for an event; return all that happened since the last group. Empty when all threads have ended."""
        group = Group()
        while (self._running or not self._events.empty()) and (event := self._next(group)) is not None:
            if isinstance(event, Outcome):
                group.close_within(OUTCOME_WAIT_S)
                group.outcomes.append(event)
            elif isinstance(event, ThreadEnded):
                self._running -= 1
                self._errors.append(event)
            elif self._stopped:
                event.grants.put(Grant.ABANDON)
            else:
                group.close_within(SENDING_WAIT_S)
                group.asking.append(event)
        if not self._running:
            group.outcomes += self._shared.unsent()
        self._asked = group.asking
        return [*group.outcomes, *(Outcome(asking.key, Verdict.SENDING) for asking in group.asking)]

    def release(self) -> None:
        """Let threads end their messages, because the last group is durable."""
        asked, self._asked = self._asked, []
        for asking in asked:
            asking.grants.put(Grant.NO if self._stopped else Grant.YES)

    def stop(self) -> None:
        """From any thread: begin no further message, end none; give up what is unanswered after GRACE_S."""
        if not self._stopped:
            self._stopped = True
            self._shared.stopping.set()
            self._timer.start()

    def finish(self) -> None:
        """Wait until no thread is at work. Messages that were not granted are never ended. Repeatable."""
        if self._running:
            self._stopped = True
            self._shared.stopping.set()
            self._cancel()
        self._refuse(self._asked)
        while self._running:
            event = self._events.get()
            if isinstance(event, Asking):
                self._refuse([event])
            self._running -= isinstance(event, ThreadEnded)
        for thread in self._started:
            thread.join()
        self._timer.cancel()

    def check(self) -> None:
        """Raise the error that ended the work before the end of the batch, if there is one."""
        if self._stopped:
            return
        ended = sorted((ended for ended in self._errors if ended.error), key=lambda ended: not ended.fatal)
        if ended and ended[0].error and (ended[0].fatal or self._shared.todo):
            raise ended[0].error

    def _next(self, group: Group) -> Event | None:
        """Returns the next event; None when the group is to be closed instead."""
        seconds: float | None = None
        if group.asking and len(group.asking) >= self._running:
            seconds = 0.0
        elif group:
            seconds = max(0.0, group.until - clock.monotonic())
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def _refuse(self, asked: Sequence[Asking]) -> None:
        for asking in asked:
            asking.grants.put(Grant.ABANDON)

    def _cancel(self) -> None:
        for thread in self._threads:
            thread.cancel()
