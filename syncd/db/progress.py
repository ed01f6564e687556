"""Writes the progress of a run into its row with its batches: counts, phase, notes for a person."""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import Connection, bindparam, insert, update

from syncd import clock
from syncd.db.bulk import number
from syncd.db.instants import to_microseconds
from syncd.db.models import run_notes, runs
from syncd.db.rows import Progress
from syncd.db.states import RunState
from syncd.errors import LeaseLost, printable

MAX_NOTE: Final = 500  # characters
_PROGRESS: Final = update(runs).where(  # built once: it goes with each batch
    runs.c.state == number(RunState.RUNNING), runs.c.id == bindparam("run"), runs.c.generation == bindparam("claim")
)


def write_progress(connection: Connection, run_id: int, generation: int, progress: Progress) -> None:
    """Write how far a run is, inside the caller's transaction. Raises LeaseLost when somebody took the run over."""
    at = to_microseconds(clock.now())
    values = {"phase": progress.phase, "counts": json.dumps(dict(progress.counts)), "updated_at": at}
    if not connection.execute(_PROGRESS, {**values, "run": run_id, "claim": generation}).rowcount:
        raise lost(run_id)
    if progress.notes:
        rows = [{"run_id": run_id, "at": at, "text": printable(line, MAX_NOTE)} for line in progress.notes]
        connection.execute(insert(run_notes), rows)


def lost(run_id: int) -> LeaseLost:
    """Returns the error of a run that another process has taken over."""
    return LeaseLost(f"another process took over run {run_id} from us while we were not heard of: this run stops here")
