"""Gathers the overview of the page. Rows are read, nothing is locked, and no statement grows with messages.

The numbers of messages at a source are a count over the ledger, which `overview.status` makes: here are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.db import board
from syncd.db.catalog import Catalog
from syncd.db.days import Day, last
from syncd.db.notices import conditions
from syncd.db.runs import Runs
from syncd.services import overview
from syncd.services.overview import RunSummary, Standing
from syncd.services.pace import Pace, Paces
from syncd.services.wiring import owner
from syncd.services.words import count, has_words
from syncd.settings.quiet import late_since

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import Loaded

SHOWN: Final = 20  # of each kind; more are counted
DAYS: Final = 30  # that are plotted


@dataclass(frozen=True, slots=True)
class Trouble:
    """A job that something is wrong with. `paused` as in Standing; `error` is the line that its last run ended with."""

    job: str
    late_since: datetime | None
    paused: str
    paused_since: datetime | None
    error: str
    error_since: datetime | None


@dataclass(frozen=True, slots=True)
class Suspension:
    """An account, or a destination of a `job`, that is not contacted before a time."""

    name: str
    job: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Due:
    """A job and when its schedule starts it."""

    job: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Panel:
    """The overview. Lists have at most SHOWN entries; `counts` has how many there are of each."""

    sentence: str
    well: bool
    running: Sequence[RunSummary]
    queued: Sequence[RunSummary]
    coming: Sequence[Due]
    troubles: Sequence[Trouble]
    suspended: Sequence[Suspension]
    waiting_time: int
    waiting_person: int
    waiting_counted: bool  # False: more wait than these
    counts: Mapping[str, int]
    paces: Mapping[int, Pace]  # of `running`, by the run
    days: Sequence[Day]  # the last DAYS, today the last of them

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job of the configuration, without any count of messages at its source. `last` is None: it has never run."""

    job: str
    source: str
    destinations: tuple[str, ...]
    enabled: bool
    schedule: str | None
    standing: Standing | None
    last: RunSummary | None

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return asdict(self)


def panel(loaded: Loaded, database: Database, paces: Paces) -> Panel:
    """Returns the overview of a configuration. `paces` are those of this process: it sees the rows change."""
    now, mine = clock.now(), owner(loaded).name
    open_runs = overview.under_way(loaded, database)
    running = [run for run in open_runs if run.outcome != "queued"]
    queued = [run for run in open_runs if run.outcome == "queued"]
    shown = {run.run_id for run in running[:SHOWN]}
    coming, scheduled = board.coming(database, mine, SHOWN)
    troubles = _troubles(loaded, database)
    suspended = [Suspension(*row) for row in board.suspended(database, mine, now)]
    waiting = board.waiting(database, mine)
    wrong = [it for it in troubles if it.late_since or it.error or it.paused != "person"]
    return Panel(
        sentence=_sentence(loaded, wrong, suspended, waiting),
        well=not wrong and not suspended and not waiting.for_person,
        running=running[:SHOWN],
        queued=queued[:SHOWN],
        coming=[Due(*each) for each in coming],
        troubles=troubles[:SHOWN],
        suspended=suspended[:SHOWN],
        waiting_time=waiting.for_time,
        waiting_person=waiting.for_person,
        waiting_counted=waiting.is_whole,
        counts={
            "running": len(running),
            "queued": len(queued),
            "coming": scheduled,
            "troubles": len(troubles),
            "suspended": len(suspended),
        },
        paces={run_id: pace for run_id, pace in paces.of(running).items() if run_id in shown},
        days=last(database, mine, now, DAYS),
    )


def job_names(loaded: Loaded, database: Database, words: str = "", *, attention: bool = False) -> list[str]:
    """Returns jobs in the order of the configuration: those that have all `words` in name, source or destinations.

    With `attention`, only those that something is wrong with.
    """
    settings = loaded.settings.jobs
    names = [
        name for name, it in settings.items() if has_words(words, name, it.source, *(to.to for to in it.destinations))
    ]
    if attention:
        wrong = {it.job for it in _troubles(loaded, database)}
        names = [name for name in names if name in wrong]
    return names


def job(loaded: Loaded, database: Database, name: str) -> JobLine | None:
    """Returns one job; None where the configuration has no such job."""
    return next(iter(jobs(loaded, database, [name])), None) if name in loaded.settings.jobs else None


def jobs(loaded: Loaded, database: Database, names: Sequence[str]) -> list[JobLine]:
    """Returns these jobs of the configuration."""
    catalog = Catalog(database, owner(loaded))
    rows = {name: row for name in names if (row := catalog.find_job(name)) is not None}
    latest = Runs(database).latest([row.id for row in rows.values()])
    standings = overview.standings_of(loaded, database, names)
    lines = []
    for name in names:
        settings, row = loaded.settings.jobs[name], rows.get(name)
        run = None if row is None else latest.get(row.id)
        lines.append(
            JobLine(
                job=name,
                source=settings.source,
                destinations=tuple(to.to for to in settings.destinations),
                enabled=settings.enabled,
                schedule=None if settings.schedule is None else str(settings.schedule),
                standing=standings.get(name),
                last=None if run is None else overview.summary(run),
            )
        )
    return lines


def _troubles(loaded: Loaded, database: Database) -> list[Trouble]:
    mine = owner(loaded).name
    return [
        Trouble(
            it.job, it.late_since, "" if it.paused is None else it.paused.name.lower(), it.paused_since,
            it.trouble, it.trouble_since if it.trouble else None,
        )
        for it in conditions(database, clock.now(), late_since)
        if it.configuration == mine and (it.late_since or it.paused is not None or it.trouble)
    ]  # fmt: skip


def _sentence(loaded: Loaded, wrong: Sequence[Trouble], suspended: Sequence[Suspension], waiting: board.Waiting) -> str:
    """Returns whether everything is all right, in one sentence."""
    parts = []
    if wrong:
        first = wrong[0].job if len(wrong) == 1 else count(len(wrong), "job")
        parts.append(f"{first} {'needs' if len(wrong) == 1 else 'need'} attention")
    if waiting.for_person:
        more = "" if waiting.is_whole else "more than "
        number = count(waiting.for_person, "message")
        parts.append(f"{more}{number} {'waits' if waiting.for_person == 1 else 'wait'} for you")
    if len(suspended) == 1:
        parts.append(f"{suspended[0].name} is suspended")
    elif suspended:
        parts.append(f"{len(suspended):,} accounts and destinations are suspended")
    if parts:
        text = "; ".join(parts) + "."
        named = len(wrong) == 1 or (len(parts) == 1 and len(suspended) == 1)  # a name stays as it is written
        return text if named else text[:1].upper() + text[1:]
    jobs_ = sum(job.enabled for job in loaded.settings.jobs.values())
    return f"All is well with {count(jobs_, 'job')}." if jobs_ else "No job is configured."
