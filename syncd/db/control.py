"""Control: what people ask of jobs and runs, as columns that workers and schedulers read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select, update

from syncd import clock
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import jobs, runs
from syncd.db.queue import CANCELLED, pause_in
from syncd.db.rows import Paused
from syncd.db.states import RunState, move


class Pause(NamedTuple):
    """Since when a job is paused, and why."""

    since: datetime
    why: Paused


class Cancelled(NamedTuple):
    """The result of a wish to cancel. `closed`: the run had not begun; otherwise its worker is asked to stop."""

    run_id: int
    closed: bool


def pause(database: Database, job_id: int) -> bool:
    """Pause a job: it has no new runs, and the one under way ends its slice. Whether it was not paused."""
    with database.write() as connection:
        return pause_in(connection, job_id, Paused.PERSON)


def resume(database: Database, job_id: int) -> bool:
    """Let a job run by its schedule again; whether it was paused."""
    with database.write() as connection:
        paused = update(jobs).where(jobs.c.id == job_id, jobs.c.paused_since.is_not(None))
        values = {"paused_since": None, "paused_why": None, "refusals": 0}
        return bool(connection.execute(paused.values(values)).rowcount)


def pauses(database: Database, job_ids: Collection[int]) -> dict[int, Pause]:
    """Returns those of the jobs that are paused."""
    wanted = select(jobs.c.id, jobs.c.paused_since, jobs.c.paused_why).where(jobs.c.paused_since.is_not(None))
    with database.read() as connection:
        rows = connection.execute(wanted).all()
    among = set(job_ids)
    return {
        row.id: Pause(from_microseconds(row.paused_since), Paused(row.paused_why)) for row in rows if row.id in among
    }


def cancel(database: Database, run_id: int) -> Cancelled | None:
    """Cancel an open run: close it if nobody works on it, else ask its worker. None where it is closed already."""
    values = {"exit_code": 130, "message": CANCELLED, "finished_at": to_microseconds(clock.now())}
    queued = move(runs.c.state, RunState.STOPPED, only=(RunState.QUEUED,)).where(runs.c.id == run_id).values(values)
    running = update(runs).where(runs.c.id == run_id, runs.c.state == number(RunState.RUNNING))
    with database.write() as connection:
        if connection.execute(queued).rowcount:
            return Cancelled(run_id, closed=True)
        if connection.execute(running.values(cancel_requested=True)).rowcount:
            return Cancelled(run_id, closed=False)
        if connection.execute(queued).rowcount:  # its slice ended between the two
            return Cancelled(run_id, closed=True)
    return None
