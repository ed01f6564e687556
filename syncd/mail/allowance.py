"""Octets that an account may give or take in 24 hours: `octets_per_day = { up = "500 MB", down = "2,500 MB" }`.

The window slides, in steps of BUCKET_S. Octets of messages count when they are asked for or about to be sent, also
those of earlier runs. A message that is larger than the whole allowance goes when nothing else went for a day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from syncd import clock
from syncd.errors import Throttled

BUCKET_S: Final = 900  # 96 rows a day tell when enough is free again
WINDOW_S: Final = 86_400


class Direction(IntEnum):
    """The direction of mail, as seen from us. The numbers stand in the database."""

    DOWN = 1
    UP = 2


Past = Callable[[float], Sequence[tuple[int, int]]]  # since → begin of a bucket and its octets, ascending


class Allowance:
    """What is left of one direction of an account. Used from any thread."""

    def __init__(self, octets: int, limit: str, past: Past) -> None:
        """`limit` is the option as errors name it. `past` is asked once, before the first octets."""
        self.limit = limit
        self._octets = octets
        self._past = past
        self._buckets: list[tuple[int, int]] | None = None
        self._lock = threading.Lock()

    def take(self, octets: int) -> Throttled | None:
        """Count octets, and return None; or return why they are not to pass now, and until when."""
        now = clock.now().timestamp()
        with self._lock:
            if self._buckets is None:
                self._buckets = list(self._past(now - WINDOW_S))
            self._buckets = [one for one in self._buckets if one[0] <= now < _end(one)]  # ahead: the clock was wrong
            free_at = self._free_at(octets, now)
            if free_at is None:
                self._count(octets, int(now) // BUCKET_S * BUCKET_S)
                return None
        until = datetime.fromtimestamp(min(free_at, now + WINDOW_S), UTC)  # the ledger believes no longer time
        return Throttled(f"{self.limit} is used up for the last 24 hours", until=until, limit=self.limit)

    def _free_at(self, octets: int, now: float) -> float | None:
        """Returns when so many octets may pass; None: now."""
        assert self._buckets is not None
        used, at = sum(known for _, known in self._buckets), now
        for bucket in self._buckets:
            if used + octets <= self._octets or not used:
                break
            used, at = used - bucket[1], _end(bucket)
        return None if at == now else at

    def _count(self, octets: int, begin: int) -> None:
        assert self._buckets is not None
        if self._buckets and self._buckets[-1][0] == begin:
            octets += self._buckets.pop()[1]
        self._buckets.append((begin, octets))


def _end(bucket: tuple[int, int]) -> float:
    return bucket[0] + BUCKET_S + WINDOW_S
