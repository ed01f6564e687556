"""Passes on what people ask of jobs and runs, by the names that the configuration has for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from syncd.db import control
from syncd.db.catalog import Catalog
from syncd.db.control import Cancelled
from syncd.db.database import Database
from syncd.db.runs import Runs
from syncd.services.wiring import owner
from syncd.settings.load import Loaded

if TYPE_CHECKING:
    from syncd.db.rows import JobRow

Act = Callable[[Loaded, Database, str], bool | None]


def pause(loaded: Loaded, database: Database, job: str) -> bool | None:
    """Pause a job; returns whether it was not paused, None where the ledger does not know it."""
    row = _job(loaded, database, job)
    return None if row is None else control.pause(database, row.id)


def resume(loaded: Loaded, database: Database, job: str) -> bool | None:
    """Let a job run by its schedule again; returns whether it was paused, None where the ledger does not know it."""
    row = _job(loaded, database, job)
    return None if row is None else control.resume(database, row.id)


def cancel(loaded: Loaded, database: Database, what: str) -> Cancelled | None:
    """Cancel the open run of a job, or a run by its number; None where there is no such open run."""
    if what not in loaded.settings.jobs and what.isdecimal():
        return control.cancel(database, int(what))
    row = _job(loaded, database, what)
    run = None if row is None else Runs(database).open_run(row.id)
    return None if run is None else control.cancel(database, run.id)


def _job(loaded: Loaded, database: Database, job: str) -> JobRow | None:
    return Catalog(database, owner(loaded)).find_job(job)
