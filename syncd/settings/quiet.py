"""Quiet hours: times of the day in which a job does not run by its schedule. Pure; instants are in UTC.

Begin and end are times of a day in the job's time zone. In the night in which clocks go back, each of them comes once:
the first time. In the night in which they go forward, a time that is left out comes later by as much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

_SPAN: Final = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})\s*\Z")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end`, which may be on the next day. They are never equal."""

    begin: time
    end: time

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"


def parse_quiet_hours(value: object) -> QuietHours:
    """Read "22:00-06:00"."""
    match = _SPAN.match(value) if isinstance(value, str) else None
    hours = [int(part) for part in match.groups()] if match else []
    if not hours or max(hours[0], hours[2]) > 23 or max(hours[1], hours[3]) > 59:
        raise ValueError("is not a time of the day from HH:MM to HH:MM")
    begin, end = time(hours[0], hours[1]), time(hours[2], hours[3])
    if begin == end:
        raise ValueError("begins and ends at the same time; to switch a job off, set enabled = false")
    return QuietHours(begin, end)


def quiet_until(quiet_hours: str, zone: str, now: datetime) -> datetime | None:
    """Returns the end of the quiet hours that `now` is in; None outside of them, and where `quiet_hours` is empty."""
    return next((end for begin, end in _spans(quiet_hours, zone, now) if begin <= now < end), None)


def quiet_from(quiet_hours: str, zone: str, now: datetime) -> datetime | None:
    """Returns when the next quiet hours begin after `now`; None where `quiet_hours` is empty."""
    return next((begin for begin, _ in _spans(quiet_hours, zone, now) if begin > now), None)


def late_since(
    last_success: datetime, late_after: timedelta, quiet_hours: str, zone: str, now: datetime
) -> datetime | None:
    """Returns the instant since which a job is late; None while it is not.

    `last_success` is the time of the last success, or of the job's first definition if there was none. Quiet hours do
    not count: a job that may not run does not become late. The caller leaves out jobs that are paused.
    """
    at, left = last_success, late_after
    while at <= now:
        if until := quiet_until(quiet_hours, zone, at):
            at = until
            continue
        quiet = next((begin for begin, end in _spans(quiet_hours, zone, at) if at < begin < end), None)
        if quiet is None or at + left <= quiet:
            return at + left if at + left <= now else None
        at, left = quiet, left - (quiet - at)
    return None


def _spans(quiet_hours: str, zone: str, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yields begin and end of the quiet hours of the days around `now`, in UTC and in order."""
    if not quiet_hours:
        return
    quiet, info = _parsed(quiet_hours), ZoneInfo(zone)
    today = now.astimezone(info).date()
    for day in (today - _DAY, today, today + _DAY, today + 2 * _DAY):
        last = day if quiet.begin < quiet.end else day + _DAY
        yield _instant(day, quiet.begin, info), _instant(last, quiet.end, info)


@lru_cache(maxsize=256)
def _parsed(quiet_hours: str) -> QuietHours:
    return parse_quiet_hours(quiet_hours)


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)
