"""How long a run is going to take, by the runs of the job before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from syncd.db.runs import Runs
from syncd.db.states import RunState

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.runs import RunRow
    from syncd.engine.events import RunReport

RUNS: Final = 50  # the newest ones: most runs find nothing to fetch, and tell nothing
ENOUGH_MESSAGES: Final = 20  # in a run: a run that fetched fewer shows how long it takes to sign in


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds for each message and each octet: many small messages take long, and so do a few large ones."""

    per_message: float
    per_octet: float

    @classmethod
    def of(cls, runs: Sequence[RunRow]) -> Self | None:
        """Returns the rate of runs together; None where none of them tells one."""
        seconds, messages, octets = 0.0, 0, 0
        for run in runs:
            fetched = run.counts.get("fetched", 0)
            if fetched < ENOUGH_MESSAGES or run.started_at is None or run.finished_at is None or run.slices != 1:
                continue  # between its slices a run may wait for hours
            seconds += (run.finished_at - run.started_at).total_seconds()
            messages += fetched
            octets += run.counts.get("fetched_octets", 0)
        return cls(seconds / messages, seconds / octets) if seconds > 0 and octets else None

    def seconds(self, messages: int, octets: int) -> float:
        """Returns how long so much takes."""
        return max(messages * self.per_message, octets * self.per_octet)


def estimate(database: Database, job_id: int, report: RunReport) -> None:
    """Add to the report of a dry run how long a run would take, and each mailbox of it."""
    ended = {RunState.DONE, RunState.FAILED, RunState.STOPPED}
    rate = Rate.of([run for run in Runs(database).history([job_id], RUNS) if run.state in ended])
    if rate is None:
        return
    report.seconds_ahead = rate.seconds(report.to_fetch + report.to_backfill, report.to_fetch_octets)
    report.mapping = tuple(
        replace(plan, seconds=rate.seconds(plan.to_fetch, plan.to_fetch_octets)) for plan in report.mapping
    )
