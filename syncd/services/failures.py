"""Jobs whose last run failed: `syncd errors` and `syncd doctor` name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncd.engine.exit_codes import ExitCode
from syncd.services.wiring import owner

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.runs import RunRow
    from syncd.settings.load import Loaded


def failed(loaded: Loaded, database: Database | None, job: str | None = None) -> dict[str, RunRow]:
    """Returns the last run of each job of the configuration, or of one, where an error ended it or a part of it.

    A run after which messages wait, and that told of no error, is left out: `syncd errors` has these messages.
    """
    if database is None:
        return {}
    from syncd.db.catalog import Catalog
    from syncd.db.runs import Runs
    from syncd.db.states import RunState

    latest = Runs(database).latest(Catalog(database, owner(loaded)).job_ids()).values()
    found = {run.job: run for run in latest if run.state is RunState.FAILED and run.message}
    return {name: found[name] for name in loaded.settings.jobs if name in found and job in {None, name}}


def passes(run: RunRow) -> bool:
    """Returns whether a run that failed is likely to go well when it is tried again."""
    return run.exit_code == ExitCode.TEMPORARY
