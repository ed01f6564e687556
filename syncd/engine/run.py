"""One run of one job, start to end: read this first.

    open destinations → seed the ledger from archives that know more → pass on from archives what was missed
    → reader thread: connect, list, record, plan, fetch ──pipe──▶ this thread: deliver, commit
    → pass on what the listing showed to be missing elsewhere
    → remove at the source (policy, a session of its own) → account for every message

Order of durable steps: the listing; octets in a destination; outcomes and receipts; `removing`; the
removal; `removed`. A crash between any two leaves work that the next run does again without harm.
"""

from __future__ import annotations

from collections.abc import Callable

from syncd import clock
from syncd.db.ledger import Ledger, Scope
from syncd.engine.budget import Budget
from syncd.engine.events import ExitCode, Listener, RunFinished, RunReport, RunStarted
from syncd.engine.job import Job
from syncd.engine.pipe import Pipe
from syncd.engine.reader import Context, Reader
from syncd.engine.recovery import count_strays, seed, serve_from_archives
from syncd.engine.removal import remove_at_source
from syncd.engine.retry import exit_code
from syncd.engine.writer import Writer
from syncd.errors import SafetyStop, SyncdError

JOIN_SECONDS = 0.5  # a reader stuck in a name look-up cannot be woken; it holds nothing that matters


class Run:
    """One run. `execute` in the thread that wants it done; `cancel` from any thread or signal handler."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self, job: Job, scope: Scope, ledger: Ledger, budget: Budget, listen: Listener, check_lease: Callable[[], None]
    ) -> None:
        self.report = RunReport(job.name)
        self._scope = scope
        self._check_lease = check_lease
        self._context = Context(job, ledger, budget.room(), listen, self.report)
        self._writer = Writer(self._context, check_lease)

    def execute(self, *, run_id: int = 0, dry_run: bool = False) -> RunReport:
        """Do it. Every SyncdError ends in the report (its first error and exit code), never in a traceback.

        A dry run ends when it is known what to fetch and to remove. What it learns is written to the ledger all
        the same: it is to be given a copy.
        """
        job, report, listen = self._context.job, self.report, self._context.listen
        started = clock.monotonic()
        report.run_id, report.dry_run = 0 if dry_run else run_id, dry_run
        listen(RunStarted(job.name, report.run_id))
        try:
            self._slice()
            self._account()
        except SyncdError as error:
            report.exit_code = exit_code(error)
            line = str(error)
            report.errors = [line, *(known for known in report.errors if not known.endswith(line))]
        finally:
            self._context.room.release()
            report.seconds = clock.monotonic() - started
        listen(RunFinished(job.name, report))
        return report

    def cancel(self) -> None:
        """Stop within a moment, with all state saved. Repeatable."""
        self._context.room.cancel()
        self._context.job.source.cancel()

    def _slice(self) -> None:
        job, context = self._context.job, self._context
        if not self.report.dry_run:
            self._open_destinations()
        self._scope = seed(context, self._scope)
        self._pass_on()
        self._transfer()
        self._pass_on()  # what was listed just now, for a destination that is new to the job
        if job.removal is not None:
            remove_at_source(context, self._scope, job.removal, self._check_lease)

    def _pass_on(self) -> None:
        if self.report.dry_run:
            self.report.to_pass_on = count_strays(self._context.ledger, self._scope)
        else:
            serve_from_archives(self._context, self._writer, self._scope)

    def _open_destinations(self) -> None:
        for route in self._context.job.routes:
            try:
                with route.lock:
                    route.destination.open()
            except SafetyStop:
                raise
            except SyncdError as error:
                self._writer.leave_out(route, error)
        if not self._writer.routes:
            raise self._writer.left_out[-1]

    def _transfer(self) -> None:
        pipe = Pipe()
        reader = Reader(self._context, self._scope, pipe)
        reader.start()
        try:
            self._writer.drain(pipe, reader)
        except BaseException:
            self._context.job.source.cancel()
            raise
        finally:
            reader.join(JOIN_SECONDS)
            self._scope = reader.scope

    def _account(self) -> None:
        """Every message is final, has a time to be tried again, or waits for a person."""
        report = self.report
        if self._writer.left_out:
            report.exit_code = max((exit_code(error) for error in self._writer.left_out), default=ExitCode.TEMPORARY)
        if report.dry_run or report.unchanged:
            return
        accounts = self._context.ledger.accounting(self._scope)
        report.waiting_time, report.waiting_person = accounts.waiting_time, accounts.waiting_person
        if report.exit_code is ExitCode.DONE and report.waiting_person:
            report.exit_code = ExitCode.WAITING
        elif report.exit_code is ExitCode.DONE and report.waiting_time:
            report.exit_code = ExitCode.TEMPORARY
