"""Lateness of jobs in SQL: which have had no success for longer than their `late_after`, quiet hours left aside.

Quiet hours do not count as lateness, and no database can tell them. So SQL finds jobs that may be late, and for those
that have quiet hours a `Judge` decides (`settings.quiet.late_since`; callers hand it in, as db knows no settings).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func

from syncd.db.instants import SECOND, from_microseconds, to_microseconds
from syncd.db.models import definitions, jobs

# (last success, late_after, quiet hours, time zone, now) → since when it is late; None: it is not
Judge = Callable[[datetime, timedelta, str, str, datetime], datetime | None]

COUNTS_FROM: Final = func.coalesce(jobs.c.succeeded_at, definitions.c.applied_at)
LATE_AT: Final = case((jobs.c.paused_since.is_(None), COUNTS_FROM + definitions.c.late_after_s * SECOND))  # or null
APPLIED: Final = definitions.join(jobs, and_(jobs.c.id == definitions.c.job_id, jobs.c.enabled))
COLUMNS: Final = (  # that `late_since` needs
    COUNTS_FROM.label("counts_from"),
    LATE_AT.label("late_at"),
    definitions.c.late_after_s,
    definitions.c.quiet_hours,
    definitions.c.timezone,
)


def may_be_late(now: datetime) -> ColumnElement[bool]:
    """Returns the condition of jobs that are late, but for quiet hours."""
    return LATE_AT.between(0, to_microseconds(now) - 1)


def late_since(row: Any, now: datetime, judge: Judge) -> datetime | None:  # Any: a row with COLUMNS and more
    """Returns since when the job of a row with COLUMNS is late; None where it is not."""
    if row.late_at is None or row.late_at >= to_microseconds(now):
        return None
    if not row.quiet_hours:
        return from_microseconds(row.late_at)
    after = timedelta(seconds=row.late_after_s)
    return judge(from_microseconds(row.counts_from), after, row.quiet_hours, row.timezone, now)
