"""Due times: queues a run for each job whose time has come by its schedule.

Each due time has one run, or is counted in the run that covers it. The next time of a job follows from its schedule,
which callers know (`services.agenda`): db only keeps it, in `definitions.next_due`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from sqlalchemy import BigInteger, Connection, Row, bindparam, func, or_, select, text, update

from syncd import clock
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import definitions, jobs
from syncd.db.states import RunState

SCHEDULE: Final = "schedule"  # the trigger of a run that came due
DUE_AT_ONCE: Final = 500  # jobs in one transaction of `queue_due`


class Due(NamedTuple):
    """A job that has come due, as its schedule needs it."""

    job_id: int
    job: str
    configuration: str
    schedule: str
    timezone: str
    jitter_s: int
    quiet_hours: str
    next_due: datetime | None


class Next(NamedTuple):
    """The answer to a due time: the next one, the number between them, and when the run may begin (None: at once)."""

    due: datetime | None
    missed: int = 0
    not_before: datetime | None = None


class Queued(NamedTuple):
    """A run that was queued because its time came. `due_at`: the time by its schedule; `at_once`: it may begin now."""

    run_id: int
    site: str
    due_at: datetime
    at_once: bool = True


def queue_due(
    database: Database, until: datetime, following: Callable[[Due, datetime], Next]
) -> tuple[list[Queued], bool]:
    """Queue a run for each job that is due by `until`; returns the runs, and whether more jobs are due.

    Each due time has one run, or is counted in the run that covers it: where the job has an open run already, that one.
    """
    at = {"until": to_microseconds(until)}
    with database.read() as connection:
        if connection.execute(_ANY_DUE, at).first() is None:
            return [], False
    queued: list[Queued] = []
    with database.write() as connection:
        # Another scheduler may be at it, or have been quicker; `apply` may be changing some, which come a second later.
        due = connection.execute(_SOONEST, {**at, "most": DUE_AT_ONCE}).all()
        following_of = {row.job_id: following(_due(row), until) for row in due}
        for row in due:
            follows = following_of[row.job_id]
            run_id = _account_for(connection, row, follows) if row.paused_since is None else None
            if run_id is not None:
                due_at = from_microseconds(row.next_due)
                queued.append(Queued(run_id, row.site, due_at, at_once=follows.not_before is None))
        if following_of:
            times = [{"job": job_id, "due": _microseconds(it.due)} for job_id, it in following_of.items()]
            connection.execute(_SET_DUE, times)
    return queued, len(due) == DUE_AT_ONCE


def bring_forward(database: Database, due: Callable[[Due], datetime | None]) -> int:
    """Have jobs come due earlier where `due` names an earlier time than is noted; returns how many.

    After a clock that was ahead has been set back: what it noted may lie years ahead.
    """
    earlier = last = 0
    while True:
        some = _SCHEDULED.where(definitions.c.job_id > last).order_by(definitions.c.job_id).limit(DUE_AT_ONCE)
        with database.read() as connection:
            rows = connection.execute(some).all()
        found = [(row, _microseconds(due(_due(row)))) for row in rows]
        sooner = [(row, at) for row, at in found if at is not None and (row.next_due is None or at < row.next_due)]
        if sooner:
            with database.write() as connection:
                connection.execute(_SET_SOONER, [{"job": row.job_id, "due": at} for row, at in sooner])
        earlier += len(sooner)
        if len(rows) < DUE_AT_ONCE:
            return earlier
        last = rows[-1].job_id


def count_due(database: Database, until: datetime) -> int:
    """Returns how many jobs are due by `until`."""
    with database.read() as connection:
        return connection.execute(_COUNT_DUE, {"until": to_microseconds(until)}).scalar_one()


def next_due(database: Database) -> datetime | None:
    """Returns the earliest due time of all; None where nothing has one."""
    with database.read() as connection:
        found = connection.execute(_NEXT_DUE).scalar()
    return None if found is None else from_microseconds(found)


def _account_for(connection: Connection, row: Row[Any], follows: Next) -> int | None:
    """Queue a run for a due time, or count the due time in the open run; returns the id of the new run, if any.

    It is one statement. On PostgreSQL the open run could end between two, and the due time had no run and no count.
    """
    values = {
        "uuid": uuid4().bytes,
        "job_id": row.job_id,
        "state": int(RunState.QUEUED),
        "trigger": SCHEDULE,
        "due_at": row.next_due,
        "not_before": _microseconds(follows.not_before),
        "queued_at": to_microseconds(clock.now()),
        "missed": follows.missed,
    }
    found = connection.execute(_ENQUEUE, values).first()
    return found.id if found is not None and found.uuid == values["uuid"] else None


def _due(row: Row[Any]) -> Due:
    at = None if row.next_due is None else from_microseconds(row.next_due)
    return Due(row.job_id, row.name, row.configuration, row.schedule, row.timezone, row.jitter_s, row.quiet_hours, at)


_DUE: Final = (
    select(definitions, jobs.c.name, jobs.c.configuration, jobs.c.paused_since)
    .join(jobs, jobs.c.id == definitions.c.job_id)
    .where(jobs.c.enabled)
)
_SCHEDULED: Final = _DUE.where(definitions.c.schedule != "")
_IS_DUE: Final = definitions.c.next_due <= bindparam("until", type_=BigInteger)
_SOONEST: Final = (
    _DUE.where(_IS_DUE)
    .order_by(definitions.c.next_due)
    .limit(bindparam("most", type_=BigInteger))
    .with_for_update(of=definitions, skip_locked=True)
)
_ANY_DUE: Final = _DUE.with_only_columns(definitions.c.job_id).where(_IS_DUE).limit(1)
_COUNT_DUE: Final = select(func.count()).select_from(definitions).where(_IS_DUE)
_NEXT_DUE: Final = (
    select(definitions.c.next_due).where(definitions.c.next_due.is_not(None)).order_by(definitions.c.next_due).limit(1)
)
_SET_DUE: Final = update(definitions).where(definitions.c.job_id == bindparam("job")).values(next_due=bindparam("due"))
_SET_SOONER: Final = _SET_DUE.where(or_(definitions.c.next_due.is_(None), definitions.c.next_due > bindparam("due")))
_ENQUEUE: Final = text(  # nothing where this due time has had its run: the clock went back
    'INSERT INTO runs (uuid, job_id, state, "trigger", due_at, not_before, queued_at, missed)'
    " SELECT :uuid, :job_id, :state, :trigger, :due_at, CAST(:not_before AS BIGINT), :queued_at, :missed"
    " WHERE NOT EXISTS (SELECT 1 FROM runs WHERE job_id = :job_id AND due_at = :due_at)"
    " ON CONFLICT (job_id) WHERE state IN (0, 1)"  # uq_runs_open: QUEUED and RUNNING
    " DO UPDATE SET missed = runs.missed + 1 + excluded.missed RETURNING id, uuid"
)


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else to_microseconds(at)
