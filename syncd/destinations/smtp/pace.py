"""Limits on how many messages may leave in a time: `rate = "20/minute"`, `per_day = 2000`. Counted, never guessed.

The window slides: at most 20 messages in any 60 s. Messages of earlier runs count too, so that a job that runs every
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

MAX_PAUSE_S = 60.0  # a POP3 source waits meanwhile; its server allows 600 s (RFC 1939 §3)


class Limit(NamedTuple):
    """At most `messages` in any `seconds`."""

    messages: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.messages:,} messages in {self.seconds:,} s"


class History:
    """The times of the newest messages that left for an account. Shared by all jobs that send there; any thread."""

    def __init__(self, limits: Iterable[Limit], past: Callable[[float], Iterable[float]] = lambda _: ()) -> None:
        """`limits` are all limits that will be asked about; without limits nothing is kept.

        `past(since)` returns the times (seconds, UTC, ascending) of messages that were sent before. It is called once.
        """
        limits = list(limits)
        self.lock = threading.Lock()  # taken by the caller of the methods below
        self._sent = deque[float](maxlen=max((limit.messages for limit in limits), default=0))
        self._seconds = max((limit.seconds for limit in limits), default=0)
        self._past = past
        self._asked = not limits

    def recall(self, now: float) -> None:
        """Read what earlier runs sent, once, before the first count."""
        if not self._asked:
            self._asked = True
            self._sent.extend(self._past(now - self._seconds))

    def wait(self, limit: Limit, now: float) -> float:
        """Returns the seconds until the oldest message of a full window has left it."""
        sent = self._sent
        return sent[-limit.messages] + limit.seconds - now if len(sent) >= limit.messages else 0.0

    def count(self, now: float) -> None:
        """Count a message that leaves."""
        self._sent.append(now)

    def discount(self) -> None:
        """Take back the newest count: the message did not leave."""
        if self._sent:
            self._sent.pop()


class Pace:
    """The limits of one job's destination. Its own mail keeps to them; mail of other jobs counts as well."""

    def __init__(self, limits: Sequence[Limit], history: History | None = None) -> None:
        self._limits = limits
        self._history = history or History(limits)
        self.patience_s = MAX_PAUSE_S  # how long the caller waits at most

    def take(self) -> float:
        """Take a place and return 0, or return the seconds until there is one.

        Raises Throttled if that takes longer than MAX_PAUSE_S or `patience_s`.
        """
        history = self._history
        with history.lock:
            now = clock.now().timestamp()
            history.recall(now)
            waits = [(history.wait(limit, now), limit) for limit in self._limits]
            seconds, limit = max(waits, default=(0.0, None))
            if limit is None or seconds <= 0:
                history.count(now)
                return 0.0
        if seconds > min(MAX_PAUSE_S, self.patience_s):
            until = datetime.fromtimestamp(now + seconds, UTC)
            raise Throttled(f"the job's limit of {limit} is used up", until=until, limit=str(limit))
        return seconds

    def give_back(self) -> None:
        """Give a place back: nothing has left."""
        with self._history.lock:
            self._history.discount()
