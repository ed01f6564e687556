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


class Pace:
    """Shared by whatever sends to one account; from any thread."""

    def __init__(self, limits: Sequence[Limit], past: Callable[[float], Iterable[float]] = lambda _: ()) -> None:
        """`past(since)` gives the instants (seconds, UTC, ascending) of what was sent; it is asked once, late."""
        self._limits = [(limit, deque[float](maxlen=limit.messages)) for limit in limits]
        self._past = past
        self._asked = False
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take a place and give 0, or give the seconds until there is one. Raises Throttled where these are many."""
        with self._lock:
            now = clock.now().timestamp()
            if not self._asked:
                self._asked = True
                self._remember(now)
            waits = [(_wait(limit, sent, now), limit) for limit, sent in self._limits]
            seconds, limit = max(waits, default=(0.0, None))
            if limit is None or seconds <= 0:
                self._count(now)
                return 0.0
        if seconds > MAX_PAUSE_S:
            until = datetime.fromtimestamp(now + seconds, UTC)
            raise Throttled(f"the limit of {limit} that its job sets is used up", until=until)
        return seconds

    def _remember(self, now: float) -> None:
        if self._limits:
            for instant in self._past(now - max(limit.seconds for limit, _ in self._limits)):
                self._count(instant)

    def _count(self, instant: float) -> None:
        for _, sent in self._limits:
            sent.append(instant)


def _wait(limit: Limit, sent: deque[float], now: float) -> float:
    """Seconds until the oldest of a full window has left it."""
    return sent[0] + limit.seconds - now if len(sent) == limit.messages else 0.0
