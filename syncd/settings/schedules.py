"""Reads schedules as people write them: "every 15 minutes", "at 02:00, 14:30", "0 3 * * mon-fri", "@daily".

Pure functions of text; which instants follow from a schedule is in `services.triggers`. A ValueError says what is
wrong; the caller adds an accepted value.

Cron expressions have the five fields and the meaning of crontab(5): 0 and 7 are Sunday, names have three letters, `n/s`
goes from n to the end of the field. Where both day fields are restricted, one of them suffices; a field that begins
with `*` is not a restriction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from syncd.settings.values import parse_duration

SHORTEST_FOR_SERVERS: Final = timedelta(minutes=1)  # most servers throttle more frequent sign-ins
MINUTES_OF_A_DAY: Final = 24 * 60
MAX_TIMES: Final = 48  # of "at": a list as long as this is meant to be an interval
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})\Z")
_LONGEST: Final = {month: 30 if month in {4, 6, 9, 11} else 29 if month == 2 else 31 for month in range(1, 13)}
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a cron expression; `weekdays` has 0 for Sunday. With `either`, one of day and weekday suffices."""

    days: frozenset[int] = frozenset(range(1, 32))
    months: frozenset[int] = frozenset(range(1, 13))
    weekdays: frozenset[int] = frozenset(range(7))
    either: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of a job: an interval, or times of certain days. `times`: minutes of the day, in ascending order.

    With `continuous`, minute or hour begins with `*`: such a schedule follows the clock through a change of the time
    zone's offset. Other schedules mean a time of the day, which comes once each day.
    """

    text: str
    every: timedelta | None = None
    times: tuple[int, ...] = ()
    days: Days = Days()
    continuous: bool = False

    def __str__(self) -> str:
        return self.text


def parse_schedule(value: object) -> Schedule:
    """Read a schedule. "every day" is every 24 hours; "at 02:00" is 02:00 in the job's time zone."""
    words = value.split() if isinstance(value, str) else []
    text = " ".join(words)
    if words[:1] == ["every"]:
        every = parse_duration(" ".join(words[1:] if len(words) > 2 else ["1", *words[1:]]))
        return Schedule(text, every=every)
    if words[:1] == ["at"]:
        return Schedule(text, times=_times_of_day(text.removeprefix("at")))
    if text.startswith("@"):
        if text.lower() not in _NICKNAMES:
            raise ValueError(f"is not a time; accepted: {', '.join(_NICKNAMES)}")
        words = _NICKNAMES[text.lower()].split()
    if len(words) != len(_CRON_FIELDS):
        raise ValueError("is neither an interval, nor times, nor the five fields of a cron expression")
    return _cron(text, words)


def _times_of_day(text: str) -> tuple[int, ...]:
    """Returns the minutes of the day in a list such as "02:00, 14:30"."""
    times = set()
    for item in text.split(","):
        match = _TIME.match(item.strip())
        if match is None or int(match[1]) > 23 or int(match[2]) > 59:
            raise ValueError(f"has {item.strip()!r}, which is not a time between 00:00 and 23:59")
        times.add(int(match[1]) * 60 + int(match[2]))
    if len(times) > MAX_TIMES:
        raise ValueError(f"has more than {MAX_TIMES} times; write an interval, or a cron expression")
    return tuple(sorted(times))


@dataclass(frozen=True, slots=True)
class _CronField:
    name: str
    low: int
    high: int
    names: Sequence[str] = ()

    def number(self, word: str) -> int:
        if word.lower() in self.names:
            return self.low + self.names.index(word.lower())
        if word.isascii() and word.isdigit() and self.low <= int(word) <= self.high:
            return int(word)
        raise ValueError(f"has {word!r} for the {self.name}, which goes from {self.low} to {self.high}")


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON_FIELDS: Final = (
    _CronField("minute", 0, 59),
    _CronField("hour", 0, 23),
    _CronField("day of the month", 1, 31),
    _CronField("month", 1, 12, _MONTHS),
    _CronField("day of the week", 0, 7, _DAYS),
)


def _cron(text: str, words: Sequence[str]) -> Schedule:
    minutes, hours, days, months, weekdays = (
        _numbers(word, field) for word, field in zip(words, _CRON_FIELDS, strict=True)
    )
    any_minute, any_hour, any_day, _, any_weekday = (word.startswith("*") for word in words)
    either = not any_day and not any_weekday
    if min(days) > max(_LONGEST[month] for month in months):
        if not either:
            raise ValueError("never comes: none of its months has such a day")
        days, either = Days().days, False  # only the weekday is left
    return Schedule(
        text,
        times=tuple(sorted(hour * 60 + minute for hour in hours for minute in minutes)),
        days=Days(days, months, frozenset(day % 7 for day in weekdays), either),
        continuous=any_minute or any_hour,
    )


def _numbers(text: str, field: _CronField) -> frozenset[int]:
    """Returns the numbers of a field: `item,item`, where an item is `*`, `n` or `n-m`, perhaps followed by `/step`."""
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and not (step.isascii() and step.isdigit() and 1 <= int(step) <= field.high):
            raise ValueError(f"has the step {step!r} for the {field.name}, which goes from 1 to {field.high}")
        first, dash, last = span.partition("-")
        start = field.low if span == "*" else field.number(first)
        end = field.number(last) if dash else field.high if span == "*" or slash else start
        if start > end:
            raise ValueError(f"has the range {span!r} for the {field.name}, which runs backwards")
        found.update(range(start, end + 1, int(step) if slash else 1))
    return frozenset(found)
