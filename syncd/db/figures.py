"""Figures of the service that the database knows: for metrics, readiness and `syncd doctor`.

Every statement goes by an index, or over one row for each job: none of them grows with messages or history. They take
no lock. `figures` is one read transaction; callers keep its result for some seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, and_, case, func, or_, select

from syncd import clock
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.database_time import database_now
from syncd.db.instants import SECOND, from_microseconds, to_microseconds
from syncd.db.lateness import APPLIED, COLUMNS, LATE_AT, Judge, late_since, may_be_late
from syncd.db.leases import LEADER, unexpired
from syncd.db.migrations import HEAD, schema_version
from syncd.db.models import definitions, jobs, leases, runs
from syncd.db.queue import HAND
from syncd.db.rows import Paused
from syncd.db.states import RunState
from syncd.db.workers import known_in, living

NAMED_JOBS: Final = 500  # a metric has a time series for each; of further jobs there are only sums

_OPEN: Final = runs.c.state.in_([number(RunState.QUEUED), number(RunState.RUNNING)])  # the condition of uq_runs_open
_BY_SCHEDULE: Final = and_(definitions.c.schedule != "", jobs.c.paused_since.is_(None))


class JobFigures(NamedTuple):
    """Figures of a job. `succeeded_at` is None where it never did; `late_s` is 0 where it is not late."""

    configuration: str
    job: str
    succeeded_at: datetime | None
    late_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The service at one moment, `at`."""

    at: datetime
    queued: int = 0  # runs
    running: int = 0
    oldest_ready_s: float = 0.0  # how long the run that may begin longest waits for a worker
    overdue_s: float = 0.0  # how long the due time has passed that no scheduler has seen yet
    jobs: int = 0  # applied
    paused: Mapping[Paused, int] = field(default_factory=dict)  # jobs
    in_trouble: int = 0  # jobs whose last run did not end well
    late: int = 0  # jobs
    latest_s: float = 0.0  # how late the latest of them is
    oldest_success: datetime | None = None  # of all jobs that have a schedule and are not paused
    named: tuple[JobFigures, ...] = ()  # the first NAMED_JOBS
    leads: bool = False  # a scheduler
    living: Mapping[str, int] = field(default_factory=dict)  # role → processes


def figures(database: Database, judge: Judge) -> Figures:
    """Returns the figures of this moment; `judge` tells lateness. Raises LedgerError, StorageError."""
    now = clock.now()
    with database.read() as connection:
        states, oldest_ready = _open_runs(connection, now)
        counts = _of_jobs(connection, now)
        quiet = _late_with_quiet_hours(connection, now, judge)
        since = [*quiet] if counts.late_since is None else [*quiet, from_microseconds(counts.late_since)]
        return Figures(
            at=now,
            queued=states[RunState.QUEUED],
            running=states[RunState.RUNNING],
            oldest_ready_s=oldest_ready,
            overdue_s=_overdue(connection, now),
            jobs=counts.jobs,
            paused=_paused(connection),
            in_trouble=counts.in_trouble or 0,
            late=(counts.late or 0) + len(quiet),
            latest_s=(now - min(since, default=now)).total_seconds(),
            oldest_success=None if counts.oldest is None else from_microseconds(counts.oldest),
            named=_named(connection, now, judge),
            leads=leads(connection),
            living=_living(connection),
        )


def leads(connection: Connection) -> bool:
    """Returns whether a scheduler leads."""
    leader = select(leases.c.resource).where(leases.c.resource == LEADER, leases.c.holder != "", unexpired(connection))
    return connection.execute(leader).first() is not None


def schema_is_right(connection: Connection) -> bool:
    """Returns whether the database has the schema that this program knows."""
    return schema_version(connection) == HEAD


def clock_difference(connection: Connection) -> float:
    """Returns how far the database's clock is ahead of this machine's, in seconds."""
    before = clock.now().timestamp()
    theirs = connection.execute(select(database_now(connection))).scalar_one()
    return theirs - (before + clock.now().timestamp()) / 2


# --- inside --------------------------------------------------------------------------------------------


def _open_runs(connection: Connection, now: datetime) -> tuple[Counter[int], float]:
    """Returns the open runs by state, and how long one waits already that may begin."""
    by_state = select(runs.c.state, func.count().label("open")).where(_OPEN).group_by(runs.c.state)
    counted = Counter({row.state: row.open for row in connection.execute(by_state)})
    ready = func.coalesce(runs.c.not_before, runs.c.queued_at)
    waits = or_(jobs.c.paused_since.is_(None), runs.c.trigger == HAND)
    queued = select(func.min(ready)).join(jobs, jobs.c.id == runs.c.job_id)
    oldest = connection.execute(queued.where(runs.c.state == number(RunState.QUEUED), waits)).scalar()
    return counted, _passed(oldest, now)


def _overdue(connection: Connection, now: datetime) -> float:
    soonest = select(definitions.c.next_due).where(definitions.c.next_due.is_not(None))
    return _passed(connection.execute(soonest.order_by(definitions.c.next_due).limit(1)).scalar(), now)


def _passed(at: int | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (to_microseconds(now) - at) / SECOND)


def _paused(connection: Connection) -> dict[Paused, int]:
    paused = select(jobs.c.paused_why, func.count()).select_from(APPLIED).where(jobs.c.paused_since.is_not(None))
    return {Paused(why): count for why, count in connection.execute(paused.group_by(jobs.c.paused_why))}


def _of_jobs(connection: Connection, now: datetime) -> Row[Any]:  # Any: more columns than its type can name
    """Returns counts and extremes over all jobs."""
    late = and_(may_be_late(now), definitions.c.quiet_hours == "")
    return connection.execute(
        select(
            func.count().label("jobs"),
            func.sum(case((jobs.c.trouble != "", 1), else_=0)).label("in_trouble"),
            func.sum(case((late, 1), else_=0)).label("late"),
            func.min(case((late, LATE_AT))).label("late_since"),
            func.min(case((_BY_SCHEDULE, jobs.c.succeeded_at))).label("oldest"),
        ).select_from(APPLIED)
    ).one()


def _late_with_quiet_hours(connection: Connection, now: datetime, judge: Judge) -> list[datetime]:
    """Returns since when the jobs are late that have quiet hours."""
    found = select(*COLUMNS).select_from(APPLIED).where(may_be_late(now), definitions.c.quiet_hours != "")
    judged = [late_since(row, now, judge) for row in connection.execute(found)]
    return [since for since in judged if since is not None]


def _named(connection: Connection, now: datetime, judge: Judge) -> tuple[JobFigures, ...]:
    first = select(jobs.c.configuration, jobs.c.name, jobs.c.succeeded_at, *COLUMNS).select_from(APPLIED)
    named = []
    for row in connection.execute(first.order_by(definitions.c.job_id).limit(NAMED_JOBS)):
        since = late_since(row, now, judge)
        late_s = 0.0 if since is None else (now - since).total_seconds()
        succeeded = None if row.succeeded_at is None else from_microseconds(row.succeeded_at)
        named.append(JobFigures(row.configuration, row.name, succeeded, late_s))
    return tuple(named)


def _living(connection: Connection) -> dict[str, int]:
    found = known_in(connection)
    return {role: len(living(found, role)) for role in ("worker", "scheduler")}
