"""What was done each day, for the plots of the page: a row for each configuration and day, added to as slices end.

Runs are no source for that: idle ones are thrown away after an hour, all of them after a while, and with many jobs
they are millions. Idle runs add nothing, so a poll costs nothing more. The last slice of a process that was killed
is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select, text

from syncd.db.database import Database
from syncd.db.models import days
from syncd.db.states import RunState

_EPOCH: Final = date(1970, 1, 1)
_FAILED: Final = frozenset({RunState.FAILED, RunState.ABANDONED})
_ADD: Final = text(
    "INSERT INTO days (configuration, day, runs, failures, messages, octets)"
    " SELECT jobs.configuration, :day, :runs, :failures, :messages, :octets"
    " FROM runs JOIN jobs ON jobs.id = runs.job_id WHERE runs.id = :run"
    " ON CONFLICT (configuration, day) DO UPDATE SET runs = days.runs + excluded.runs,"
    " failures = days.failures + excluded.failures, messages = days.messages + excluded.messages,"
    " octets = days.octets + excluded.octets"
)


@dataclass(frozen=True, slots=True)
class Day:
    """The sums of one day, UTC."""

    day: date
    runs: int = 0
    failures: int = 0
    messages: int = 0
    octets: int = 0


def add(  # noqa: PLR0917  what is known of a slice
    connection: Connection,
    run_id: int,
    state: RunState,
    before: Mapping[str, int],
    counts: Mapping[str, int],
    now: datetime,
) -> None:
    """Add a slice that ended, inside the caller's transaction. `counts` are those of the run, `before` at its claim."""
    values = {
        "runs": int(state is not RunState.QUEUED),
        "failures": int(state in _FAILED),
        "messages": counts.get("fetched", 0) - before.get("fetched", 0),
        "octets": counts.get("fetched_octets", 0) - before.get("fetched_octets", 0),
    }
    if any(values.values()):
        connection.execute(_ADD, {**values, "run": run_id, "day": _number(now.astimezone(UTC).date())})


def last(database: Database, configuration: str, now: datetime, many: int) -> list[Day]:
    """Returns the last days, today the last of them; a day without a row has zeros."""
    first = _number(now.astimezone(UTC).date()) - many + 1
    found = select(days).where(days.c.configuration == configuration, days.c.day >= first)
    with database.read() as connection:
        rows = {row.day: row for row in connection.execute(found)}
    return [
        Day(_EPOCH + timedelta(number), row.runs, row.failures, row.messages, row.octets)
        if (row := rows.get(number))
        else Day(_EPOCH + timedelta(number))
        for number in range(first, first + many)
    ]


def _number(day: date) -> int:
    return (day - _EPOCH).days
