"""Errands: what a person asked the page for and waits for, as rows, so that each process shows the same.

    asked ──▶ queued ──▶ running ──▶ done | failed | cancelled

A dry run, a check of an archive or account, a verification. All of it only looks: nothing is lost where a process dies
over it, so there is no lease; its row says who does it, and when that process was heard of last. One is open at a time
for each subject, by a unique index. Of one subject the newest is kept, and the newest with a result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, insert, select, text, update

from syncd.db.database import Database
from syncd.db.database_time import database_now
from syncd.db.holder import Holder
from syncd.db.instants import SECOND, from_microseconds, to_microseconds
from syncd.db.leases import EXPIRY_S
from syncd.db.models import errand_reports, errands

DIED: Final = "the process that did it has ended; begin it again"


class Kind(IntEnum):
    """The kinds of errands, and what their `name` is."""

    DRY_RUN = 1  # a job
    ARCHIVE = 2
    ACCOUNT = 3
    VERIFY = 4  # a job


class State(IntEnum):
    """The state of an errand."""

    QUEUED = 0
    RUNNING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


OPEN: Final = (State.QUEUED, State.RUNNING)


class Subject(NamedTuple):
    """The subject of an errand."""

    configuration: str
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An errand to be done.

    `site` is None where a process that serves the page does it; else `document` has the settings for its worker.
    """

    subject: Subject
    asked_by: str
    read: bool = False
    site: str | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Errand:
    """A row. `progress` and `result` are JSON; a process that has died leaves FAILED, with DIED as its error."""

    id: int
    name: str
    kind: Kind
    read: bool
    state: State
    asked_by: str
    asked_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    site: str | None
    cancelled: bool
    progress: str
    error: str
    result: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """An errand that this process does."""

    id: int
    kind: Kind
    name: str
    read: bool
    document: str | None
    holder: str


# --- asking ----------------------------------------------------------------------------------------------


def ask(database: Database, wanted: Wanted, now: datetime) -> bool:
    """Queue an errand. Returns False where one of the same subject is open."""
    mine = _of(wanted.subject)
    with database.write() as connection:
        for row in connection.execute(_with_age(connection).where(mine, errands.c.state.in_(OPEN))):
            if not _is_dead(row):
                return False
            _close(connection, row.id, now, State.FAILED, DIED)
        kept = select(errands.c.id).where(mine, errands.c.result.is_not(None)).order_by(errands.c.id.desc()).limit(1)
        _remove(connection, and_(mine, errands.c.id.not_in(kept.scalar_subquery())))
        values = {
            **wanted.subject._asdict(),
            "kind": int(wanted.subject.kind),
            "read": wanted.read,
            "asked_by": wanted.asked_by,
            "asked_at": to_microseconds(now),
            "site": wanted.site,
            "document": wanted.document,
        }
        return connection.execute(_ASK, values).first() is not None  # another process may have been quicker


def cancel(database: Database, subject: Subject, now: datetime) -> bool:
    """Ask for the end of what is open. Returns False where nothing is."""
    with database.write() as connection:
        found = _with_age(connection).where(_of(subject), errands.c.state.in_(OPEN))
        row = connection.execute(found.with_for_update()).first()
        if row is None:
            return False
        if row.state == State.QUEUED:
            _close(connection, row.id, now, State.CANCELLED, "cancelled before it began")
        elif _is_dead(row):
            _close(connection, row.id, now, State.FAILED, DIED)
        else:
            connection.execute(update(errands).where(errands.c.id == row.id).values(cancel=True))
    return True


def newest(database: Database, subject: Subject) -> Errand | None:
    """Returns the newest errand about a subject, however it stands."""
    return _first(database, _of(subject))


def newest_done(database: Database, subject: Subject) -> Errand | None:
    """Returns the newest errand about a subject that has a result."""
    return _first(database, and_(_of(subject), errands.c.result.is_not(None)))


def report(database: Database, errand_id: int, form: str) -> bytes | None:
    """Returns a report, compressed."""
    mine = and_(errand_reports.c.errand_id == errand_id, errand_reports.c.form == form)
    with database.read() as connection:
        return connection.execute(select(errand_reports.c.content).where(mine)).scalar()


# --- doing -----------------------------------------------------------------------------------------------


def take(
    database: Database, kinds: Collection[Kind], mine: str | Sequence[str], holder: Holder, now: datetime
) -> Taken | None:
    """Take the errand of these kinds that has waited longest; None where there is none.

    `mine`: the configuration of a process that serves the page; or the sites of a worker.
    """
    of_page = and_(errands.c.site.is_(None), errands.c.configuration == mine)
    ours = of_page if isinstance(mine, str) else errands.c.site.in_(mine)
    waiting = and_(_QUEUED, errands.c.kind.in_([int(it) for it in kinds]), ours)
    with database.read() as connection:
        found = connection.execute(select(errands.c.id).where(waiting).order_by(errands.c.id).limit(1)).scalar()
    if found is None:
        return None
    with database.write() as connection:
        seen = database_now(connection)
        begun = {"state": int(State.RUNNING), "holder": str(holder), "began_at": to_microseconds(now), "seen_at": seen}
        statement = update(errands).where(errands.c.id == found, waiting).values(begun)
        row = connection.execute(statement.returning(errands)).first()  # another process may have been quicker
    return None if row is None else Taken(row.id, Kind(row.kind), row.name, row.read, row.document, str(holder))


def any_waiting(database: Database, sites: Sequence[str]) -> bool:
    """Returns whether a worker of these sites has something to do."""
    with database.read() as connection:
        found = select(errands.c.id).where(_QUEUED, errands.c.site.in_(sites)).limit(1)
        return connection.execute(found).first() is not None


def touch(database: Database, taken: Taken, progress: str) -> bool:
    """Say that this process lives, and how far it is. Returns False where it is to end: cancelled, or given up."""
    with database.write() as connection:
        statement = update(errands).where(_held(taken)).values(seen_at=database_now(connection), progress=progress)
        return connection.execute(statement.returning(errands.c.cancel)).scalar() is False


def end(
    database: Database,
    taken: Taken,
    state: State,
    now: datetime,
    *,
    error: str = "",
    result: str | None = None,
    reports: Mapping[str, bytes] | None = None,
) -> None:
    """Write what became of an errand; one that is not ours any more stays as it is."""
    with database.write() as connection:
        closed = {"state": int(state), "ended_at": to_microseconds(now), "error": error, "result": result}
        statement = update(errands).where(_held(taken)).values(**closed, document=None)
        if connection.execute(statement.returning(errands.c.id)).first() is None:
            return
        for form, content in (reports or {}).items():
            connection.execute(insert(errand_reports).values(errand_id=taken.id, form=form, content=content))


def forget(connection: Connection, before: datetime) -> None:
    """Delete what was asked for before an instant, and does not run."""
    old = errands.c.asked_at < to_microseconds(before)
    _remove(connection, and_(old, errands.c.state != int(State.RUNNING)))
    silent = errands.c.seen_at < database_now(connection) - EXPIRY_S
    _remove(connection, and_(old, silent))


# --- inside ----------------------------------------------------------------------------------------------

_ASK: Final = text(
    "INSERT INTO errands (configuration, kind, name, read, asked_by, asked_at, site, document,"
    " state, holder, seen_at, cancel, progress, error)"
    " VALUES (:configuration, :kind, :name, :read, :asked_by, :asked_at, :site, :document,"
    " 0, '', 0, false, '{}', '') ON CONFLICT DO NOTHING RETURNING id"
)
_QUEUED: Final = errands.c.state == int(State.QUEUED)
_BUT_DOCUMENT: Final = [it for it in errands.c if it.name != "document"]


def _of(subject: Subject) -> ColumnElement[bool]:
    return and_(
        errands.c.configuration == subject.configuration,
        errands.c.kind == int(subject.kind),
        errands.c.name == subject.name,
    )


def _held(taken: Taken) -> ColumnElement[bool]:
    return and_(errands.c.id == taken.id, errands.c.holder == taken.holder, errands.c.state == int(State.RUNNING))


def _with_age(connection: Connection) -> Select[Any]:
    return select(*_BUT_DOCUMENT, (database_now(connection) - errands.c.seen_at).label("age_s"))


def _is_dead(row: Row[Any]) -> bool:
    """Returns whether the process that does an errand has ended, or was not heard of for long."""
    return row.state == State.RUNNING and (row.age_s > EXPIRY_S or Holder.parse(row.holder).is_dead())


def _close(connection: Connection, errand_id: int, now: datetime, state: State, error: str) -> None:
    values = {"state": int(state), "ended_at": to_microseconds(now), "error": error, "document": None}
    connection.execute(update(errands).where(errands.c.id == errand_id).values(values))


def _remove(connection: Connection, which: ColumnElement[bool]) -> None:
    gone = select(errands.c.id).where(which)
    connection.execute(delete(errand_reports).where(errand_reports.c.errand_id.in_(gone)))
    connection.execute(delete(errands).where(which))


def _first(database: Database, which: ColumnElement[bool]) -> Errand | None:
    with database.read() as connection:
        row = connection.execute(_with_age(connection).where(which).order_by(errands.c.id.desc()).limit(1)).first()
    if row is None:
        return None
    dead = _is_dead(row)
    ended = int(row.seen_at * SECOND) if dead else row.ended_at
    return Errand(
        id=row.id,
        name=row.name,
        kind=Kind(row.kind),
        read=row.read,
        state=State.FAILED if dead else State(row.state),
        asked_by=row.asked_by,
        asked_at=from_microseconds(row.asked_at),
        began_at=None if row.began_at is None else from_microseconds(row.began_at),
        ended_at=None if ended is None else from_microseconds(ended),
        site=row.site,
        cancelled=row.cancel,
        progress=row.progress,
        error=DIED if dead else row.error,
        result=row.result,
    )
