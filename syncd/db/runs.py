"""Runs: one row for each execution of a job, while it works and as its history.

A run is written when the job's lease is held, and carries the same holder. One whose owner died is ABANDONED by whoever
looks next; its work is not lost, the next run of the job goes on from the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, desc, func, insert, literal, select, update

from syncd import clock
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.leases import database_now
from syncd.db.models import jobs, leases, runs
from syncd.db.states import RUN_MOVES, RunState, origins
from syncd.errors import Conflict

HISTORY: Final = 50  # runs shown unless more are asked for


@dataclass(frozen=True, slots=True)
class RunRow:
    """One execution of a job. `counts` are the numbers its last slice reported; `message` is empty unless it failed."""

    id: int
    uuid: UUID
    job: str
    state: RunState
    trigger: str
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    holder: Holder | None
    counts: Mapping[str, int]
    message: str


class Runs:
    """The run rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, job_id: int, trigger: str, holder: Holder) -> int:
        """Write a run that `holder` works on from now; `trigger` says who asked, such as "hand". Returns its id."""
        now = to_microseconds(clock.now())
        values = {
            "uuid": uuid4().bytes,
            "job_id": job_id,
            "state": RunState.RUNNING,
            "trigger": trigger,
            "queued_at": now,
            "started_at": now,
            "holder": str(holder),
        }
        with self._database.write() as connection:
            return int(connection.execute(insert(runs).values(values).returning(runs.c.id)).scalar_one())

    def progress(self, run_id: int, counts: Mapping[str, int]) -> None:
        """Replace the counts of a run that is under way."""
        with self._database.write() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(counts=json.dumps(dict(counts))))

    def finish(
        self, run_id: int, state: RunState, exit_code: int, counts: Mapping[str, int], message: str = ""
    ) -> None:
        """Close a run for good. Raises Conflict when it is closed already."""
        values = {
            "state": state,
            "exit_code": exit_code,
            "counts": json.dumps(dict(counts)),
            "message": message,
            "finished_at": to_microseconds(clock.now()),
        }
        may = runs.c.state.in_(origins(RUN_MOVES, state))
        with self._database.write() as connection:
            if not connection.execute(update(runs).where(runs.c.id == run_id, may).values(values)).rowcount:
                raise Conflict(f"run {run_id} is finished already and cannot become {state.name.lower()}")

    def history(self, job_id: int | None = None, limit: int = HISTORY) -> list[RunRow]:
        """The newest runs first, of one job or of all."""
        which = _RUNS.order_by(desc(runs.c.id)).limit(limit)
        return self._rows(which if job_id is None else which.where(runs.c.job_id == job_id))

    def latest(self, job_ids: Iterable[int]) -> dict[int, RunRow]:
        """The newest run of each job that has one."""
        newest = select(func.max(runs.c.id)).where(runs.c.job_id.in_(list(job_ids))).group_by(runs.c.job_id)
        with self._database.read() as connection:
            return {row.job_id: _run(row) for row in connection.execute(_RUNS.where(runs.c.id.in_(newest)))}

    def abandon(self) -> list[RunRow]:
        """Close the runs whose owner died or whose job somebody else has by now, and give them as they were.

        An owner on another machine is given up when its lease has run out. Costs one read when there are none.
        """
        with self._database.read() as connection:
            if not _orphans(connection):
                return []
        with self._database.write() as connection:
            orphans = _orphans(connection)
            values = {"state": RunState.ABANDONED, "finished_at": to_microseconds(clock.now())}
            connection.execute(update(runs).where(runs.c.id.in_([run.id for run in orphans])).values(values))
            return orphans

    def _rows(self, statement: Select[Any]) -> list[RunRow]:
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(statement)]


_RUNS: Final = select(runs, jobs.c.name.label("job")).join(jobs, jobs.c.id == runs.c.job_id)


def _orphans(connection: Connection) -> list[RunRow]:
    held: ColumnElement[bool] = and_(
        leases.c.resource == literal("job:") + jobs.c.name,
        leases.c.holder == runs.c.holder,
        leases.c.expires_at > database_now(connection),
    )
    running = _RUNS.add_columns(leases.c.resource).outerjoin(leases, held).where(runs.c.state == RunState.RUNNING)
    found = [(_run(row), row.resource is not None) for row in connection.execute(running)]
    return [run for run, holds in found if not holds or (run.holder is not None and run.holder.is_dead())]


def _run(row: Row[Any]) -> RunRow:
    def instant(number: int | None) -> datetime | None:
        return None if number is None else from_microseconds(number)

    return RunRow(
        id=row.id,
        uuid=UUID(bytes=row.uuid),
        job=row.job,
        state=RunState(row.state),
        trigger=row.trigger,
        queued_at=from_microseconds(row.queued_at),
        started_at=instant(row.started_at),
        finished_at=instant(row.finished_at),
        exit_code=row.exit_code,
        holder=Holder.parse(row.holder) if row.holder else None,
        counts=json.loads(row.counts),
        message=row.message,
    )
