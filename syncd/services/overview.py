"""What has been done so far, from the ledger alone: jobs and runs. Nothing is connected, nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from syncd import clock
from syncd.errors import StateError
from syncd.services.wiring import existing_ledger

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.ledger import Ledger
    from syncd.db.rows import JobRow
    from syncd.db.runs import RunRow
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Job


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run. `outcome`: running, done, failed, stopped, or died (its process is gone; the next run goes on)."""

    job: str
    run_id: int
    outcome: str
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    counts: Mapping[str, int]
    message: str

    def as_json(self) -> dict[str, object]:
        """Plain values but for the instants."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class JobCounts:
    """What the ledger knows of a job: counts of messages in its source's present epoch."""

    last: RunSummary
    on_server: int  # at the last listing
    done: int  # nothing is left to do for them
    to_do: int
    waiting_time: int  # tried again by themselves
    waiting_person: int
    frozen: str | None  # why removals at the account stand still
    suspended: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)  # destination → until when, and why
    in_doubt: int = 0  # deliveries that a run left when it broke off; the next run records them as uncertain
    queued: Mapping[str, int] = field(default_factory=dict)  # mail server → deliveries that go on there by themselves


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job of the configuration; `known` is None where it has never run."""

    job: str
    source: str
    destinations: tuple[str, ...]
    enabled: bool
    schedule: str | None
    known: JobCounts | None

    def as_json(self) -> dict[str, object]:
        """Plain values but for the instants."""
        return asdict(self)


def status(loaded: Loaded) -> list[JobStatus]:
    """Every job of the configuration, in its order."""
    with existing_ledger(loaded) as database:
        return [_status(loaded, name, database) for name in loaded.settings.jobs]


def history(loaded: Loaded, job: str | None, limit: int) -> list[RunSummary]:
    """The newest `limit` runs first, of one job or of all."""
    with existing_ledger(loaded) as database:
        if database is None:
            return []
        from syncd.db.catalog import Catalog
        from syncd.db.runs import Runs

        row = Catalog(database).find_job(job) if job is not None else None
        if job is not None and row is None:
            return []
        return [_summary(run) for run in Runs(database).history(row.id if row else None, limit)]


def _status(loaded: Loaded, name: str, database: Database | None) -> JobStatus:
    job = loaded.settings.jobs[name]
    known = _known(database, name, job) if database is not None else None
    return JobStatus(
        job=name,
        source=job.source,
        destinations=tuple(destination.to for destination in job.destinations),
        enabled=job.enabled,
        schedule=None if job.schedule is None else str(job.schedule),
        known=known,
    )


def _known(database: Database, name: str, settings: Job) -> JobCounts | None:
    """What the ledger says of a job; None where it has never run."""
    from syncd.db.catalog import Catalog
    from syncd.db.ledger import Ledger
    from syncd.db.rows import Scope
    from syncd.db.runs import Runs
    from syncd.db.states import DeliveryState
    from syncd.mail.message import INBOX

    catalog = Catalog(database)
    job, account = catalog.find_job(name), catalog.find_account(settings.source)
    last = Runs(database).latest([job.id]).get(job.id) if job is not None else None
    if job is None or account is None or last is None:
        return None
    mailbox = catalog.mailbox(account.id, INBOX)
    scope = Scope(last.id, job.id, account.id, mailbox.id, mailbox.epoch, job.routes)
    ledger = Ledger(database, never_writes)
    counted = ledger.accounting(scope)
    return JobCounts(
        last=_summary(last),
        on_server=counted.listed,
        done=counted.final,
        to_do=counted.due,
        waiting_time=counted.waiting_time,
        waiting_person=counted.waiting_person,
        frozen=account.frozen_reason,
        suspended=_suspended(ledger, job, settings),
        in_doubt=0 if _is_at_work(database, name) else counted.deliveries.get(DeliveryState.SENDING, 0),
        queued=ledger.queues(scope),
    )


def _is_at_work(database: Database, job: str) -> bool:
    from syncd.db.leases import at_work

    with database.read() as connection:
        return job in at_work(connection)


def _suspended(ledger: Ledger, job: JobRow, settings: Job) -> dict[str, tuple[datetime, str]]:
    """The source and the destinations that are left alone now; a limit that the job sets no more holds none."""
    from syncd.db.ledger import Cause, of_account, of_route
    from syncd.services.wiring import limits

    places = {of_account(job.account_id): (settings.source, frozenset[str]())}
    for route in job.routes:
        mine = frozenset(str(limit) for to in settings.destinations if to.to == route.name for limit in limits(to))
        places[of_route(route.id)] = (route.name, mine)
        if route.account_id is not None:
            places[of_account(route.account_id)] = (route.name, mine)
    return {
        places[subject][0]: (found.until, found.reason)
        for subject, found in ledger.suspensions(places).items()
        if found.until > clock.now()
        and (found.cause is not Cause.LIMIT or any(f" {limit} " in found.reason for limit in places[subject][1]))
    }


def never_writes(_: object) -> NoReturn:
    """The fence of a ledger that is only looked at."""
    raise StateError("an overview does not write")


def _summary(run: RunRow) -> RunSummary:
    from syncd.db.states import RunState

    died = run.state is RunState.ABANDONED or (
        run.state is RunState.RUNNING and run.holder is not None and run.holder.is_dead()
    )
    return RunSummary(
        job=run.job,
        run_id=run.id,
        outcome="died" if died else run.state.name.lower(),
        started_at=run.started_at,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        counts=run.counts,
        message=run.message,
    )
