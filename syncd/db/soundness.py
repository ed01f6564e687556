"""The database as `syncd doctor` looks at it: its schema, integrity, room and clock, and what the dead left behind.

Nothing is changed, and no write lock is taken. The integrity check of SQLite reads the whole file, some seconds a GiB.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.figures import clock_difference
from syncd.db.holder import Holder
from syncd.db.leases import job_resource_of, unexpired
from syncd.db.migrations import HEAD, schema_version
from syncd.db.models import definitions, jobs, leases, runs
from syncd.db.states import RunState

SCHEMA: Final = HEAD  # that this program knows


class Looked(NamedTuple):
    """A database. `schema` is "" where it is empty. The last four are None where a server keeps the database.

    `clock_ahead_s`: its clock against this machine's. `damage` has SQLite's words, "" where all is well.
    """

    engine: str  # such as "SQLite 3.40.1"
    schema: str
    clock_ahead_s: float
    octets: int | None = None
    wal_octets: int | None = None
    free_octets: int | None = None
    damage: str | None = None


class LeftBehind(NamedTuple):
    """A run whose worker is gone, and the site that its job is of."""

    run_id: int
    job: str
    site: str
    who: str


def look(database: Database) -> Looked:
    """Look at a database that `Database.peek` opened. Raises LedgerError, StorageError."""
    with database.read() as connection:
        schema, ahead = schema_version(connection), clock_difference(connection)
        engine = _engine(connection)
        if not database.is_sqlite:
            return Looked(engine, schema, ahead)
        damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    file = Path(database.place)
    return Looked(
        engine,
        schema,
        ahead,
        octets=_octets(file),
        wal_octets=_octets(file.with_name(f"{file.name}-wal")),
        free_octets=shutil.disk_usage(file.parent).free,
        damage="" if damage == "ok" else str(damage),
    )


def dead_leases(connection: Connection) -> list[tuple[str, str]]:
    """Returns leases that last on though their owner on this machine is dead, and who it was."""
    owned = select(leases.c.resource, leases.c.holder).where(leases.c.holder != "", unexpired(connection))
    held = [(row.resource, Holder.parse(row.holder)) for row in connection.execute(owned.order_by(leases.c.resource))]
    return [(resource, holder.describe()) for resource, holder in held if holder.is_dead()]


def left_behind(connection: Connection) -> list[LeftBehind]:
    """Returns runs whose worker is gone: dead on this machine, or elsewhere and without its lease."""
    leased = (
        select(leases.c.resource)
        .where(
            leases.c.resource == job_resource_of(runs.c.job_id), leases.c.holder == runs.c.holder, unexpired(connection)
        )
        .exists()
    )
    running = (
        select(runs.c.id, runs.c.holder, jobs.c.name, definitions.c.site, leased.label("leased"))
        .join(jobs, jobs.c.id == runs.c.job_id)
        .outerjoin(definitions, definitions.c.job_id == jobs.c.id)
        .where(runs.c.state == number(RunState.RUNNING))
        .order_by(runs.c.id)
    )
    found = []
    for row in connection.execute(running):
        holder = Holder.parse(row.holder)
        if holder.is_dead() if holder.is_here() else not row.leased:
            found.append(LeftBehind(row.id, row.name, row.site or "", holder.describe()))
    return found


def sites(connection: Connection) -> list[str]:
    """Returns the sites of jobs that run by a schedule."""
    scheduled = select(definitions.c.site).join(jobs, jobs.c.id == definitions.c.job_id).distinct()
    due = scheduled.where(jobs.c.enabled, jobs.c.paused_since.is_(None), definitions.c.schedule != "")
    return sorted(connection.execute(due).scalars())


def _engine(connection: Connection) -> str:
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    version = connection.dialect.server_version_info or ()
    return f"{names[connection.dialect.name]} {'.'.join(map(str, version))}"


def _octets(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0
