"""The queue as workers use it: what may be worked on now, claimed with its leases, and given back or closed.

    waiting      runs that nobody took: those whose `not_before` has come, those that were announced a while ago and
                 not taken, and those whose worker is gone
    claim        one transaction: leases of job and account, the run, permits for connections
    requests     what people want of the runs of this process: to be cancelled, to be paused
    requeue      more is to be done, or not yet: leases go back in the same transaction
    finish       the run is closed, and its job learns how it went

A person's wish to cancel outlives the slice and the worker that it was meant for: the run is closed where it is given
back, or claimed again.

A run that cannot be claimed because somebody else holds a lease, or all connections are in use, waits a little: its
`not_before` is moved ahead, and no thread waits for it. That holds for a run whose worker died, too. A run with more to
do is queued behind those that wait, so that a few large mailboxes do not keep all threads. A run whose workers died
three times in a row is closed as ABANDONED and its job is paused: it most likely ends whichever worker takes it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)

from syncd import clock
from syncd.db import days, permits
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.definitions import NOT_WANTED
from syncd.db.fingerprints import host_of
from syncd.db.holder import Holder
from syncd.db.instants import SLACK, from_microseconds, to_microseconds
from syncd.db.leases import LeaseSet, account_resource, job_resource, job_resource_of, lasts, unexpired
from syncd.db.ledger.backoff import LONGEST
from syncd.db.models import accounts, definitions, jobs, leases, runs
from syncd.db.rows import Paused
from syncd.db.runs import Claim, begin_in, claim_in, finish_in, is_due, requeue_in
from syncd.db.states import RunState, move
from syncd.errors import LeaseHeld

HAND: Final = "hand"  # the trigger of a run that a person asked a service for: first in line, in spite of a pause
HERE: Final = "here"  # of one that the process of a command works on: workers leave it to that for GRACE
GRACE: Final = timedelta(seconds=3)  # a run that waited for so long was not taken: its message, or command, is lost
BUSY_S: Final = (5.0, 15.0)  # until a run is tried again whose archive or account is in use
NO_PERMIT_S: Final = (2.0, 5.0)  # until a run is tried again for which no connection is free
CANCELLED: Final = "cancelled by a person"
MAX_DEATHS: Final = 3
MAX_REFUSALS: Final = 5  # of a sign-in in a row, after which a job is paused

_QUEUED, _RUNNING = number(RunState.QUEUED), number(RunState.RUNNING)


class Request(Enum):
    """The wish of a person about a run that is under way."""

    CANCEL = "cancel"
    PAUSE = "pause"


class Waiting(NamedTuple):
    """A run that may be worked on now, and the site that its archives are on ("" if it is none)."""

    run_id: int
    site: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run in our hands. `digest` names the definition that it began with."""

    claim: Claim
    leases: LeaseSet
    job_id: int
    job: str
    configuration: str
    digest: bytes
    by_hand: bool
    has_permit: bool = False  # for a connection, as there is a limit
    trouble: str = ""  # the kind of what was wrong with the job, see `troubles`


class End(NamedTuple):
    """The end of a run. `refused`: the server refused the sign-in. `idle`: there was nothing to do."""

    state: RunState
    exit_code: int
    counts: Mapping[str, int]
    message: str = ""
    succeeded: bool = False
    refused: bool = False
    idle: bool = False


class Queue:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, sites: Collection[str], limit: int) -> list[Waiting]:
        """Returns runs that wait for a worker of one of `sites`, those that a person asked for first."""
        with self._database.read() as connection:
            queued = connection.execute(_QUEUED_RUNS, {"sites": list(sites), "most": limit, **_present()})
            found = [Waiting(row.id, row.site) for row in queued]
            if len(found) < limit:
                found += [Waiting(row.id, row.site) for row in _orphans(connection, sites, limit - len(found))]
        return found

    def next_ready(self, sites: Collection[str]) -> datetime | None:
        """Returns the earliest time at which a queued run may begin; None where none is queued."""
        with self._database.read() as connection:
            found = connection.execute(_NEXT_READY, {"sites": list(sites)}).scalar()
        return None if found is None else from_microseconds(found)

    def claim(self, run_id: int, limits: Mapping[str, int] | None = None) -> Claimed | None:
        """Claim a run with the leases that it needs; `limits` is host (in lower case) → open connections.

        Returns None where it is closed, not due, paused or in other hands. A run that must wait for a lease or a
        connection is put off.
        """
        try:
            with self._database.write() as connection:
                claimed = self._claim_in(connection, run_id, limits or {})
        except LeaseHeld:
            self._put_off(run_id, BUSY_S)
            return None
        except _Busy:
            self._put_off(run_id, NO_PERMIT_S)
            return None
        except _NotOurs:
            return None
        if claimed is not None:
            claimed.leases.keep()
        return claimed

    def _claim_in(self, connection: Connection, run_id: int, limits: Mapping[str, int]) -> Claimed | None:
        row: Any = connection.execute(_TARGET, {"run": run_id}).first()  # more columns than its type can name
        if row is None or not _is_open(row):
            return None
        if row.state == RunState.RUNNING and _owner_is_gone(connection, row):
            if row.cancel_requested:
                _close_cancelled(connection, row.id, RunState.RUNNING)
                return None
            if row.deaths + 1 >= MAX_DEATHS:
                _abandon(connection, row)
                return None
        what = f'run of job "{row.name}"'
        resources = [job_resource(row.job_id), account_resource(UUID(bytes=row.account_uuid))]
        held = LeaseSet.take(connection, self._database, resources, what)
        if row.state == RunState.RUNNING:
            claim = claim_in(connection, run_id, held.holder, digest=row.now_digest)
        else:
            claim = begin_in(connection, row, held.holder, row.now_digest)
        if claim is None:
            raise _NotOurs  # the leases are not taken either
        host = host_of(row.host)
        limit = limits.get(host)
        if not permits.take(connection, claim, host, limit):
            raise _Busy
        return Claimed(
            claim, held, row.job_id, row.name, row.configuration, row.digest or row.now_digest,
            by_hand=row.trigger == HAND, has_permit=limit is not None, trouble=row.trouble,
        )  # fmt: skip

    def requests(self, claims: Collection[Claim]) -> dict[int, Request]:
        """Returns what people want of these runs, by run."""
        generations = {claim.run_id: claim.generation for claim in claims}
        wanted = (
            select(runs.c.id, runs.c.generation, runs.c.cancel_requested, runs.c.trigger)
            .join(jobs, jobs.c.id == runs.c.job_id)
            .where(runs.c.id.in_(list(generations)), or_(runs.c.cancel_requested, jobs.c.paused_since.is_not(None)))
        )
        found = {}
        with self._database.read() as connection:
            for row in connection.execute(wanted):
                if generations[row.id] == row.generation and (row.cancel_requested or row.trigger != HAND):
                    found[row.id] = Request.CANCEL if row.cancel_requested else Request.PAUSE
        return found

    def requeue(
        self,
        claimed: Claimed,
        not_before: datetime | None = None,
        counts: Mapping[str, int] | None = None,
        poll_from: datetime | None = None,
    ) -> bool:
        """Give a run back: its next slice may begin, at `not_before` if it is given. Raises LeaseLost.

        With `poll_from` it begins earlier where its job is due earlier, though not before that time: a destination that
        rests for a day does not keep the source from being polled.
        `counts` are those of all slices so far; the next slice is given them as `before`. Returns whether it is queued:
        a run that somebody has cancelled meanwhile, or whose job was taken out of its configuration, is closed.
        """
        with self._database.write() as connection:
            if not_before is not None and poll_from is not None:
                not_before = min(not_before, max(_next_due(connection, claimed.job_id) or not_before, poll_from))
            requeue_in(connection, claimed.claim, not_before, counts)
            self._give_back(connection, claimed)
            closed = _close_cancelled(connection, claimed.claim.run_id, RunState.QUEUED)
            closed = closed or _close_unwanted(connection, claimed)
        claimed.leases.drop()
        return not closed

    def put_off(self, claimed: Claimed, counts: Mapping[str, int] | None = None) -> bool:
        """Give a run back that cannot go on now, as an archive is in use elsewhere; see `requeue`. Raises LeaseLost."""
        return self.requeue(claimed, _soon(BUSY_S), counts)

    def finish(self, claimed: Claimed, end: End) -> Paused | None:
        """Close a run for good; returns why its job is paused from now on. Raises LeaseLost."""
        paused = None
        with self._database.write() as connection:
            finish_in(connection, claimed.claim, end.state, end.exit_code, end.counts, end.message, idle=end.idle)
            self._give_back(connection, claimed)
            if end.succeeded:
                values = {"job": claimed.job_id, "at": to_microseconds(clock.now()), "none": 0}
                connection.execute(_SUCCEEDED, values)
            elif end.refused:
                paused = _count_refusal(connection, claimed.job_id)
        claimed.leases.drop()
        return paused

    def _give_back(self, connection: Connection, claimed: Claimed) -> None:
        if claimed.has_permit:
            permits.give_back(connection, claimed.claim)
        claimed.leases.release_in(connection)

    def _put_off(self, run_id: int, within_s: tuple[float, float]) -> None:
        """Have a run wait a little. One that waits for longer, a server's patience say, goes on doing so.

        Runs that a living worker has are not among them.
        """
        at = to_microseconds(_soon(within_s))
        with self._database.write() as connection:
            row: Any = connection.execute(_TARGET, {"run": run_id}).first()
            if row is None or (row.state == RunState.RUNNING and not _owner_is_gone(connection, row)):
                return
            sooner = or_(runs.c.not_before.is_(None), runs.c.not_before < at)
            same = (runs.c.id == run_id, runs.c.state == row.state, runs.c.generation == row.generation)
            connection.execute(update(runs).where(*same, sooner).values(not_before=at))


class _NotOurs(Exception):
    """Somebody else has the run: nothing of the transaction is kept."""


class _Busy(Exception):
    """All connections that the account's host may have are in use."""


_TARGET: Final = (
    select(
        runs.c.id, runs.c.job_id, runs.c.state, runs.c.holder, runs.c.deaths, runs.c.digest, runs.c.trigger,
        runs.c.cancel_requested, runs.c.generation, runs.c.slices, runs.c.started_at, runs.c.not_before, runs.c.counts,
        jobs.c.trouble, jobs.c.name, jobs.c.configuration, jobs.c.paused_since,
        accounts.c.uuid.label("account_uuid"), accounts.c.host, definitions.c.digest.label("now_digest"),
    )
    .join(jobs, jobs.c.id == runs.c.job_id)
    .join(accounts, accounts.c.id == jobs.c.account_id)
    .join(definitions, definitions.c.job_id == jobs.c.id)
    .where(runs.c.id == bindparam("run"))
)  # fmt: skip
_SUCCEEDED: Final = (
    update(jobs).where(jobs.c.id == bindparam("job")).values(succeeded_at=bindparam("at"), refusals=bindparam("none"))
)


def _is_open(row: Row[Any]) -> bool:
    if row.state == RunState.RUNNING:
        return True
    is_free = row.paused_since is None or row.trigger == HAND
    return bool(row.state == RunState.QUEUED and is_free and is_due(row, clock.now()))


def _orphans(connection: Connection, sites: Collection[str], limit: int) -> Sequence[Row[Any]]:
    """Returns runs that are under way and whose owner is gone; those of this machine are seen at once.

    A run that was put off since is left out until its time comes.
    """
    running = connection.execute(_under_way(connection.dialect.name), {"sites": list(sites), **_present()})
    return [row for row in running if _is_gone(row.holder, leased=row.leased)][:limit]


def _is_gone(holder: str, *, leased: bool) -> bool:
    """Returns whether an owner has ended, or let its lease run out: it is frozen, or cut off from the database."""
    return not leased or Holder.parse(holder).is_dead()


def _owner_is_gone(connection: Connection, row: Row[Any]) -> bool:
    held = select(leases.c.resource).where(
        leases.c.resource == job_resource(row.job_id), leases.c.holder == row.holder, unexpired(connection)
    )
    return _is_gone(row.holder, leased=connection.execute(held).first() is not None)


def _present() -> dict[str, int]:
    """Returns the parameters of `_is_past`: the present, that of a run that was not announced, and what is too far."""
    now = clock.now()
    return {
        "now": to_microseconds(now),
        "heard": to_microseconds(now - GRACE),
        "far": to_microseconds(now + LONGEST + SLACK),
        "far_queued": to_microseconds(now + SLACK),
    }


def _is_past(column: ColumnElement[Any], at: str, farthest: str) -> ColumnElement[bool]:
    """Tells whether an instant has come. One too far ahead was written by a clock that was wrong then: see `believed`.

    `at` and `farthest` are parameters: no rule sets an instant further ahead of the present.
    """
    return or_(column <= bindparam(at, type_=BigInteger), column > bindparam(farthest, type_=BigInteger))


# --- statements of the sweep, made once: it looks after many a run ----------------------------------------

_READY_AT: Final = func.coalesce(runs.c.not_before, runs.c.queued_at)
_NOT_PAUSED: Final = or_(jobs.c.paused_since.is_(None), runs.c.trigger == HAND)
_HERE: Final = definitions.c.site.in_(bindparam("sites", expanding=True))
_NEXT_READY: Final = (
    select(func.min(_READY_AT))
    .select_from(runs.join(jobs, jobs.c.id == runs.c.job_id).join(definitions, definitions.c.job_id == runs.c.job_id))
    .where(runs.c.state == _QUEUED, _NOT_PAUSED, _HERE)
)
_WAITING: Final = (
    select(runs.c.id, definitions.c.site)
    .join(definitions, definitions.c.job_id == runs.c.job_id)
    .join(jobs, jobs.c.id == runs.c.job_id)
    .where(_HERE)
    .order_by(case((runs.c.trigger == HAND, 0), else_=1), _READY_AT)
)
_AT_ITS_TIME: Final = _is_past(runs.c.not_before, "now", "far")
_UNHEARD: Final = or_(_is_past(runs.c.queued_at, "heard", "far_queued"), runs.c.trigger == HAND)
_QUEUED_RUNS: Final = _WAITING.where(
    runs.c.state == _QUEUED, or_(_AT_ITS_TIME, and_(runs.c.not_before.is_(None), _UNHEARD)), _NOT_PAUSED
).limit(bindparam("most", type_=BigInteger))


@cache
def _under_way(dialect: str) -> Select[Any]:
    """Selects the runs that somebody works on, and whether their owner has the job's lease still."""
    leased = exists().where(
        leases.c.resource == job_resource_of(runs.c.job_id), leases.c.holder == runs.c.holder, lasts(dialect)
    )
    tried = or_(runs.c.not_before.is_(None), _AT_ITS_TIME)
    return _WAITING.add_columns(runs.c.holder, leased.label("leased")).where(runs.c.state == _RUNNING, tried)


def _close_cancelled(connection: Connection, run_id: int, state: RunState) -> bool:
    """Close a run in this state if somebody has cancelled it; whether it was closed."""
    return _stop_if(connection, run_id, state, runs.c.cancel_requested, CANCELLED)


def _close_unwanted(connection: Connection, claimed: Claimed) -> bool:
    """Close a queued run whose job has no definition any more: no worker would take it. Whether it was closed."""
    gone = ~exists().where(definitions.c.job_id == claimed.job_id)
    return _stop_if(connection, claimed.claim.run_id, RunState.QUEUED, gone, NOT_WANTED)


def _stop_if(connection: Connection, run_id: int, state: RunState, what: ColumnElement[bool], message: str) -> bool:
    values = {"finished_at": to_microseconds(clock.now()), "exit_code": 130, "message": message, "phase": ""}
    closed = move(runs.c.state, RunState.STOPPED, only=(state,)).where(runs.c.id == run_id, what)
    return bool(connection.execute(closed.values(values)).rowcount)


def _abandon(connection: Connection, row: Row[Any]) -> None:
    """Close a run whose workers died time after time, and pause its job."""
    text = f"its worker died {MAX_DEATHS} times in a row: the job is paused; look at the logs, then: syncd resume"
    now = to_microseconds(clock.now())
    values = {"finished_at": now, "exit_code": 1, "message": text, "phase": "", "deaths": row.deaths + 1}
    closed = move(runs.c.state, RunState.ABANDONED).where(runs.c.id == row.id, runs.c.holder == row.holder)
    if connection.execute(closed.values(values)).rowcount:
        days.add(connection, row.id, RunState.ABANDONED, {}, {}, clock.now())
        pause_in(connection, row.job_id, Paused.DEATHS)


def pause_in(connection: Connection, job_id: int, why: Paused) -> bool:
    """Pause a job, unless it is paused; whether it was not. Inside the caller's transaction."""
    running = update(jobs).where(jobs.c.id == job_id, jobs.c.paused_since.is_(None))
    values = {"paused_since": to_microseconds(clock.now()), "paused_why": int(why)}
    return bool(connection.execute(running.values(values)).rowcount)


def _next_due(connection: Connection, job_id: int) -> datetime | None:
    """Returns when a job is due next; None where nothing is known that lies ahead."""
    found = connection.execute(select(definitions.c.next_due).where(definitions.c.job_id == job_id)).scalar()
    due = None if found is None else from_microseconds(found)
    return due if due is not None and due > clock.now() else None


def _count_refusal(connection: Connection, job_id: int) -> Paused | None:
    counted = update(jobs).where(jobs.c.id == job_id).values(refusals=jobs.c.refusals + 1)
    refusals = connection.execute(counted.returning(jobs.c.refusals)).scalar_one()
    if refusals >= MAX_REFUSALS and pause_in(connection, job_id, Paused.SIGN_IN):
        return Paused.SIGN_IN
    return None


def _soon(within_s: tuple[float, float]) -> datetime:
    """Returns a time within so many seconds; by chance, so that those that wait for one thing do not all come back."""
    return clock.now() + timedelta(seconds=random.uniform(*within_s))  # noqa: S311 (no secret)
