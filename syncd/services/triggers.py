"""The times at which jobs come due by their schedules. Pure: time is an argument, and every instant is in UTC.

Two schedulers, and one before and after a restart, must agree on each due time, because the ledger has one run for
each. So phase and jitter are hashes of the job's key and of the due time, never random.

An interval is counted from a moment that follows from the key; its time zone means nothing. Times of the day are in
`wall_clock.py`. Jitter puts off each due time, but always before the next one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Protocol

from syncd.services.wall_clock import WallClock
from syncd.settings.schedules import parse_schedule

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = timedelta(microseconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


def next_due(schedule: str, zone: str, phase_key: str, jitter_s: float, after: datetime) -> datetime:
    """Returns the first due time later than `after`, in UTC.

    `phase_key` names the job among all jobs of the database. Raises ValueError if `schedule` cannot be read.
    """
    times = _times(schedule, zone, phase_key)
    jitter = _Jitter(times, phase_key, timedelta(seconds=jitter_s))
    last = jitter.hanging(after)
    return jitter.put_off(times.following(after)) if last is None else last


def due_between(schedule: str, zone: str, phase_key: str, jitter_s: float, *, after: datetime, until: datetime) -> int:
    """Returns how many due times are later than `after` and not later than `until`.

    They are not gone through one by one, so years of `* * * * *` are counted in milliseconds.
    """
    if until <= after:
        return 0
    times = _times(schedule, zone, phase_key)
    jitter = _Jitter(times, phase_key, timedelta(seconds=jitter_s))
    early, late = jitter.hanging(after) is not None, jitter.hanging(until) is not None
    return times.count(after, until) + early - late


class _Times(Protocol):
    """Due times without jitter."""

    def following(self, after: datetime) -> datetime:
        """Returns the first due time later than `after`."""
        ...

    def count(self, after: datetime, until: datetime) -> int:
        """Returns how many due times are later than `after` and not later than `until`."""
        ...

    def preceding(self, before: datetime, within: timedelta) -> datetime | None:
        """Returns the last due time earlier than `before`, if it is no earlier than `before` less `within`."""
        ...


def _times(schedule: str, zone: str, phase_key: str) -> _Times:
    parsed = _parsed(schedule)
    if parsed.every is None:
        return _wall_clock(schedule, zone)
    return _Interval(parsed.every, phase_key)


_parsed = lru_cache(maxsize=1024)(parse_schedule)


@lru_cache(maxsize=1024)
def _wall_clock(schedule: str, zone: str) -> WallClock:
    return WallClock(_parsed(schedule), zone)


class _Interval:
    """Due times at equal distances, exact to the microsecond for as long as dates go."""

    def __init__(self, every: timedelta, phase_key: str) -> None:
        self._every = every
        self._start = _EPOCH + int(_share(phase_key) * (every / _MILLISECOND)) * _MILLISECOND

    def following(self, after: datetime) -> datetime:
        return self._start + ((after - self._start) // self._every + 1) * self._every

    def count(self, after: datetime, until: datetime) -> int:
        return (until - self._start) // self._every - (after - self._start) // self._every

    def preceding(self, before: datetime, within: timedelta) -> datetime | None:
        last = self._start + ((before - self._start - _INSTANT) // self._every) * self._every
        return last if last >= before - within else None


class _Jitter:
    """Due times put off by up to `most`."""

    def __init__(self, times: _Times, key: str, most: timedelta) -> None:
        self._times = times
        self._key = key
        self._most = most

    def put_off(self, at: datetime) -> datetime:
        """Returns a due time with its jitter, in whole milliseconds; it is earlier than the next due time."""
        if not self._most:
            return at
        room = min(self._most, self._times.following(at) - at)
        return at + int(_share(f"{self._key}\0{at:%Y%m%d%H%M%S%f}") * (room / _MILLISECOND)) * _MILLISECOND

    def hanging(self, now: datetime) -> datetime | None:
        """Returns the due time that was to be by `now` and was put off beyond `now`. There is one at the most."""
        last = self._times.preceding(now + _INSTANT, self._most) if self._most else None
        due = None if last is None else self.put_off(last)
        return due if due is not None and due > now else None


def _share(text: str) -> float:
    """Returns a number from 0 up to 1, but not 1, that follows from a text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()) / (1 << 48)
