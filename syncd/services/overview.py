"""An overview of what has been done, from the ledger alone: jobs and runs. Nothing is connected, written or locked.

One source for each figure: how far a run is stands in its row, which the run writes with its batches; where messages
stand is counted in the ledger. Without a ledger (None) no job has run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.services.wiring import limits, owner, read_only
from syncd.settings.quiet import late_since

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.ledger import Ledger
    from syncd.db.rows import JobRow
    from syncd.db.runs import RunNote, RunRow, Runs
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Job


@dataclass(frozen=True, slots=True)
class Note:
    """A line that a run left for a person."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run. `counts` and `phase` are as the run wrote them last: those of a running one are up to date to a second.

    `outcome`: queued, running, done, failed, stopped, or died (its process is gone; the next run goes on with it).
    """

    job: str
    run_id: int
    outcome: str
    phase: str
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    exit_code: int | None
    counts: Mapping[str, int]
    message: str
    notes: tuple[Note, ...] = ()
    trigger: str = ""  # why it is there: "schedule", "hand" (of the service) or "here" (of this program)
    due_at: datetime | None = None  # by the schedule
    slices: int = 0
    missed: int = 0  # further times of the schedule that it covers
    worker: str = ""  # the process that works on it, or did last
    updated_at: datetime | None = None  # when `counts` were written

    @property
    def began_at(self) -> datetime:
        """Returns when it began; of a run that was stopped before it began, when it was asked for."""
        return self.started_at or self.queued_at

    @property
    def is_running(self) -> bool:
        """Returns whether a living process works on it."""
        return self.outcome == RUNNING

    @property
    def asked_by(self) -> str:
        """Returns whose wish it was, in words."""
        return "the schedule" if self.trigger == "schedule" else "a person"

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return asdict(self)


LOOKED_BACK: Final = 50  # runs
RUNNING = "running"
DIED = "died"
STOPPING = "stopping"  # the phase of a run that was asked to stop


@dataclass(frozen=True, slots=True)
class Suspended:
    """A source or destination that is not contacted before a time."""

    name: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """Mailboxes from which nothing is removed until a person lifts it, for one reason. Paths are joined with "/"."""

    mailboxes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Counts that the ledger has of a job: counts of messages in the mailboxes of its source."""

    last: RunSummary
    on_server: int | None  # at the last listing, without what was removed since; None: its mailboxes were never listed
    done: int  # nothing is left to do for them
    to_do: int
    waiting_time: int  # tried again by themselves
    waiting_person: int
    frozen: tuple[Frozen, ...] = ()
    suspended: tuple[Suspended, ...] = ()
    removal_unknown: int = 0  # the server did not say whether it removed them; the next listing shows it
    unrecorded: int = 0  # deliveries that a run left `sending` when it died; the next run records them as uncertain
    queued: Mapping[str, int] = field(default_factory=dict)  # mail server → deliveries that go on there by themselves
    refused: str = ""  # why the newest run that listed mailboxes refused some of them; empty where it refused none

    @property
    def waiting(self) -> int:
        """Returns how many messages are not done: `syncd errors` accounts for all of them."""
        return self.to_do + self.waiting_time + self.waiting_person


@dataclass(frozen=True, slots=True)
class Sharing:
    """An account or archive of the job that another configuration uses as well, and its name there."""

    name: str
    configuration: str
    called: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The standing of a job by its schedule. `paused` is "person", "sign_in" or "deaths"; empty if it is not paused."""

    next_run: datetime | None
    late_since: datetime | None
    paused: str
    paused_since: datetime | None


@dataclass(frozen=True, slots=True)
class Live:
    """The work of a service now, and what comes next. `standings` has every applied job."""

    runs: tuple[RunSummary, ...]
    standings: Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job of the configuration; `known` is None where it has never run."""

    job: str
    source: str
    destinations: tuple[str, ...]
    enabled: bool
    schedule: str | None
    known: JobCounts | None
    shared: tuple[Sharing, ...] = ()
    standing: Standing | None = None  # None: the job was not applied, so no service runs it

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return asdict(self)


def status_of(loaded: Loaded, database: Database, job: str) -> JobStatus:
    """Returns one job of the configuration."""
    (found,) = status(loaded, database, [job])
    return found


def status(loaded: Loaded, database: Database | None, jobs: Sequence[str] | None = None) -> list[JobStatus]:
    """Returns every job of the configuration, or these, in its order."""
    shared = _shared(loaded, database)
    standing = standings_of(loaded, database, jobs)
    return [
        JobStatus(
            job=name,
            source=job.source,
            destinations=tuple(destination.to for destination in job.destinations),
            enabled=job.enabled,
            schedule=None if job.schedule is None else str(job.schedule),
            known=None if database is None else counts(loaded, database, name),
            shared=tuple(it for it in shared if it.name in {job.source, *(to.to for to in job.destinations)}),
            standing=standing.get(name),
        )
        for name, job in loaded.settings.jobs.items()
        if jobs is None or name in jobs
    ]


def live(loaded: Loaded, database: Database | None) -> Live:
    """Returns the runs that are queued or under way, and how all jobs stand. Its cost does not grow with messages."""
    return Live(tuple(under_way(loaded, database)), standings_of(loaded, database))


def under_way(loaded: Loaded, database: Database | None) -> list[RunSummary]:
    """Returns the runs that are queued or under way, those that began first first."""
    from syncd.db.runs import Runs

    return [] if database is None else [summary(run) for run in Runs(database).under_way(owner(loaded).name)]


def run_of(loaded: Loaded, database: Database | None, run_id: int) -> RunSummary | None:
    """Returns one run of this configuration; None where it has none of this number."""
    if database is None:
        return None
    from syncd.db.catalog import Catalog
    from syncd.db.runs import Runs

    runs = Runs(database)
    run = runs.find(run_id)
    if run is None or run.job_id not in Catalog(database, owner(loaded)).job_ids():
        return None
    return summary(run, runs.notes([run_id]).get(run_id, ()))


def standings_of(loaded: Loaded, database: Database | None, jobs: Collection[str] | None = None) -> dict[str, Standing]:
    """Returns how applied jobs of the configuration, or these of them, stand by their schedules."""
    if database is None:
        return {}
    from syncd.db.standings import standings

    found = standings(database, owner(loaded), clock.now(), late_since, jobs)
    return {
        name: Standing(it.next_due, it.late_since, "" if it.paused is None else it.paused.name.lower(), it.paused_since)
        for name, it in found.items()
    }


def history(
    loaded: Loaded, database: Database | None, job: str | None, limit: int, before: int | None = None
) -> list[RunSummary]:
    """Returns the newest `limit` runs, the newest first, of one job or of all; with `before`, older than that run."""
    if database is None:
        return []
    from syncd.db.catalog import Catalog
    from syncd.db.runs import Runs

    catalog = Catalog(database, owner(loaded))
    row = catalog.find_job(job) if job is not None else None
    if job is not None and row is None:
        return []
    runs = Runs(database)
    found = runs.history(catalog.job_ids() if row is None else [row.id], limit, before)
    notes = runs.notes([run.id for run in found])
    return [summary(run, notes.get(run.id, ())) for run in found]


def counts(loaded: Loaded, database: Database, name: str) -> JobCounts | None:
    """Returns what the ledger says of a job; None where it has never run."""
    from syncd.db.catalog import Catalog
    from syncd.db.rows import RunScope
    from syncd.db.runs import Runs
    from syncd.db.states import DeliveryState

    job, runs = Catalog(database, owner(loaded)).find_job(name), Runs(database)
    last = runs.latest([job.id]).get(job.id) if job is not None else None
    if job is None or last is None:
        return None
    ledger = read_only(database)
    scope = RunScope(last.id, last.generation, job.id, job.account_id, job.routes)
    scope = ledger.mailboxes.narrowed(scope, loaded.settings.jobs[name].selection)
    counted, newest = ledger.accounting(scope), summary(last, runs.notes([last.id]).get(last.id, ()))
    return JobCounts(
        last=newest,
        on_server=counted.at_source if ledger.mailboxes.find(scope) else None,
        done=counted.final,
        to_do=counted.due,
        waiting_time=counted.waiting_time,
        waiting_person=counted.waiting_person,
        frozen=_frozen(ledger, job),
        suspended=_suspended(ledger, job, loaded.settings.jobs[name]),
        removal_unknown=0 if newest.is_running else counted.removing,
        unrecorded=0 if newest.is_running else counted.deliveries.get(DeliveryState.SENDING, 0),
        queued=ledger.queues(scope),
        refused=_refused(runs, job.id),
    )


def _refused(runs: Runs, job_id: int) -> str:
    """Returns `JobCounts.refused`. Runs since then may have come to no listing: a suspension, a server that is away."""
    from syncd.engine.exit_codes import ExitCode

    looked = next((run for run in runs.history([job_id], LOOKED_BACK) if run.counts.get("mailboxes")), None)
    return looked.message if looked is not None and looked.exit_code == ExitCode.CONFIG_INVALID else ""


def _shared(loaded: Loaded, database: Database | None) -> list[Sharing]:
    if database is None:
        return []
    from syncd.db.catalog import Catalog

    found = Catalog(database, owner(loaded)).shared()
    return [Sharing(it.name, it.configuration, it.called) for it in found]


def _frozen(ledger: Ledger, job: JobRow) -> tuple[Frozen, ...]:
    reasons: dict[str, list[str]] = {}
    for found in ledger.mailboxes.frozen(job.account_id):
        reasons.setdefault(found.reason, []).append("/".join(found.path))
    return tuple(Frozen(tuple(mailboxes), reason) for reason, mailboxes in reasons.items())


def _suspended(ledger: Ledger, job: JobRow, settings: Job) -> tuple[Suspended, ...]:
    """Returns the suspended source and destinations; a limit that the job does not set any more suspends nothing."""
    from syncd.db.ledger import Cause, of_account, of_route

    places = {of_account(job.account_id): (settings.source, frozenset[str]())}
    for route in job.routes:
        mine = frozenset(str(limit) for to in settings.destinations if to.to == route.name for limit in limits(to))
        places[of_route(route.id)] = (route.name, mine)
        if route.account_id is not None:
            places[of_account(route.account_id)] = (route.name, mine)
    return tuple(
        Suspended(places[subject][0], found.until, found.reason)
        for subject, found in ledger.suspensions.find(places).items()
        if found.until > clock.now() and (found.cause is not Cause.LIMIT or found.limit in places[subject][1])
    )


def summary(run: RunRow, notes: Sequence[RunNote] = ()) -> RunSummary:
    """Returns a row as people see it."""
    from syncd.db.states import RunState
    from syncd.engine.exit_codes import ExitCode
    from syncd.engine.writer import STOPPED

    outcome, exit_code, message = run.state.name.lower(), run.exit_code, run.message
    if run.state is RunState.RUNNING and run.holder is not None and run.holder.is_dead():
        outcome = DIED
        if run.cancel_requested:  # it was asked to stop, and did not take the time to say so
            outcome, exit_code, message = RunState.STOPPED.name.lower(), int(ExitCode.INTERRUPTED), STOPPED
    return RunSummary(
        job=run.job,
        run_id=run.id,
        outcome=outcome,
        phase=STOPPING if outcome == RUNNING and run.cancel_requested else run.phase,
        queued_at=run.queued_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        not_before=run.not_before,
        exit_code=exit_code,
        counts=run.counts,
        message=message,
        notes=tuple(Note(*note) for note in notes if note.text != message),  # it stands there already
        trigger=run.trigger,
        due_at=run.due_at,
        slices=run.slices,
        missed=run.missed,
        worker="" if run.holder is None else f"process {run.holder.pid} on {run.holder.host}",
        updated_at=run.updated_at,
    )
