"""Workers: the processes of the service that live, as their rows say, renewed with their leases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select, text

from syncd.db.database import Database
from syncd.db.database_time import database_now
from syncd.db.holder import Holder
from syncd.db.leases import EXPIRY_S
from syncd.db.models import workers

FORGET_S: Final = 86_400.0  # a worker that was not heard of for a day is not shown any more

_BEAT: Final = (
    "INSERT INTO workers (holder, role, sites, threads, version, seen_at)"
    " VALUES (:holder, :role, :sites, :threads, :version, {now})"
    " ON CONFLICT (holder) DO UPDATE SET seen_at = excluded.seen_at"
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of the service. `role`: worker, scheduler or web; `age_s`: seconds since it was last heard of."""

    holder: Holder
    role: str
    sites: tuple[str, ...]
    threads: int
    version: str
    age_s: float = 0.0

    @property
    def lives(self) -> bool:
        """Returns whether it was heard of lately and has not ended."""
        return self.age_s < EXPIRY_S and not self.holder.is_dead()


def beat(connection: Connection, worker: Worker) -> None:
    """Say that this process lives, inside the caller's transaction."""
    values = {
        "holder": str(worker.holder),
        "role": worker.role,
        "sites": json.dumps(worker.sites),
        "threads": worker.threads,
        "version": worker.version,
    }
    connection.execute(text(_BEAT.format(now=database_now(connection).compile(dialect=connection.dialect))), values)


def remove(database: Database, holder: Holder) -> None:
    """Say that this process has ended."""
    with database.write() as connection:
        connection.execute(delete(workers).where(workers.c.holder == str(holder)))


def known(database: Database) -> list[Worker]:
    """Returns every process of the service, the one that was heard of last first."""
    with database.read() as connection:
        return known_in(connection)


def known_in(connection: Connection) -> list[Worker]:
    """Returns what `known` does, inside the caller's transaction."""
    now = database_now(connection)
    found = select(workers, (now - workers.c.seen_at).label("age_s")).order_by(workers.c.seen_at.desc())
    return [
        Worker(Holder.parse(row.holder), row.role, tuple(json.loads(row.sites)), row.threads, row.version, row.age_s)
        for row in connection.execute(found)
    ]


def serving(database: Database, site: str) -> Worker | None:
    """Returns a living worker that serves a site."""
    return next((it for it in known(database) if it.role == "worker" and it.lives and site in it.sites), None)


def living(found: Sequence[Worker], role: str) -> list[Worker]:
    """Returns those of a role that live."""
    return [it for it in found if it.role == role and it.lives]


def forget(connection: Connection) -> None:
    """Delete the rows of processes that ended without saying so, a day after."""
    connection.execute(delete(workers).where(workers.c.seen_at < database_now(connection) - FORGET_S))
