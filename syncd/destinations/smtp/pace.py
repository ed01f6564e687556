"""How many messages may leave in how long: `rate = "20/minute"`, `per_day = 2000`. Counted, never guessed.

A window slides: of any 60 s, at most 20. What earlier runs sent counts as well, so that a job that runs every
minute does not send 20 each time. A short wait is waited for; for a longer one the destination is suspended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from syncd import clock
from syncd.errors import Throttled

MAX_PAUSE_S = 60.0  # a POP3 server that waits meanwhile does so for 600 s (RFC 1939 §3)


class Limit(NamedTuple):
    """At most so many messages in any so many seconds."""

    messages: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.messages:,} messages in {self.seconds:,} s"


class History:
    """When messages left for one account, the newest of them. Shared by all jobs that send there; from any thread."""

    def __init__(self, limits: Iterable[Limit], past: Callable[[float], Iterable[float]] = lambda _: ()) -> None:
        """`limits`: all that will be asked about; without any, nothing is kept.

        `past(since)` gives the instants (seconds, UTC, ascending) of what was sent before; it is asked once, late.
        """
        limits = list(limits)
        self.lock = threading.Lock()  # to be held
        self._sent = deque[float](maxlen=max((limit.messages for limit in limits), default=0))
        self._seconds = max((limit.seconds for limit in limits), default=0)
        self._past = past
        self._asked = not limits

    def recall(self, now: float) -> None:
        """Before anything is counted: what earlier runs sent."""
        if not self._asked:
            self._asked = True
            self._sent.extend(self._past(now - self._seconds))

    def wait(self, limit: Limit, now: float) -> float:
        """Seconds until the oldest of a full window has left it."""
        sent = self._sent
        return sent[-limit.messages] + limit.seconds - now if len(sent) >= limit.messages else 0.0

    def count(self, now: float) -> None:
        """One leaves."""
        self._sent.append(now)

    def discount(self) -> None:
        """The newest did not leave after all."""
        if self._sent:
            self._sent.pop()


class Pace:
    """The limits of one job's destination. Its own mail keeps to them; that of other jobs counts as well."""

    def __init__(self, limits: Sequence[Limit], history: History | None = None) -> None:
        self._limits = limits
        self._history = history or History(limits)

    def take(self) -> float:
        """Take a place and give 0, or give the seconds until there is one. Raises Throttled where these are many."""
        history = self._history
        with history.lock:
            now = clock.now().timestamp()
            history.recall(now)
            waits = [(history.wait(limit, now), limit) for limit in self._limits]
            seconds, limit = max(waits, default=(0.0, None))
            if limit is None or seconds <= 0:
                history.count(now)
                return 0.0
        if seconds > MAX_PAUSE_S:
            until = datetime.fromtimestamp(now + seconds, UTC)
            raise Throttled(f"the limit of {limit} that its job sets is used up", until=until)
        return seconds

    def give_back(self) -> None:
        """A place was not needed: nothing has left."""
        with self._history.lock:
            self._history.discount()
