"""One run of one job, start to end: read this first.

    settle what an earlier run left in doubt → open destinations → seed the ledger from archives that know more
    → pass on between archives what was missed
    → reader thread: connect, list, record, plan, fetch ──pipe──▶ this thread: deliver, commit
    → pass on from archives to all others: the source's session is over, they may take their time
    → remove at the source (policy, a session of its own) → account for every message

Order of durable steps: the listing; octets in a destination; outcomes and receipts; `removing`; the
removal; `removed`. A crash between any two leaves work that the next run does again without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd import clock
from syncd.db.ledger import Ledger, Scope
from syncd.destinations.base import Stoppable
from syncd.engine.backfill import count_strays, seed, serve_from_archives
from syncd.engine.budget import Budget
from syncd.engine.events import ExitCode, Listener, RunFinished, RunReport, RunStarted, gravest
from syncd.engine.exit_codes import exit_code
from syncd.engine.extents import compare
from syncd.engine.job import Job, Route
from syncd.engine.pipe import Pipe
from syncd.engine.reader import Context, Reader
from syncd.engine.removal import remove_at_source
from syncd.engine.uncertain import hold_elsewhere, recover
from syncd.engine.writer import ABORTING, Writer
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
            report.exit_code = gravest([exit_code(error), *map(exit_code, self._writer.left_out)])
            line = str(error)
            report.errors = [line, *(known for known in report.errors if not known.endswith(line))]
            if report.suspended:
                report.queued = self._context.ledger.queues(self._scope)
        finally:
            self._context.room.release()
            report.seconds = clock.monotonic() - started
        listen(RunFinished(job.name, report))
        return report

    def cancel(self) -> None:
        """Stop within a moment, with all state saved. Repeatable."""
        self._context.room.cancel()
        self._context.job.source.cancel()
        for route in self._context.job.routes:
            if isinstance(route.destination, Stoppable):
                route.destination.stop()

    def _slice(self) -> None:
        job, context = self._context.job, self._context
        if not self.report.dry_run:
            recover(context, self._scope)
            self._open_destinations()
        grown = compare(context, self._writer.routes)
        hold_elsewhere(context, self._scope)
        self._scope = seed(context, self._scope)
        if grown:
            context.ledger.commit(self._scope, [], [], [], grown)
        self._pass_on([route for route in self._writer.routes if route.repeats])
        failure = self._transfer()
        self._pass_on(self._writer.routes)  # what was listed just now, for a destination that is new to the job
        if failure is not None:
            raise failure
        if job.removal is not None:
            remove_at_source(context, self._scope, job.removal, self._check_lease)

    def _pass_on(self, routes: Sequence[Route]) -> None:
        if self.report.dry_run:
            self.report.to_pass_on = count_strays(self._context.ledger, self._scope)
        else:
            serve_from_archives(self._context, self._writer, tuple(routes), self._scope)

    def _open_destinations(self) -> None:
        routes = self._context.job.routes
        for route in routes:
            if self._writer.leaves_alone(route):
                continue
            try:
                with route.lock:
                    route.destination.open()
            except SafetyStop:
                raise
            except SyncdError as error:
                self._writer.leave_out(route, error)
        if not self._writer.routes:
            raise self._writer.left_out[-1]

    def _transfer(self) -> SyncdError | None:
        """Fetch and deliver; the error of a source that failed, which does not keep archives from being read."""
        pipe = Pipe(direct=self._writer.is_direct)
        reader = Reader(self._context, self._scope, pipe, self._writer.routes)
        reader.start()
        try:
            self._writer.drain(pipe, reader)
        except ABORTING:
            self._context.job.source.cancel()
            raise
        except SyncdError as error:
            self._context.job.source.cancel()
            if not self._writer.routes:
                raise
            return error
        except BaseException:
            self._context.job.source.cancel()
            raise
        finally:
            reader.leave()
            reader.join(JOIN_SECONDS)
            if not reader.is_alive():
                self._context.room.release()  # what it asked for and did not get, or nobody took
            self._scope = reader.scope
        return None

    def _account(self) -> None:
        """Every message is final, has a time to be tried again, or waits for a person."""
        report = self.report
        report.exit_code = gravest([exit_code(error) for error in self._writer.left_out])
        ledger = self._context.ledger
        if report.dry_run or (report.unchanged and not report.uncertain and not ledger.any_problem(self._scope)):
            return
        accounts, report.queued = ledger.accounting(self._scope), ledger.queues(self._scope)
        report.waiting_time, report.waiting_person = accounts.waiting_time, accounts.waiting_person
        if report.exit_code is ExitCode.DONE and report.waiting_person:
            report.exit_code = ExitCode.WAITING
        elif report.exit_code is ExitCode.DONE and (report.waiting_time or accounts.due):
            report.exit_code = ExitCode.TEMPORARY
