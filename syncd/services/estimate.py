"""How long a run is going to take, by runs before it: of the job, else of others that read the same account.

`octets_per_day` may make it longer: the first octets of a limit pass at once, the next as many a day later, and so on.
What passed already in the last 24 hours is not counted, so a run may take a day more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from syncd.db.catalog import Catalog
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.engine.events import Basis
from syncd.mail.allowance import WINDOW_S

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.rows import JobRow
    from syncd.db.runs import RunRow
    from syncd.engine.events import RunReport
    from syncd.settings.schema import Settings

RUNS: Final = 50  # the newest ones: most runs find nothing to fetch, and tell nothing
LEAST_S: Final = 1.0  # of a run that does anything: it signs in first
_ENDED: Final = frozenset({RunState.DONE, RunState.FAILED, RunState.STOPPED})
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
        """Returns how long so much takes, in a session that is there."""
        return max(messages * self.per_message, octets * self.per_octet)


GUESS: Final = Rate(1 / 20, 1 / (1 << 20))  # as `Basis.GUESS` says: what far away servers let us do, at least


def estimate(database: Database, job: JobRow, report: RunReport, limits: Sequence[int] = ()) -> None:
    """Add to the report of a dry run how long a run would take, and each mailbox of it. `limits` as `daily` gives."""
    rate, report.seconds_from = GUESS, Basis.GUESS
    others = Catalog(database).jobs_reading(job.account_id)
    for basis, ids in ((Basis.JOB, [job.id]), (Basis.ACCOUNT, others)):
        found = Rate.of([run for run in Runs(database).history(ids, RUNS) if run.state in _ENDED])
        if found is not None:
            rate, report.seconds_from = found, basis
            break
    messages = report.to_fetch + report.to_backfill
    report.seconds_ahead = max(LEAST_S if messages else 0.0, rate.seconds(messages, report.to_fetch_octets))
    at_least = waiting_s(report.to_fetch_octets, limits)
    if at_least > report.seconds_ahead:
        report.seconds_ahead, report.seconds_from = at_least, Basis.LIMIT
    report.mapping = tuple(
        replace(
            plan,
            seconds=max(rate.seconds(plan.to_fetch, plan.to_fetch_octets), waiting_s(plan.to_fetch_octets, limits)),
        )
        for plan in report.mapping
    )


def daily(settings: Settings, job: str) -> list[int]:
    """Returns the octets a day that a job may read from its source, and put into each of its accounts."""
    source = settings.accounts.get(settings.jobs[job].source)
    places = [settings.accounts[to.to] for to in settings.jobs[job].destinations if to.to in settings.accounts]
    limits = [] if source is None else [source.octets_per_day.down]
    return [limit for limit in (*limits, *(place.octets_per_day.up for place in places)) if limit is not None]


def waiting_s(octets: int, limits: Iterable[int]) -> float:
    """Returns how long so many octets wait, at least, for the days of the strictest limit."""
    return float(max(((octets - 1) // limit * WINDOW_S for limit in limits if octets), default=0))
