"""Reads how applied jobs stand by their schedules: when they are due next, since when they are late or paused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from syncd.db.database import Database
from syncd.db.instants import from_microseconds
from syncd.db.lateness import APPLIED, COLUMNS, Judge, late_since
from syncd.db.models import definitions, jobs
from syncd.db.names import Owner
from syncd.db.rows import Paused


class Standing(NamedTuple):
    """A job. `late_since` is None where it is not late; `next_due` is None for a job without a schedule."""

    job_id: int
    next_due: datetime | None
    late_since: datetime | None
    paused: Paused | None
    paused_since: datetime | None
    succeeded_at: datetime | None


def standings(
    database: Database, owner: Owner, now: datetime, judge: Judge, names: Collection[str] | None = None
) -> dict[str, Standing]:
    """Returns the applied jobs of a configuration, or these of them, by name."""
    found = select(
        jobs.c.id, jobs.c.name, jobs.c.paused_since, jobs.c.paused_why, jobs.c.succeeded_at, definitions.c.next_due,
        *COLUMNS,
    ).select_from(APPLIED)  # fmt: skip
    if names is not None:
        found = found.where(jobs.c.name.in_(list(names)))
    with database.read() as connection:
        rows = connection.execute(found.where(jobs.c.configuration == owner.name)).all()
    return {
        row.name: Standing(
            row.id,
            _instant(row.next_due),
            late_since(row, now, judge),
            None if row.paused_since is None else Paused(row.paused_why),
            _instant(row.paused_since),
            _instant(row.succeeded_at),
        )
        for row in rows
    }


def _instant(number: int | None) -> datetime | None:
    return None if number is None else from_microseconds(number)
