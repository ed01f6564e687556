"""Definitions: what configurations say of their jobs, written by `apply`, read by schedulers and workers.

A definition is a document (canonical JSON, named by its SHA-256) and the few facts of it that the service asks for:
site, schedule, quiet hours. A run keeps the digest of the document that it began with. Documents that nothing names
any more are thrown away by `purge`.

`apply` writes only what changed, thousands of jobs in a few statements. A time that has come and was not served yet is
kept, so that an edit after a night without service does not cost the run that catches up. A job that is new to the
ledger is registered with its source alone; its first run registers the destinations (`services.registry`), where the
archives are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Update, and_, delete, exists, insert, select, text, update

from syncd import clock
from syncd.db.bulk import IN_LIST, number
from syncd.db.catalog import account_uuid, numbered_uuid, registering
from syncd.db.database import Database
from syncd.db.fingerprints import fingerprint
from syncd.db.instants import to_microseconds
from syncd.db.models import accounts, definitions, documents, jobs, names, runs
from syncd.db.names import Owner
from syncd.db.rows import Paused
from syncd.db.states import RunState, move

NOT_WANTED: Final = "the configuration does not have this job any more"
_IDENTITY: Final = ("protocol", "host", "username")
_OPEN: Final = runs.c.state.in_([number(RunState.QUEUED), number(RunState.RUNNING)])


@dataclass(frozen=True, slots=True)
class Definition:
    """A job as a configuration has it. `source`: its name; `identity`: protocol, place and username."""

    job: str
    digest: bytes
    text: str
    source: str
    identity: tuple[str, str, str]
    removes: bool = False
    site: str = ""
    schedule: str = ""  # "": only when asked for
    timezone: str = "UTC"
    jitter_s: int = 0
    quiet_hours: str = ""
    late_after_s: int | None = None


class Applied(NamedTuple):
    """Names of the jobs that `apply` changed, each list in the order of the configuration."""

    added: list[str]
    changed: list[str]
    disabled: list[str]


def apply(
    database: Database,
    owner: Owner,
    wanted: Sequence[Definition],
    following: Callable[[Definition], datetime | None] = lambda _: None,
) -> Applied:
    """Make the definitions of a configuration those of `wanted`, in one transaction; others do not change.

    `following` is asked for the next due time of each definition that changed.
    """
    with registering(database) as connection:
        known = _known(connection, owner)
        new = [it for it in wanted if it.job not in known]
        known |= _register(connection, owner, new)
        jobs_of = {it.job: known[it.job] for it in wanted}
        changed = [it for it in wanted if jobs_of[it.job].digest != it.digest]
        _write_documents(connection, changed)
        _write(connection, changed, jobs_of, following)
        revived = [jobs_of[it.job].id for it in wanted if not jobs_of[it.job].enabled]
        _in_parts(connection, revived, lambda some: update(jobs).where(jobs.c.id.in_(some)).values(enabled=True))
        gone = [(name, row) for name, row in known.items() if name not in jobs_of and (row.enabled or row.digest)]
        ids = [row.id for _, row in gone]
        _in_parts(connection, ids, lambda some: update(jobs).where(jobs.c.id.in_(some)).values(enabled=False))
        _in_parts(connection, ids, lambda some: delete(definitions).where(definitions.c.job_id.in_(some)))
        _in_parts(connection, ids, _closes)
    fresh = {it.job for it in changed if jobs_of[it.job].digest is None}
    return Applied(
        [it.job for it in changed if it.job in fresh],
        [it.job for it in changed if it.job not in fresh],
        [name for name, _ in gone],
    )


def document(database: Database, digest: bytes) -> str | None:
    """Returns a document; None where it was thrown away."""
    with database.read() as connection:
        return connection.execute(select(documents.c.text).where(documents.c.digest == digest)).scalar()


def digests(database: Database, owner: Owner) -> dict[str, bytes]:
    """Returns the digest of each applied job of a configuration."""
    with database.read() as connection:
        found = select(jobs.c.name, definitions.c.digest).join(definitions, definitions.c.job_id == jobs.c.id)
        return dict(connection.execute(found.where(jobs.c.configuration == owner.name)).all())


def purge_documents(connection: Connection) -> int:
    """Throw away documents that neither a definition nor an open run names; returns how many."""
    in_use = exists().where(definitions.c.digest == documents.c.digest)
    run_on = exists().where(runs.c.digest == documents.c.digest, _OPEN)
    return connection.execute(delete(documents).where(~in_use, ~run_on)).rowcount


# --- apply ---------------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """A job that the ledger has, with the digest of its definition (None: it has none)."""

    id: int
    digest: bytes | None
    enabled: bool


def _known(connection: Connection, owner: Owner) -> dict[str, _Known]:
    """Returns the jobs of a configuration, with those of configurations that it takes over."""
    found = connection.execute(
        select(jobs.c.id, jobs.c.name, jobs.c.configuration, jobs.c.enabled, definitions.c.digest)
        .outerjoin(definitions, definitions.c.job_id == jobs.c.id)
        .order_by(jobs.c.configuration != owner.name, jobs.c.id)
    )
    speaks_for = {owner.name: True}
    known: dict[str, _Known] = {}
    for row in found:
        if row.configuration not in speaks_for:
            speaks_for[row.configuration] = owner.speaks_for(row.configuration)
        if speaks_for[row.configuration]:
            known.setdefault(row.name, _Known(row.id, row.digest, row.enabled))
    return known


def _register(connection: Connection, owner: Owner, new: Sequence[Definition]) -> dict[str, _Known]:
    """Register new jobs with their sources."""
    if not new:
        return {}
    mine = select(names.c.name, names.c.target).where(names.c.configuration == owner.name, names.c.kind == "account")
    by_name = dict(connection.execute(mine).all())
    sources = {it.source: it.identity for it in new if it.source not in by_name}
    by_name |= _accounts(connection, owner, sources)
    rows = [
        {
            "name": it.job,
            "account_id": by_name[it.source],
            "enabled": True,
            "removes": it.removes,
            "configuration": owner.name,
        }
        for it in new
    ]
    connection.execute(insert(jobs), rows)
    ids = select(jobs.c.name, jobs.c.id).where(jobs.c.configuration == owner.name)
    fresh = {it.job for it in new}
    return {name: _Known(job_id, None, True) for name, job_id in connection.execute(ids) if name in fresh}


def _accounts(connection: Connection, owner: Owner, sources: Mapping[str, tuple[str, str, str]]) -> dict[str, int]:
    """Returns the account of each source, which is named for the first time; registers those that are not there."""
    marks = {name: fingerprint(*identity) for name, identity in sources.items()}
    known = _by_fingerprint(connection, marks.values())
    missing = {mark: name for name, mark in marks.items() if mark not in known}
    uuids = _uuids(connection, list(missing))
    rows = [
        {"uuid": uuids[mark], "name": name, **dict(zip(_IDENTITY, sources[name], strict=True)), "fingerprint": mark}
        for mark, name in missing.items()
    ]
    if rows:
        connection.execute(insert(accounts), rows)
        known |= _by_fingerprint(connection, missing)
    given = [
        {"configuration": owner.name, "kind": "account", "name": name, "target": known[mark]}
        for name, mark in marks.items()
    ]
    if given:
        connection.execute(insert(names), given)
    return {name: known[mark] for name, mark in marks.items()}


def _uuids(connection: Connection, marks: Sequence[str]) -> dict[str, bytes]:
    """Returns a UUID that is free for each new account, by its fingerprint."""
    uuids = {mark: numbered_uuid(mark).bytes for mark in marks}
    taken: set[bytes] = set()
    every = list(uuids.values())
    for start in range(0, len(every), IN_LIST):
        some = select(accounts.c.uuid).where(accounts.c.uuid.in_(every[start : start + IN_LIST]))
        taken.update(connection.execute(some).scalars())
    return {mark: account_uuid(connection, mark).bytes if uuid in taken else uuid for mark, uuid in uuids.items()}


def _by_fingerprint(connection: Connection, marks: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    every = list(dict.fromkeys(marks))
    for start in range(0, len(every), IN_LIST):
        some = select(accounts.c.fingerprint, accounts.c.id).where(
            accounts.c.fingerprint.in_(every[start : start + IN_LIST])
        )
        found.update(connection.execute(some).all())
    return found


def _write_documents(connection: Connection, changed: Sequence[Definition]) -> None:
    rows = [{"digest": it.digest, "text": it.text} for it in {it.digest: it for it in changed}.values()]
    if rows:
        connection.execute(text("INSERT INTO documents VALUES (:digest, :text) ON CONFLICT DO NOTHING"), rows)


def _write(
    connection: Connection,
    changed: Sequence[Definition],
    known: Mapping[str, _Known],
    following: Callable[[Definition], datetime | None],
) -> None:
    """Write definitions. One that changed gets a new due time, and a pause after refused sign-ins ends.

    A due time that has come stays: it is queued, or counted, by the schedule as it is now.
    """
    now = to_microseconds(clock.now())
    old = [known[it.job].id for it in changed if known[it.job].digest is not None]
    come = _come(connection, old, now)
    _in_parts(connection, old, lambda some: delete(definitions).where(definitions.c.job_id.in_(some)))
    refused = and_(jobs.c.paused_why == int(Paused.SIGN_IN))
    resumed = {"paused_since": None, "paused_why": None, "refusals": 0}
    _in_parts(connection, old, lambda some: update(jobs).where(jobs.c.id.in_(some), refused).values(resumed))
    rows = [
        {
            "job_id": known[it.job].id,
            "digest": it.digest,
            "site": it.site,
            "schedule": it.schedule,
            "timezone": it.timezone,
            "jitter_s": it.jitter_s,
            "quiet_hours": it.quiet_hours,
            "late_after_s": it.late_after_s,
            "next_due": (it.schedule and come.get(known[it.job].id)) or _microseconds(following(it)),
            "applied_at": now,
        }
        for it in changed
    ]
    if rows:
        connection.execute(insert(definitions), rows)


def _come(connection: Connection, job_ids: Sequence[int], now: int) -> dict[int, int]:
    """Returns the due times that have come, by job; from now on no scheduler queues these jobs before we are done."""
    come: dict[int, int] = {}
    for start in range(0, len(job_ids), IN_LIST):
        some = definitions.c.job_id.in_(job_ids[start : start + IN_LIST])
        due = select(definitions.c.job_id, definitions.c.next_due).where(some).order_by(definitions.c.job_id)
        rows = connection.execute(due.with_for_update()).all()
        come.update((row.job_id, row.next_due) for row in rows if row.next_due is not None and row.next_due <= now)
    return come


def _closes(job_ids: Sequence[int]) -> Update:
    """Returns the statement that closes what is queued for jobs without a definition: no worker takes it any more."""
    closed = move(runs.c.state, RunState.STOPPED, only=(RunState.QUEUED,)).where(runs.c.job_id.in_(job_ids))
    return closed.values(exit_code=130, message=NOT_WANTED, finished_at=to_microseconds(clock.now()))


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else to_microseconds(at)


def _in_parts(connection: Connection, ids: Sequence[int], statement: Callable[[Sequence[int]], Any]) -> None:
    for start in range(0, len(ids), IN_LIST):
        connection.execute(statement(ids[start : start + IN_LIST]))
