"""Work on one run row: leases, claim, job, engine, finish. The same path for a run by hand and, later, for a worker.

    leases    the job and its account: before the claim, so a run is only claimed by a process that may work; an
              archive's before it is written to
    claim     QUEUED → RUNNING, or RUNNING → RUNNING where the owner died: the row and its counts stay
    finish    RUNNING → DONE | FAILED | STOPPED, with counts; refused where another process took the run over meanwhile

What fails between claim and engine (an archive that cannot be made) ends in the row as a failure of the engine does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from syncd.db import restored
from syncd.db.catalog import Catalog
from syncd.db.leases import LeaseSet, account_resource, fence_of, job_resource
from syncd.db.ledger import Ledger
from syncd.db.rows import Freeze, JobRow, RunScope
from syncd.db.runs import Claim, Runs
from syncd.db.states import RunState
from syncd.engine.context import Slice
from syncd.engine.events import Listener, RunFinished, RunReport
from syncd.engine.exit_codes import ExitCode, exit_code, gravest
from syncd.engine.job import Job, RemovalPolicy
from syncd.engine.run import Run
from syncd.errors import LeaseLost, SyncdError, UsageError
from syncd.mail.allowance import Direction
from syncd.mail.patterns import EVERYTHING, matches
from syncd.services.estimate import daily, estimate
from syncd.services.wiring import allowance, is_local, open_source

if TYPE_CHECKING:
    from syncd.db.lease_on_demand import LeaseOnDemand
    from syncd.services.destinations import OpenArchive
    from syncd.services.registry import Registered
    from syncd.services.workplace import Workplace
    from syncd.settings.load import Loaded

LEASE_MARGIN_S = 5.0  # a batch must not become durable later than this before our lease ends
BUG: Final = "stopped by a bug in syncd"

STATES: Final = {
    ExitCode.DONE: RunState.DONE,
    ExitCode.WAITING: RunState.DONE,
    ExitCode.INTERRUPTED: RunState.STOPPED,
    ExitCode.STOPPED: RunState.STOPPED,
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run. `confirm(job, messages)` asks a person whether to remove mail at the source."""

    dry_run: bool = False
    parallel: int = 1
    refill: bool = False  # recreate an archive that is gone; deliver again what an archive lacks
    rebind: bool = False  # a changed host, port or username of an account is the same mailbox
    unfreeze: str | None = None  # the pattern of mailboxes: removals that an anomaly froze are allowed again
    by_hand: bool = False  # somebody watches, see `engine.suspension`
    brake: bool = True  # stop a destination that refuses message after message
    confirm: Callable[[str, int], bool] | None = None
    slice: Slice | None = None  # when to end before the work does; by default never


def state_of(code: ExitCode) -> RunState:
    """Returns the state in which a run ends that comes to this exit code."""
    return STATES.get(code, RunState.FAILED)


def failed(job: str, error: SyncdError) -> RunReport:
    """Returns the report of a run that failed before its engine began."""
    return RunReport(job, exit_code=exit_code(error), errors=[str(error)])


def work_on(
    place: Workplace, run_id: int, registered: Registered, options: RunOptions, listen: Listener
) -> RunReport | None:
    """Work on a run to its end. Returns its report; None where the run cannot be claimed.

    Every SyncdError after the claim ends in the report and in the row. Raises LeaseHeld, LedgerError before the claim.
    """
    job, account = registered.job, registered.account
    resources = [job_resource(job.id), account_resource(account.uuid)]
    with (
        place.destinations.taken(job.name) as archives,
        LeaseSet.acquire(place.database, resources, f'run of job "{job.name}"') as lease,
    ):
        runs = Runs(place.database)
        claim = runs.claim(run_id, lease.holder)
        if claim is None:
            return None
        work = place.running.rows[run_id] = Work(place, registered, claim, archives, lease, options, listen)
        try:
            report = work.execute()
        except SyncdError as error:
            report = failed(job.name, error)
            report.run_id = 0 if options.dry_run else run_id
            listen(RunFinished(job.name, report))
        except BaseException:
            with suppress(Exception):  # it may be the ledger that fails; the first exception is told
                counts = work.report.counts(claim.counts) if work.report is not None else claim.counts
                runs.finish(claim, RunState.FAILED, ExitCode.FAILED, counts, BUG)
            raise
        if place.running.cancelled and report.exit_code is ExitCode.TEMPORARY:
            report.exit_code = ExitCode.INTERRUPTED  # a connection that broke, as it was cut
        _finish(runs, claim, report)
        place.running.rows.pop(run_id, None)
        return report


def _finish(runs: Runs, claim: Claim, report: RunReport) -> None:
    """Close the run with its report. A run that another process has taken over is that process's to close."""
    message = report.errors[0] if report.errors else ""
    try:
        runs.finish(claim, state_of(report.exit_code), report.exit_code, report.counts(claim.counts), message)
    except LeaseLost as error:
        if report.exit_code is not ExitCode.HELD:  # the engine was not told yet
            report.errors.append(str(error))
            report.exit_code = gravest([report.exit_code, exit_code(error)])


class Work:
    """A run that is claimed, with what it takes to work on it."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self,
        place: Workplace,
        registered: Registered,
        claim: Claim,
        archives: Sequence[OpenArchive],
        lease: LeaseSet,
        options: RunOptions,
        listen: Listener,
    ) -> None:
        self._place = place
        self._registered = registered
        self._claim = claim
        self._archives = archives
        self._leases: list[LeaseSet | LeaseOnDemand] = [lease, *(archive.lease for archive in archives)]
        self._options = options
        self._listen = listen
        self.report: RunReport | None = None  # of the engine, once it has begun
        self._run: Run | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Stop this run alone, within a moment; what is in transfer is fetched again. Repeatable; from any thread."""
        self._cancelled = True
        if self._run is not None:
            self._run.cancel()

    def execute(self) -> RunReport:
        """Give the job to the engine. Raises SyncdError where it does not come to that."""
        place, options = self._place, self._options
        if keeps_note(place.loaded, options):
            restored.note(place.loaded.settings.state_directory, self._claim.run_id)
        self._check()
        place.destinations.make(self._archives)
        ledger = Ledger(place.database, fence_of(self._leases))
        job = self._job(ledger)
        self._leases += place.destinations.leases(job.name)
        row = self._registered.job
        scope = RunScope(self._claim.run_id, self._claim.generation, row.id, row.account_id, row.routes)
        scope = ledger.mailboxes.narrowed(scope, job.selection)
        run = Run(job, scope, ledger, place.budget, self._listen, self._check, options.slice)
        self.report = run.report
        run.report.to_make = [archive.row.name for archive in self._archives if not archive.made]
        self._run = run
        with closing(job), place.running.during(run):
            if self._cancelled:
                run.cancel()
            report = run.execute(dry_run=options.dry_run, before=self._claim.counts)
        if options.dry_run:
            estimate(place.database, row, report, daily(place.loaded.settings, job.name))
        return report

    def _check(self) -> None:
        """Raise LeaseLost where a lease may end before an act is over that cannot be undone."""
        for lease in self._leases:
            lease.check(LEASE_MARGIN_S)

    def _job(self, ledger: Ledger) -> Job:
        row, account, options, loaded = (
            self._registered.job, self._registered.account, self._options, self._place.loaded,
        )  # fmt: skip
        settings = loaded.settings.jobs[row.name]
        lifted = {} if options.unfreeze is None else self._lift(ledger, options.unfreeze)
        return Job(
            name=row.name,
            job_id=row.id,
            account=account,
            source=open_source(
                loaded, settings.source, self._place.quirks, settings.selection, sizes=options.dry_run, job=settings
            ),
            routes=tuple(self._place.destinations.routes(self._registered, self._archives)),
            message_octets=loaded.settings.limits.message_octets,
            removal=self._removal(row),
            brake=options.brake,
            lifted=lifted,
            selection=settings.selection,
            allowance=allowance(loaded, settings.source, self._place.database, account.id, Direction.DOWN),
            by_hand=options.by_hand,
        )

    def _lift(self, ledger: Ledger, pattern: str) -> dict[int, Freeze]:
        """Lift what is frozen at mailboxes; returns why each was frozen. Raises UsageError where none is meant."""
        job, account = self._registered.job, self._registered.account
        frozen = ledger.mailboxes.frozen(account.id)
        if pattern in EVERYTHING.include:
            ledger.mailboxes.thaw(account.id)
            return {it.mailbox_id: it.why for it in frozen}
        known = ledger.mailboxes.find(RunScope(0, 0, job.id, account.id, ()))
        chosen = {key for key, it in known.items() if matches(pattern, it.mailbox.path, it.mailbox.use)}
        if not chosen:
            names = ", ".join("/".join(it.path) for it in frozen) or "none"
            raise UsageError(f'no mailbox of job "{job.name}" is called "{pattern}"; frozen are: {names}')
        ledger.mailboxes.thaw(account.id, chosen)
        return {it.mailbox_id: it.why for it in frozen if it.mailbox_id in chosen}

    def _removal(self, row: JobRow) -> RemovalPolicy | None:
        if not row.removes:
            return None
        settings, ask = self._place.loaded.settings.jobs[row.name], self._options.confirm
        confirm = None if ask is None else partial(_ask, ask, Catalog(self._place.database), row)
        confirmed = settings.confirm_removal or row.removal_confirmed
        return RemovalPolicy(
            settings.kept_for,
            confirmed,
            confirm,
            lifted=self._options.unfreeze is not None,
            beside=self._registered.beside,
        )


def kind_of_trouble(report: RunReport, first: str) -> str:
    """Returns what tells one trouble from another: not the numbers in an error line, which differ each time."""
    if report.exit_code is ExitCode.DONE:
        return ""
    waiting = f" {report.waiting_person}" if report.exit_code is ExitCode.WAITING else ""
    return f"{int(report.exit_code)}{waiting} {re.sub(r'[0-9]+', '#', first)}"


def keeps_note(loaded: Loaded, options: RunOptions) -> bool:
    """Returns whether a file tells the ledger from an older copy: a database server is no file to be put back."""
    return not options.dry_run and is_local(loaded)


def _ask(ask: Callable[[str, int], bool], catalog: Catalog, job: JobRow, messages: int) -> bool:
    """Ask a person once; a yes is remembered with the job."""
    if not ask(job.name, messages):
        return False
    catalog.confirm_removal(job.id)
    return True
