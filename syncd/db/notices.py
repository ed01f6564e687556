"""Notices: what people were told of each job, and when, so that several schedulers tell it once.

    conditions   jobs that people may have to be told of
    told         what a channel has told of each job
    claim        before a message is sent: only one process gets the right to send it, for as long as sending may take
    done         the message has left: this is known from now on
    failed       it has not: nobody tries again before a time

A process that dies between sending and `done` has its message sent again when its claim ends: told twice, never not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, or_, select, text, update

from syncd.db.bulk import IN_LIST
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.lateness import APPLIED, COLUMNS, Judge, late_since, may_be_late
from syncd.db.models import definitions, jobs, notices
from syncd.db.rows import Paused
from syncd.db.troubles import code_of

FORGET: Final = timedelta(days=1)  # after which a job that is well again leaves no row


class Condition(NamedTuple):
    """A job as it stands. `late_since` is None where it is not late; `exit_code` is 0 where its run ended well."""

    job_id: int
    configuration: str
    job: str
    succeeded_at: datetime | None
    late_since: datetime | None
    paused: Paused | None
    paused_since: datetime | None
    exit_code: int
    trouble: str  # the error line
    trouble_since: datetime | None


class Told(NamedTuple):
    """The news of a job that a channel has told."""

    job_id: int
    marks: str
    at: datetime | None
    claimed_until: datetime | None
    tries: int


def conditions(database: Database, now: datetime, judge: Judge) -> list[Condition]:
    """Returns the applied jobs that something is wrong with, and those that somebody was told of."""
    was_told = exists().where(notices.c.job_id == jobs.c.id)
    of_interest = or_(jobs.c.trouble != "", jobs.c.paused_since.is_not(None), may_be_late(now), was_told)
    found = (
        select(
            jobs.c.id, jobs.c.configuration, jobs.c.name, jobs.c.succeeded_at, jobs.c.paused_why, jobs.c.paused_since,
            jobs.c.trouble, jobs.c.trouble_text, jobs.c.trouble_since, *COLUMNS,
        )
        .select_from(APPLIED)
        .where(of_interest)
        .order_by(jobs.c.id)
    )  # fmt: skip
    with database.read() as connection:
        return [
            Condition(
                job_id=row.id,
                configuration=row.configuration,
                job=row.name,
                succeeded_at=_instant(row.succeeded_at),
                late_since=late_since(row, now, judge),
                paused=None if row.paused_since is None else Paused(row.paused_why),
                paused_since=_instant(row.paused_since),
                exit_code=code_of(row.trouble),
                trouble=row.trouble_text,
                trouble_since=_instant(row.trouble_since),
            )
            for row in connection.execute(found)
        ]


def told(database: Database, channel: str) -> dict[int, Told]:
    """Returns what a channel has told, by job."""
    with database.read() as connection:
        rows = connection.execute(select(notices).where(notices.c.channel == channel))
        return {
            row.job_id: Told(row.job_id, row.told, _instant(row.told_at), _instant(row.claimed_until), row.tries)
            for row in rows
        }


def claim(
    database: Database, channel: str, wanted: Iterable[tuple[int, str]], now: datetime, until: datetime
) -> set[int]:
    """Claim the right to tell of jobs until a time; `wanted` has each with the marks that it was told with last.

    Returns the jobs that nobody else tells of, or has told of meanwhile.
    """
    ours = set()
    with database.write() as connection:
        for job_id, marks in wanted:
            values = {
                "channel": channel,
                "job": job_id,
                "marks": marks,
                "now": to_microseconds(now),
                "until": to_microseconds(until),
            }
            if connection.execute(_CLAIM, values).first() is not None:
                ours.add(job_id)
    return ours


def done(database: Database, channel: str, marks: Iterable[tuple[int, str]], now: datetime) -> None:
    """Note that people know of each job's `marks` now."""
    rows = [{"for": channel, "job": job_id, "told": known} for job_id, known in marks]
    values = {"told": bindparam("told"), "told_at": to_microseconds(now), "claimed_until": None, "tries": 0}
    with database.write() as connection:
        if rows:
            connection.execute(update(notices).where(_OF_JOB).values(values), rows)


def failed(database: Database, channel: str, job_ids: Iterable[int], again_at: datetime) -> None:
    """Note that a message about these jobs did not leave; the next try is not before `again_at`."""
    rows = [{"for": channel, "job": job_id} for job_id in job_ids]
    values = {"claimed_until": to_microseconds(again_at), "tries": notices.c.tries + 1}
    with database.write() as connection:
        if rows:
            connection.execute(update(notices).where(_OF_JOB).values(values), rows)


def purge(database: Database, now: datetime) -> None:
    """Forget what was told of jobs that have been well for a day, or are not applied any more."""
    long_ago = to_microseconds(now - FORGET)
    applied = exists().where(definitions.c.job_id == notices.c.job_id)
    gone = or_(and_(notices.c.told == "", func.coalesce(notices.c.told_at, 0) < long_ago), ~applied)
    unclaimed = func.coalesce(notices.c.claimed_until, 0) < to_microseconds(now)
    with database.read() as connection:
        found = connection.execute(select(notices.c.channel, notices.c.job_id).where(gone, unclaimed)).all()
    if found:
        with database.write() as connection:
            _forget(connection, [row.job_id for row in found], gone & unclaimed)


# --- inside --------------------------------------------------------------------------------------------

_OF_JOB: Final = and_(notices.c.channel == bindparam("for"), notices.c.job_id == bindparam("job"))
_CLAIM: Final = text(
    "INSERT INTO notices (channel, job_id, told, told_at, claimed_until, tries)"
    " VALUES (:channel, :job, '', NULL, :until, 0)"
    " ON CONFLICT (channel, job_id) DO UPDATE SET claimed_until = excluded.claimed_until"
    " WHERE notices.told = :marks AND (notices.claimed_until IS NULL OR notices.claimed_until <= :now)"
    " RETURNING job_id"
)


def _forget(connection: Connection, job_ids: Collection[int], which: object) -> None:
    ids = sorted(job_ids)
    for start in range(0, len(ids), IN_LIST):
        some = notices.c.job_id.in_(ids[start : start + IN_LIST])
        connection.execute(delete(notices).where(some, which))  # type: ignore[arg-type]  # a condition, as above


def _instant(number: int | None) -> datetime | None:
    return None if number is None else from_microseconds(number)
