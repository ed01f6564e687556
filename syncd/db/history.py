"""History: runs that ended, kept for a while. A job's newest run is kept whatever its age.

A run that found nothing to do goes after an hour: a hundred thousand jobs that look every 15 minutes would leave ten
million rows a day. Runs that another row names (a listing that changed something, a message that waits) stay.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, exists, select

from syncd.db import workers
from syncd.db.bulk import IN_LIST, number
from syncd.db.database import Database
from syncd.db.definitions import purge_documents
from syncd.db.instants import to_microseconds
from syncd.db.models import listings, permits, problems, run_notes, runs, uncertain_outcomes
from syncd.db.states import RunState

IDLE_KEPT: Final = timedelta(hours=1)
_CLOSED: Final = [number(state) for state in RunState if state not in {RunState.QUEUED, RunState.RUNNING}]


def purge(database: Database, now: datetime, keep: timedelta) -> int:
    """Throw away runs that ended longer ago than `keep`, with their notes; returns how many.

    Idle runs go after IDLE_KEPT, and so do documents and processes that nothing names. In transactions of IN_LIST runs.
    """
    gone = _purge_runs(database, and_(runs.c.idle, runs.c.finished_at < to_microseconds(now - min(IDLE_KEPT, keep))))
    gone += _purge_runs(database, and_(runs.c.state.in_(_CLOSED), runs.c.finished_at < to_microseconds(now - keep)))
    with database.write() as connection:
        purge_documents(connection)
        workers.forget(connection)
    return gone


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
