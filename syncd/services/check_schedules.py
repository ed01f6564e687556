"""Warnings about schedules that do not do what they seem to: a job that is late again and again, or never on time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from syncd.services.triggers import next_due
from syncd.settings.mistakes import Mistake
from syncd.settings.quiet import late_since, quiet_until

if TYPE_CHECKING:
    from syncd.settings.schema import Settings

_MONDAY: Final = datetime(2024, 1, 1, tzinfo=UTC)  # any time does: schedules repeat
_SPAN: Final = timedelta(days=62)  # two months, so that schedules by the month are seen
_MOST: Final = 60  # due times


def odd_schedules(settings: Settings) -> Iterator[Mistake]:
    """Yields warnings about the jobs that have a schedule."""
    for name, job in settings.jobs.items():
        if job.schedule is None:
            continue
        schedule, zone = str(job.schedule), job.timezone or settings.timezone
        quiet = "" if job.quiet_hours is None else str(job.quiet_hours)
        if job.late_after is not None and _is_late_again(schedule, zone, quiet, job.late_after):
            text = f'is over before the schedule "{schedule}" comes again, so the job would be late each time'
            yield Mistake(("jobs", name, "late_after"), f"{text}; accepted: a time that is longer than the pause")
        if quiet and _is_always_quiet(schedule, zone, quiet):
            text = f'has every time of the schedule "{schedule}", so each run begins when the quiet hours end'
            yield Mistake(("jobs", name, "quiet_hours"), text)


@lru_cache(maxsize=256)
def _due(schedule: str, zone: str) -> tuple[datetime, ...]:
    """Returns due times of about two months, at least two of them."""
    found = [next_due(schedule, zone, "", 0, _MONDAY)]
    while len(found) < 2 or (len(found) < _MOST and found[-1] < _MONDAY + _SPAN):
        found.append(next_due(schedule, zone, "", 0, found[-1]))
    return tuple(found)


@lru_cache(maxsize=256)
def _is_late_again(schedule: str, zone: str, quiet: str, late_after: timedelta) -> bool:
    """Returns whether a job that succeeds at each due time becomes late before the next one."""
    return any(late_since(one, late_after, quiet, zone, next_one) for one, next_one in pairwise(_due(schedule, zone)))


@lru_cache(maxsize=256)
def _is_always_quiet(schedule: str, zone: str, quiet: str) -> bool:
    return all(quiet_until(quiet, zone, at) is not None for at in _due(schedule, zone))
