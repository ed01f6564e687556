"""Runs: one row for each execution of a job. The table is the queue, shows what is under way, and is the history.

    enqueue   a row that is QUEUED; a unique index allows a job one open row, and one row for each due time
    claim     QUEUED and due, or RUNNING with a dead owner → RUNNING, generation + 1
    progress  counts, phase and notes, in the transaction of a batch
    requeue   RUNNING → QUEUED, for the next slice
    finish    RUNNING → closed for good

Every write of a claimed run checks its generation: a process that was frozen while another one took its run over can
write nothing any more (LeaseLost).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    case,
    desc,
    exists,
    func,
    select,
    text,
    update,
)

from syncd import clock
from syncd.db import days
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.instants import believed, from_microseconds, to_microseconds
from syncd.db.leases import job_resource_of, unexpired
from syncd.db.ledger.backoff import LONGEST
from syncd.db.models import deliveries, jobs, leases, routes, run_notes, runs
from syncd.db.progress import lost
from syncd.db.states import DeliveryState, RunState, move

HISTORY: Final = 50  # runs shown unless more are asked for
ATTEMPTS: Final = 3  # to get a row: another process may close it between our look and our claim
_OPEN: Final = runs.c.state.in_([number(RunState.QUEUED), number(RunState.RUNNING)])  # the condition of uq_runs_open

_ENQUEUE: Final = text(
    'INSERT INTO runs (uuid, job_id, state, "trigger", due_at, not_before, queued_at)'
    " VALUES (:uuid, :job_id, :state, :trigger, :due_at, :not_before, :queued_at)"
    " ON CONFLICT DO NOTHING RETURNING id"
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One execution of a job. `counts` are totals over its slices; `message` is empty unless it failed."""

    id: int
    uuid: UUID
    job_id: int
    job: str
    state: RunState
    trigger: str
    due_at: datetime | None
    not_before: datetime | None
    queued_at: datetime
    started_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    holder: Holder | None
    generation: int
    slices: int
    phase: str
    cancel_requested: bool
    counts: Mapping[str, int]
    message: str
    missed: int = 0  # further due times that it covers


class Claim(NamedTuple):
    """The right to work on a run. `counts` are those of its earlier slices."""

    run_id: int
    generation: int
    counts: Mapping[str, int]


class RunNote(NamedTuple):
    """A line that a run left for a person."""

    at: datetime
    text: str


class Runs:
    """The run rows. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the queue -------------------------------------------------------------------------------------

    def enqueue(
        self, job_id: int, trigger: str, *, due_at: datetime | None = None, not_before: datetime | None = None
    ) -> int | None:
        """Queue a run; `trigger` says who asked, such as "hand". Returns its id.

        None: the job has an open run already, or this due time has had its run.
        """
        values = {
            "uuid": uuid4().bytes,
            "job_id": job_id,
            "state": int(RunState.QUEUED),
            "trigger": trigger,
            "due_at": None if due_at is None else to_microseconds(due_at),
            "not_before": None if not_before is None else to_microseconds(not_before),
            "queued_at": to_microseconds(clock.now()),
        }
        with self._database.write() as connection:
            return connection.execute(_ENQUEUE, values).scalar()

    def open_run(self, job_id: int) -> RunRow | None:
        """The run of a job that is queued or running, if there is one."""
        found = self._rows(_RUNS.where(runs.c.job_id == job_id, _OPEN))
        return found[0] if found else None

    def ensure_open(self, job_id: int, trigger: str) -> RunRow | None:
        """Returns the open run of a job, or one that is queued now; None where it ended each time before we looked."""
        for _ in range(ATTEMPTS):
            self.enqueue(job_id, trigger)
            run = self.open_run(job_id)
            if run is not None:
                return run
        return None

    def urge(self, run_id: int, trigger: str) -> None:
        """Have a queued run belong to `trigger` from now on, and begin at once if it has not begun yet.

        A run that has begun may wait for a server, and goes on when its time comes.
        """
        begins = case((runs.c.slices == 0, None), else_=runs.c.not_before)
        waits = update(runs).where(runs.c.id == run_id, runs.c.state == number(RunState.QUEUED))
        with self._database.write() as connection:
            connection.execute(waits.values(trigger=trigger, not_before=begins))

    def under_way(self, configuration: str) -> list[RunRow]:
        """Returns the open runs of a configuration, those that began first first."""
        mine = _RUNS.where(_OPEN, jobs.c.configuration == configuration)
        return self._rows(mine.order_by(runs.c.started_at.is_(None), runs.c.id))

    def find(self, run_id: int) -> RunRow | None:
        """One run."""
        found = self._rows(_RUNS.where(runs.c.id == run_id))
        return found[0] if found else None

    def claim(self, run_id: int, holder: Holder) -> Claim | None:
        """Work on a run from now on: one that is queued and due, or whose owner is dead.

        An owner on this machine is dead if its process ended; an owner elsewhere if the job's lease is no longer its
        own. An owner that lost the job's lease to `holder` counts as dead, wherever it is: it may have been frozen.
        Returns None if the run is closed, not yet due, or a living owner works on it.
        """
        with self._database.write() as connection:
            return claim_in(connection, run_id, holder)

    def requeue(
        self, claim: Claim, not_before: datetime | None = None, counts: Mapping[str, int] | None = None
    ) -> None:
        """Give a run back: more is to be done. Raises LeaseLost when somebody took it over.

        `counts` are those of all slices so far; None leaves them as they were written last.
        """
        with self._database.write() as connection:
            requeue_in(connection, claim, not_before, counts)

    def finish(
        self, claim: Claim, state: RunState, exit_code: int, counts: Mapping[str, int], message: str = ""
    ) -> None:
        """Close a run for good. Raises LeaseLost when somebody took it over, or closed it."""
        with self._database.write() as connection:
            finish_in(connection, claim, state, exit_code, counts, message)

    def close(self, run_id: int, state: RunState, exit_code: int, message: str) -> bool:
        """Close a run that nobody has claimed; whether it was one."""
        values = {"exit_code": exit_code, "message": message, "finished_at": to_microseconds(clock.now())}
        with self._database.write() as connection:
            closed = move(runs.c.state, state, only=(RunState.QUEUED,)).where(runs.c.id == run_id).values(values)
            if not connection.execute(closed).rowcount:
                return False
            days.add(connection, run_id, state, {}, {}, clock.now())
            return True

    def request_stop(self, run_ids: Collection[int]) -> None:
        """Note that a person wants these runs to stop, for whoever looks: their process may end before they say so."""
        with self._database.write() as connection:
            running = update(runs).where(runs.c.state == number(RunState.RUNNING), runs.c.id.in_(list(run_ids)))
            connection.execute(running.values(cancel_requested=True))

    def asked_to_stop(self, run_ids: Collection[int]) -> list[int]:
        """Returns those of the runs that a person has cancelled and that somebody works on."""
        asked = select(runs.c.id).where(
            runs.c.id.in_(list(run_ids)), runs.c.cancel_requested, runs.c.state == number(RunState.RUNNING)
        )
        with self._database.read() as connection:
            return list(connection.execute(asked).scalars())

    # --- looking ---------------------------------------------------------------------------------------

    def history(
        self, job_ids: Collection[int] | None = None, limit: int = HISTORY, before: int | None = None
    ) -> list[RunRow]:
        """The newest runs first, of one job or of all; with `before`, older than that run."""
        which = _RUNS.order_by(desc(runs.c.id)).limit(limit)
        if before is not None:
            which = which.where(runs.c.id < before)
        return self._rows(which if job_ids is None else which.where(runs.c.job_id.in_(list(job_ids))))

    def has_ended(self, job_id: int) -> bool:
        """Returns whether a run of a job has ended well, or has delivered anything to a route that the job has."""
        ended = select(runs.c.id).where(runs.c.job_id == job_id, runs.c.state == number(RunState.DONE))
        mine = select(routes.c.id).where(routes.c.job_id == job_id)
        put = select(deliveries.c.message_id).where(
            deliveries.c.route_id.in_(mine), deliveries.c.state == number(DeliveryState.DELIVERED)
        )
        with self._database.read() as connection:
            return any(connection.execute(each.limit(1)).first() is not None for each in (ended, put))

    def latest(self, job_ids: Collection[int]) -> dict[int, RunRow]:
        """The newest run of each job that has one."""
        newest = select(func.max(runs.c.id)).where(runs.c.job_id.in_(list(job_ids))).group_by(runs.c.job_id)
        return {run.job_id: run for run in self._rows(_RUNS.where(runs.c.id.in_(newest)))}

    def notes(self, run_ids: Collection[int]) -> dict[int, list[RunNote]]:
        """Run → its notes, the oldest first."""
        wanted = select(run_notes).where(run_notes.c.run_id.in_(list(run_ids))).order_by(run_notes.c.id)
        found: dict[int, list[RunNote]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(wanted):
                found[row.run_id].append(RunNote(from_microseconds(row.at), row.text))
        return dict(found)

    # --- inside ----------------------------------------------------------------------------------------

    def _rows(self, statement: Select[Any]) -> list[RunRow]:
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(statement)]


_RUNS: Final = select(runs, jobs.c.name.label("job")).join(jobs, jobs.c.id == runs.c.job_id)


def claim_in(connection: Connection, run_id: int, holder: Holder, *, digest: bytes | None = None) -> Claim | None:
    """Claim a run as `Runs.claim` does, inside the caller's transaction. A run without a `digest` gets this one."""
    now = clock.now()
    row = connection.execute(_claimable(connection, run_id, holder)).first()
    if row is None or not _may_claim(row, now):
        return None
    return begin_in(connection, row, holder, digest)


def begin_in(connection: Connection, row: Row[Any], holder: Holder, digest: bytes | None) -> Claim | None:
    """Have a run begin its next slice that may be claimed; None where somebody else did since its row was read."""
    run_id, now = row.id, clock.now()
    values = {
        "holder": str(holder),
        "generation": row.generation + 1,
        "slices": row.slices + 1,
        "deaths": row.deaths + (row.state == RunState.RUNNING),
        "started_at": row.started_at or to_microseconds(now),
        "updated_at": to_microseconds(now),
        "not_before": None,
        "cancel_requested": False,
        "digest": row.digest or digest,
    }
    begun = _moved(RunState.RUNNING, None, tuple(values))
    if not connection.execute(begun, {"run": run_id, "claim": row.generation, **values}).rowcount:
        return None
    return Claim(run_id, row.generation + 1, json.loads(row.counts))


def requeue_in(
    connection: Connection,
    claim: Claim,
    not_before: datetime | None = None,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Give a run back as `Runs.requeue` does, inside the caller's transaction: a slice ended well.

    Its place in the queue is that of the present time: runs that have waited for longer come first.
    """
    at = to_microseconds(not_before or clock.now())
    values: dict[str, Any] = {"holder": None, "not_before": at, "phase": "", "deaths": 0}
    if counts is not None:
        values["counts"] = json.dumps(dict(counts))
    _end(connection, claim, RunState.QUEUED, values)
    if counts is not None:
        days.add(connection, claim.run_id, RunState.QUEUED, claim.counts, counts, clock.now())


def finish_in(  # noqa: PLR0917  as `Runs.finish`
    connection: Connection,
    claim: Claim,
    state: RunState,
    exit_code: int,
    counts: Mapping[str, int],
    message: str = "",
    *,
    idle: bool = False,
) -> None:
    """Close a run as `Runs.finish` does, inside the caller's transaction. An `idle` run is soon thrown away."""
    values = {"exit_code": exit_code, "counts": json.dumps(dict(counts)), "message": message, "phase": "", "idle": idle}
    _end(connection, claim, state, {**values, "finished_at": to_microseconds(clock.now())})
    if not idle:
        days.add(connection, claim.run_id, state, claim.counts, counts, clock.now())


def _end(connection: Connection, claim: Claim, state: RunState, values: Mapping[str, Any]) -> None:
    ended = _moved(state, RunState.RUNNING, tuple(values))
    if not connection.execute(ended, {"run": claim.run_id, "claim": claim.generation, **values}).rowcount:
        raise lost(claim.run_id)


@cache
def _moved(state: RunState, origin: RunState | None, columns: tuple[str, ...]) -> Update:
    """Returns the statement that moves the run `run` of generation `claim`; made once, as each poll needs it twice."""
    only = None if origin is None else (origin,)
    ours = (runs.c.id == bindparam("run"), runs.c.generation == bindparam("claim"))
    return move(runs.c.state, state, only=only).where(*ours).values({name: bindparam(name) for name in columns})


def _claimable(connection: Connection, run_id: int, holder: Holder) -> Select[Any]:
    """The row of an open run, with the job's lease: `leased` to its owner, `ours` if it is with `holder`."""
    lease = exists().where(leases.c.resource == job_resource_of(runs.c.job_id), unexpired(connection))
    leased, ours = lease.where(leases.c.holder == runs.c.holder), lease.where(leases.c.holder == str(holder))
    return (
        select(runs, leased.label("leased"), ours.label("ours"))
        .where(runs.c.id == run_id, _OPEN)
        .with_for_update(of=runs)
    )


def _may_claim(row: Row[Any], now: datetime) -> bool:
    if row.state == RunState.QUEUED:
        return is_due(row, now)
    if row.ours:
        return True
    owner = Holder.parse(row.holder)
    return owner.is_dead() if owner.is_here() else not row.leased


def is_due(row: Row[Any], now: datetime) -> bool:
    """Returns whether the time has come for a queued run."""
    return row.not_before is None or _not_before(row.not_before, now) <= now


def _not_before(number_: int, now: datetime) -> datetime:
    return believed(from_microseconds(number_), now, LONGEST)


def _run(row: Row[Any]) -> RunRow:
    def instant(number_: int | None) -> datetime | None:
        return None if number_ is None else from_microseconds(number_)

    return RunRow(
        id=row.id,
        uuid=UUID(bytes=row.uuid),
        job_id=row.job_id,
        job=row.job,
        state=RunState(row.state),
        trigger=row.trigger,
        due_at=instant(row.due_at),
        not_before=None
        if row.not_before is None
        else believed(from_microseconds(row.not_before), clock.now(), LONGEST),
        queued_at=from_microseconds(row.queued_at),
        started_at=instant(row.started_at),
        updated_at=instant(row.updated_at),
        finished_at=instant(row.finished_at),
        exit_code=row.exit_code,
        holder=Holder.parse(row.holder) if row.holder else None,
        generation=row.generation,
        slices=row.slices,
        phase=row.phase,
        cancel_requested=row.cancel_requested,
        counts=json.loads(row.counts),
        message=row.message,
        missed=row.missed,
    )
