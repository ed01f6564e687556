"""The instants at which a wall clock shows the times of a schedule. Pure; instants are in UTC.

APScheduler's cron trigger finds the next time of the wall clock, as if there were no time zones. The zone is ours: with
one, the trigger comes twice in the night in which clocks go back, and returns the same hour for ever where arithmetic
on local time has lost its `fold`. The rules are those of cron:

    a time of the day   (`30 2 * * *`, `at 02:30`) comes once a day: the first of two; after a gap, later by the gap
    continuous          (minute or hour begins with `*`): each time that the clock shows it, so twice in that hour
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from syncd.settings.schedules import Days, Schedule

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

MAX_KEPT: Final = 4  # due times of a schedule; jitter needs the last, the next and the one after
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_INSTANT: Final = timedelta(microseconds=1)
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class WallClock:
    """The due times of a schedule that has times of the day, in a time zone."""

    def __init__(self, schedule: Schedule, zone: str) -> None:
        self._schedule = schedule
        self._zone = ZoneInfo(zone)
        self._gaps: tuple[tuple[datetime, datetime], ...] = ()  # replaced as a whole, because threads read it

    def following(self, after: datetime) -> datetime:
        """Returns the first due time later than `after`.

        What was found last is kept, because thousands of jobs may have the same schedule.
        """
        for start, end in self._gaps:
            if start <= after < end:
                return end
        found = self._search(after)
        self._gaps = (*self._gaps[1 - MAX_KEPT :], (after, found))
        return found

    def _search(self, after: datetime) -> datetime:
        """Go through the times of the clock, near a change of the offset until none can be an earlier instant."""
        trigger = _trigger(self._schedule)
        wall = (after + min(self._offsets(after.astimezone(self._zone)))).replace(tzinfo=None)
        best: datetime | None = None
        while True:
            wall = _next(trigger, wall)
            offsets = self._offsets(wall)
            if best is not None and wall.replace(tzinfo=UTC) - max(offsets) >= best:
                return best
            best = min((at for at in (best, *self._instants(wall)) if at is not None and at > after), default=None)
            if best is not None and len(offsets) == 1:
                return best

    def count(self, after: datetime, until: datetime) -> int:
        """Returns how many due times are later than `after` and not later than `until`.

        Goes through the days, not through their times: a year of `* * * * *` takes some milliseconds.
        """
        day, last = after.astimezone(self._zone).date() - _DAY, until.astimezone(self._zone).date() + _DAY
        count = 0
        while day <= last:
            if _has(self._schedule.days, day):
                count += self._count_on(day, after, until)
            day += _DAY
        return count

    def preceding(self, before: datetime, within: timedelta) -> datetime | None:
        """Returns the last due time earlier than `before`, if it is no earlier than `before` less `within`."""
        day, first = before.astimezone(self._zone).date() + _DAY, (before - within).astimezone(self._zone).date() - _DAY
        best: datetime | None = None
        while day >= first:
            found = max((at for at in self._last_of(day, before) if at >= before - within), default=None)
            if best is not None:  # a time in a gap may have come later than a time of the next day
                return best if found is None else max(best, found)
            best = found
            day -= _DAY
        return best

    def _last_of(self, day: date, before: datetime) -> list[datetime]:
        """Returns the last due time of a day earlier than `before`, or several, if the offset changes."""
        if not _has(self._schedule.days, day):
            return []
        midnight = self._midnight(day)
        if midnight is None:
            return [at for at in self._instants_of(day) if at < before]
        number = bisect_left(self._schedule.times, (before - midnight) / _MINUTE)
        return [midnight + self._schedule.times[number - 1] * _MINUTE] if number else []

    def _count_on(self, day: date, after: datetime, until: datetime) -> int:
        midnight, times = self._midnight(day), self._schedule.times
        if midnight is None:
            return sum(after < at <= until for at in self._instants_of(day))
        first, end = ((at - midnight) / _MINUTE for at in (after, until))
        return bisect_right(times, end) - bisect_right(times, first)

    def _midnight(self, day: date) -> datetime | None:
        """Returns the instant at which a day begins that has 24 hours; None for a day on which the offset changes."""
        begin = datetime.combine(day, time())
        found = (at.replace(fold=fold) for at in (begin, begin + _DAY) for fold in (0, 1))
        offsets = {self._zone.utcoffset(at) for at in found}
        return None if len(offsets) > 1 else begin.replace(tzinfo=self._zone).astimezone(UTC)

    def _instants_of(self, day: date) -> list[datetime]:
        """Returns the due times of a day, without those that are due times by what the clock shows then."""
        midnight = datetime.combine(day, time())
        walls = [midnight + minute * _MINUTE for minute in self._schedule.times]
        return [at for wall in walls for at in self._instants(wall) if not self._is_another(wall, at)]

    def _is_another(self, wall: datetime, at: datetime) -> bool:
        shown = at.astimezone(self._zone).replace(tzinfo=None)
        minute = shown.hour * 60 + shown.minute
        return shown != wall and _has(self._schedule.days, shown.date()) and minute in self._schedule.times

    def _instants(self, wall: datetime) -> list[datetime]:
        """Returns the instants at which a job is due because of a time of the clock: none, one or two."""
        if not self._schedule.continuous:  # PEP 495: fold 0 is the first of two, and in a gap the offset before it
            return [wall.replace(tzinfo=self._zone, fold=0).astimezone(UTC)]
        offsets = {self._zone.utcoffset(wall.replace(fold=fold)) for fold in (0, 1)}
        both = [wall.replace(tzinfo=UTC) - offset for offset in offsets if offset is not None]
        return [at for at in both if at.astimezone(self._zone).replace(tzinfo=None) == wall]

    def _offsets(self, local: datetime) -> set[timedelta]:
        """Returns the offsets from UTC within a day around a local time; mostly one."""
        wall = local.replace(tzinfo=None)
        found = (self._zone.utcoffset(wall + days * _DAY) for days in (-1, 0, 1))
        return {offset for offset in found if offset is not None}


def _next(trigger: BaseTrigger, wall: datetime) -> datetime:
    """Returns the next time of the wall clock; a schedule that has none was refused with the configuration."""
    found = trigger.get_next_fire_time(None, wall.replace(tzinfo=UTC) + _INSTANT)
    return found.replace(tzinfo=None)  # type: ignore[no-any-return]


def _has(days: Days, day: date) -> bool:
    """Returns whether a schedule has a day."""
    if day.month not in days.months:
        return False
    in_month, in_week = day.day in days.days, day.isoweekday() % 7 in days.weekdays
    return (in_month or in_week) if days.either else (in_month and in_week)


@lru_cache(maxsize=1024)
def _trigger(schedule: Schedule) -> BaseTrigger:
    """Returns the trigger of a schedule. Weekdays have names in it, because the trigger takes 0 for Monday."""
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    days = schedule.days
    weekdays = {"day_of_week": ",".join(_WEEKDAYS[day] for day in sorted(days.weekdays))}
    in_month = {"day": _runs(days.days)}
    choices = [in_month, weekdays] if days.either else [in_month | weekdays]
    triggers = [
        CronTrigger(minute=_runs(minutes), hour=_runs(hours), month=_runs(days.months), timezone=UTC, **choice)
        for minutes, hours in _products(schedule.times)
        for choice in choices
    ]
    return triggers[0] if len(triggers) == 1 else OrTrigger(triggers)


def _products(times: Sequence[int]) -> list[tuple[tuple[int, ...], list[int]]]:
    """Returns times of the day as pairs of minutes and hours, each minute with each hour."""
    minutes_of = defaultdict(list)
    for at in times:
        minutes_of[at // 60].append(at % 60)
    hours_of = defaultdict(list)
    for hour, minutes in minutes_of.items():
        hours_of[tuple(minutes)].append(hour)
    return list(hours_of.items())


def _runs(numbers: Iterable[int]) -> str:
    """Returns numbers in ascending order as "1-3,7"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
