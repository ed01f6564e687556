"""Run jobs now, in this process: from names in the configuration to one report for each.

Jobs that share an archive share its object and its lease, one batch at a time. Jobs that read the same
account run one after another; the others side by side, as many as asked for. Jobs that read an archive come
after those that fill it.

A dry run is a run on a copy of the ledger, which makes no archive and ends where fetching would begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from syncd.db import restored as older
from syncd.db.catalog import Catalog, fingerprint
from syncd.db.database import Database
from syncd.db.leases import LeaseSet, account_resource, fence_of, job_resource
from syncd.db.ledger import Ledger
from syncd.db.rows import AccountRow, JobRow, Scope
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.engine.budget import Budget
from syncd.engine.events import ExitCode, Listener, Noted, RunFinished, RunReport
from syncd.engine.exit_codes import exit_code
from syncd.engine.job import Job, RemovalPolicy
from syncd.engine.run import Run
from syncd.engine.writer import STOPPED
from syncd.errors import AccountChanged, Cancelled, ConfigError, SyncdError
from syncd.mail.message import INBOX
from syncd.services.destinations import Destinations
from syncd.services.signin import try_out
from syncd.services.wiring import copied_ledger, identity, listed, open_ledger, open_source, reached
from syncd.settings.load import Loaded
from syncd.settings.staged import stages
from syncd.sources.base import Source

if TYPE_CHECKING:
    from syncd.pop3.quirks import Quirks

Cancellable = TypeVar("Cancellable", Run, Source)
Result = TypeVar("Result")

LEASE_MARGIN_S = 5.0  # a batch must not become durable later than this before our lease ends


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. `confirm(job, messages)` asks a person whether to remove mail at the source."""

    dry_run: bool = False
    parallel: int = 1
    refill: bool = False  # an archive that is missing is begun anew; what one lacks is delivered again
    rebind: bool = False  # an account whose server or user changed is the same mailbox
    unfreeze: bool = False  # removals that an anomaly froze are allowed again
    by_hand: bool = False  # somebody watches, see `engine.backoff`
    brake: bool = True  # stop a destination that refuses message after message
    confirm: Callable[[str, int], bool] | None = None


class JobRunner:
    """Runs the jobs `names` (all enabled ones if there are none). `cancel` may come from a signal handler."""

    def __init__(self, loaded: Loaded, names: Sequence[str], options: RunOptions, listen: Listener) -> None:
        self._loaded = loaded
        self._names = _chosen(loaded, names)
        self._options = options
        self._listen = listen
        self._budget = Budget()
        self._destinations = Destinations(loaded, dry_run=options.dry_run, refill=self._names if options.refill else ())
        self._quirks: dict[str, Quirks] = {}
        self._running: set[Run | Source] = set()
        self._cancelled = False

    def execute(self) -> list[RunReport]:
        """Run them all; in the order of the names, one report for each. Raises only what concerns every job."""
        loaded = self._loaded
        ledger = copied_ledger(loaded, self._names) if self._options.dry_run else open_ledger(loaded)
        with ledger as database, self._destinations:
            if self._keeps_note and older.recognise(database, loaded.settings.state_directory):
                for name in self._names:
                    self._listen(
                        Noted(name, f"{older.REASON}: what may have been sent waits for you, see syncd errors")
                    )
            Catalog(database).retire(reached(loaded), partial(_speaks_for, loaded))
            with ThreadPoolExecutor(self._options.parallel, thread_name_prefix="job") as pool:
                run = partial(self._run_lane, database)
                lanes = [lane for stage in self._stages() for lane in pool.map(run, stage)]
        reports = {report.job: report for lane in lanes for report in lane}
        return [reports[name] for name in self._names]

    @property
    def _keeps_note(self) -> bool:
        """Whether a file tells the ledger from an older copy: a database server is not a file that is put back."""
        return not self._options.dry_run and _is_local(self._loaded)

    def cancel(self) -> None:
        """Stop every run within a moment. Repeatable."""
        self._cancelled = True
        for run in tuple(self._running):
            run.cancel()

    def _stages(self) -> Iterator[list[list[str]]]:
        """Each stage when the one before it is done, as jobs that can run side by side and those that take turns."""
        jobs = self._loaded.settings.jobs
        for stage in stages(jobs, self._names):
            lanes: dict[str, list[str]] = {}
            for name in stage:
                lanes.setdefault(jobs[name].source, []).append(name)
            yield list(lanes.values())

    def _run_lane(self, database: Database, names: Sequence[str]) -> list[RunReport]:
        return [self._run(database, name) for name in names]

    def _run(self, database: Database, name: str) -> RunReport:
        try:
            if self._cancelled:
                raise Cancelled(STOPPED)
            return self._run_job(database, name)
        except SyncdError as error:
            report = RunReport(name, exit_code=exit_code(error), errors=[str(error)])
            self._listen(RunFinished(name, report))
            return report

    def _run_job(self, database: Database, name: str) -> RunReport:
        """Register, take the leases, run. What cannot be undone waits for the leases."""
        options, catalog = self._options, Catalog(database)
        source = self._loaded.settings.jobs[name].source
        if source in self._destinations.to_make:  # by a run of another job: it is empty yet
            report = RunReport(name, dry_run=True)
            self._listen(RunFinished(name, report))
            return report
        account = self._account(catalog, name)
        shelves = self._destinations.take(database, name)
        row = self._register(database, name, account)
        if row.removes:
            self._register_others(database, name, account)
        resources = [job_resource(name), account_resource(account.uuid)]
        with LeaseSet.acquire(database, resources, f'run of job "{name}"') as lease:
            leases = [lease, *(shelf.lease for shelf in shelves)]
            ledger = Ledger(database, fence_of(leases))
            if options.unfreeze:
                ledger.thaw(account.id)
            job = self._job(database, row, account)
            runs = Runs(database)
            runs.abandon()
            run_id = runs.start(row.id, "hand", lease.holder)
            if self._keeps_note:
                older.note(self._loaded.settings.state_directory, run_id)
            report = self._execute(job, ledger, leases, run_id)
            state = _STATES.get(report.exit_code, RunState.FAILED)
            runs.finish(run_id, state, report.exit_code, _counts(report), report.errors[0] if report.errors else "")
            return report

    def _account(self, catalog: Catalog, name: str) -> AccountRow:
        """The account in the ledger. It is bound to another server or user only when one can sign in there."""
        source = self._loaded.settings.jobs[name].source
        facts = (source, *identity(self._loaded, source))
        try:
            return catalog.account(*facts)
        except AccountChanged:
            if not self._options.rebind:
                raise
        self._cancellable(open_source(self._loaded, source, self._quirks), try_out)
        return catalog.account(*facts, rebind=True)

    def _register(self, database: Database, name: str, account: AccountRow) -> JobRow:
        destinations = self._destinations.specs(database, name)
        removes = self._loaded.settings.jobs[name].removes
        return Catalog(database).job(name, account.id, destinations, removes=removes, configuration=_file(self._loaded))

    def _register_others(self, database: Database, name: str, account: AccountRow) -> None:
        """Nothing is removed that another enabled job on the account has not delivered, even if it has never run.

        An account may have two names in one configuration. Jobs of other configurations are registered by their runs.
        """
        settings = self._loaded.settings
        for other, job in settings.jobs.items():
            if not job.enabled or other == name or job.source not in settings.accounts:
                continue
            if fingerprint(*identity(self._loaded, job.source)) == account.fingerprint:
                self._register(database, other, account)

    def _execute(self, job: Job, ledger: Ledger, leases: Sequence[LeaseSet], run_id: int) -> RunReport:
        routes = tuple(route.row for route in job.routes)
        scope = Scope(run_id, job.job_id, job.account.id, job.mailbox.id, job.mailbox.epoch, routes)
        run = Run(job, scope, ledger, self._budget, self._listen, _check(leases))
        run.report.to_make = [route.name for route in job.routes if route.name in self._destinations.to_make]
        with closing(job):
            return self._cancellable(run, partial(Run.execute, run_id=run_id, dry_run=self._options.dry_run))

    def _cancellable(self, what: Cancellable, act: Callable[[Cancellable], Result]) -> Result:
        """Do it in such a way that `cancel` ends it."""
        self._running.add(what)
        try:
            if self._cancelled:
                what.cancel()
            return act(what)
        finally:
            self._running.discard(what)

    def _job(self, database: Database, row: JobRow, account: AccountRow) -> Job:
        settings, catalog = self._loaded.settings.jobs[row.name], Catalog(database)
        removal = None
        if row.removes:
            ask = self._options.confirm
            confirm = None if ask is None else partial(_ask, ask, catalog, row)
            confirmed = settings.confirm_removal or row.removal_confirmed
            removal = RemovalPolicy(settings.kept_for, confirmed, confirm, lifted=self._options.unfreeze)
        return Job(
            name=row.name,
            job_id=row.id,
            account=account,
            mailbox=catalog.mailbox(account.id, INBOX),
            source=open_source(self._loaded, settings.source, self._quirks),
            routes=tuple(self._destinations.routes(database, row)),
            message_octets=self._loaded.settings.limits.message_octets,
            removal=removal,
            lifted=account.frozen_reason if self._options.unfreeze else None,
            by_hand=self._options.by_hand,
            brake=self._options.brake,
        )


_STATES = {
    ExitCode.DONE: RunState.DONE,
    ExitCode.WAITING: RunState.DONE,
    ExitCode.INTERRUPTED: RunState.STOPPED,
    ExitCode.STOPPED: RunState.STOPPED,
}


def _chosen(loaded: Loaded, names: Sequence[str]) -> list[str]:
    jobs = loaded.settings.jobs
    unknown = [name for name in names if name not in jobs]
    if unknown:
        raise ConfigError(*(f"there is no job {name!r}; the configuration has {listed(jobs)}" for name in unknown))
    chosen = list(dict.fromkeys(names)) or [name for name, job in jobs.items() if job.enabled]
    if not chosen:
        raise ConfigError("there is nothing to run: the configuration has no enabled job; add one under [jobs.NAME]")
    return chosen


def _file(loaded: Loaded) -> str:
    """The configuration file, as jobs are registered with it."""
    return "" if loaded.file is None else str(loaded.file.resolve())


def _speaks_for(loaded: Loaded, file: str) -> bool:
    """Whether jobs from `file` that this configuration does not have are over: they are its own, or nobody's any more.

    In a database that several machines share a file that is not here may be another machine's.
    """
    return file in {"", _file(loaded)} or (_is_local(loaded) and not Path(file).exists())


def _is_local(loaded: Loaded) -> bool:
    """Whether the ledger is a file on this machine."""
    return loaded.settings.database_url.startswith("sqlite")


def _check(leases: Sequence[LeaseSet]) -> Callable[[], None]:
    def check() -> None:
        for lease in leases:
            lease.check(LEASE_MARGIN_S)

    return check


def _ask(ask: Callable[[str, int], bool], catalog: Catalog, job: JobRow, messages: int) -> bool:
    """Ask a person once; a yes is remembered with the job."""
    if not ask(job.name, messages):
        return False
    catalog.confirm_removal(job.id)
    return True


def _counts(report: RunReport) -> dict[str, int]:
    """The figures of a report, for the history."""
    counts = {key: value for key, value in report.as_json().items() if type(value) is int and key != "exit_code"}
    return {**counts, **{f"delivered to {name}": n for name, n in report.delivered.items()}}
