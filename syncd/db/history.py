"""History: runs that ended, kept for a while. A job's newest run is kept whatever its age.

A run that found nothing to do goes after an hour: a hundred thousand jobs that look every 15 minutes would leave ten
million rows a day. Runs that another row names (a listing that changed something, a message that waits) stay.

A run whose worker died and whose job was taken out of its configuration is closed here: no worker looks for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select

from syncd.db import errands, workers
from syncd.db.bulk import IN_LIST, number
from syncd.db.database import Database
from syncd.db.definitions import NOT_WANTED, purge_documents
from syncd.db.instants import to_microseconds
from syncd.db.leases import job_resource_of, unexpired
from syncd.db.models import (
    definitions,
    jobs,
    leases,
    listings,
    permits,
    problems,
    run_notes,
    runs,
    uncertain_outcomes,
)
from syncd.db.states import RunState, move

IDLE_KEPT: Final = timedelta(hours=1)
LEFT_AFTER: Final = timedelta(hours=1)
LEFT_BEHIND: Final = f"its worker ended, and {NOT_WANTED}"
_CLOSED: Final = [number(state) for state in RunState if state not in {RunState.QUEUED, RunState.RUNNING}]


def purge(database: Database, now: datetime, keep: timedelta) -> int:
    """Throw away runs that ended longer ago than `keep`, with their notes; returns how many.

    Idle runs go after IDLE_KEPT, and so do documents and processes that nothing names. In transactions of IN_LIST runs.
    What was asked of the page goes after `keep`.
    """
    gone = _purge_runs(database, and_(runs.c.idle, runs.c.finished_at < to_microseconds(now - min(IDLE_KEPT, keep))))
    gone += _purge_runs(database, and_(runs.c.state.in_(_CLOSED), runs.c.finished_at < to_microseconds(now - keep)))
    with database.write() as connection:
        _close_left_behind(connection, now)
        purge_documents(connection)
        workers.forget(connection)
        errands.forget(connection, now - keep)
    return gone


def _close_left_behind(connection: Connection, now: datetime) -> None:
    """Close runs that have stood still for LEFT_AFTER, without a lease, and whose job has no definition."""
    wanted = exists().where(definitions.c.job_id == runs.c.job_id)
    leased = exists().where(
        jobs.c.id == runs.c.job_id,
        leases.c.resource == job_resource_of(runs.c.job_id),
        leases.c.holder == runs.c.holder,
        unexpired(connection),
    )
    still = runs.c.updated_at < to_microseconds(now - LEFT_AFTER)
    closed = move(runs.c.state, RunState.ABANDONED, only=(RunState.RUNNING,)).where(~wanted, ~leased, still)
    values = {"finished_at": to_microseconds(now), "exit_code": 1, "message": LEFT_BEHIND, "phase": ""}
    connection.execute(closed.values(values))


def _purge_runs(database: Database, which: ColumnElement[bool]) -> int:
    gone = last = 0
    while ids := _some(database, which, last):
        with database.write() as connection:
            for table in (run_notes, permits):
                connection.execute(delete(table).where(table.c.run_id.in_(ids)))
            gone += connection.execute(delete(runs).where(runs.c.id.in_(ids))).rowcount
        last = ids[-1]
    return gone


def _some(database: Database, which: ColumnElement[bool], last: int) -> list[int]:
    """Returns the next runs after `last` that may go, in the order of their ids."""
    later: Any = runs.alias("later")  # Any: an alias has the columns of its table
    newer = exists().where(later.c.job_id == runs.c.job_id, later.c.id > runs.c.id)
    named = [exists().where(table.c.run_id == runs.c.id) for table in (listings, problems, uncertain_outcomes)]
    found = select(runs.c.id).where(which, runs.c.id > last, newer, *(~name for name in named))
    with database.read() as connection:
        return list(connection.execute(found.order_by(runs.c.id).limit(IN_LIST)).scalars())
