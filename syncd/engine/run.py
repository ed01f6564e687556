"""One run of one job, start to end: read this first.

    record as uncertain what an earlier run left `sending` → look at archives, ask servers that can be asked for it
    → compare archives with what they had before, seed the ledger from archives that know more
    → backfill between archives
    → reader thread                                                      this thread
      connect                                                            sign in to servers that surely get something
      list mailboxes                                                     take what the reader tells into the report
      for each mailbox that may have changed, one after the other:
        open, list, judge, record, plan, fetch  ──pipe, in batches──▶    deliver, commit with progress
      QUIT when all of it is durable
    → backfill from archives to all others: the source's session is over, they may take their time
    → remove at the source, mailbox by mailbox (policy, a session of its own) → account for every message

A mailbox that is as it was planned before is skipped without a command. An error of one mailbox is noted, and the next
mailbox follows. Order of durable steps: the listing of a mailbox; octets in a destination; outcomes and receipts;
`removing`; the removal; `removed`. A crash between any two leaves work that the next run does again without harm.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from syncd import clock
from syncd.db.ledger import Ledger
from syncd.db.rows import RunScope
from syncd.destinations.base import Filing, Noting, Stoppable
from syncd.engine.backfill import backfill_from_archives, count_backfill, seed
from syncd.engine.budget import Budget
from syncd.engine.context import Context, Slice
from syncd.engine.events import NO_COUNTS, Listener, RunFinished, RunReport, RunStarted
from syncd.engine.exit_codes import ExitCode, exit_code, gravest
from syncd.engine.extents import compare
from syncd.engine.job import Job, Route
from syncd.engine.pipe import Pipe
from syncd.engine.progress import Done, Recorder
from syncd.engine.reader import Reader
from syncd.engine.removal import remove_at_source
from syncd.engine.routes import remember
from syncd.engine.uncertain import hold_predecessors, recover
from syncd.engine.writer import Writer
from syncd.errors import Cancelled, LeaseHeld, Scope, SyncdError, Throttled

NO_FAILURE: Final = frozenset({ExitCode.DONE, ExitCode.WAITING})
BUSY_S: Final = (5.0, 15.0)  # until a run is tried again that needs an archive which another process writes to
JOIN_SECONDS = 0.5  # a reader stuck in a name look-up cannot be woken; it keeps nothing that matters


class Run:
    """One run. `execute` in the thread that wants it done; `cancel` from any thread or signal handler."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self,
        job: Job,
        scope: RunScope,
        ledger: Ledger,
        budget: Budget,
        listen: Listener,
        check_lease: Callable[[], None],
        slice_: Slice | None = None,
    ) -> None:
        """`slice_` says when to end before the work does; by default never."""
        self.report = RunReport(job.name)
        self._check_lease = check_lease
        self._context = Context(job, scope, ledger, budget.room(), listen, self.report, slice_ or Slice())

    def execute(self, *, dry_run: bool = False, before: Mapping[str, int] = NO_COUNTS) -> RunReport:
        """Do it. Every SyncdError ends in the report (its first error and exit code), never in a traceback.

        Another exception is a bug, of ours or of a destination's, and is raised. It leaves nothing behind either: no
        lock, no room, no open body, no session; what was under way is found by the next run as after a crash.

        A dry run ends when it is known what to fetch and to remove. What it learns is written to the ledger anyway:
        give it a copy. `before` has the counts of earlier slices, which are added to the progress that is written.

        A report with `more` is not the end: the run is to be queued again, from `not_before` on. What is due by then
        is no failure; another exit code than DONE and WAITING tells of something else that failed in this slice.
        """
        context, report = self._context, self.report
        started = clock.monotonic()
        report.run_id, report.dry_run = 0 if dry_run else context.scope.run_id, dry_run
        recorder = Recorder(context, before)
        context.room.begin()
        try:
            context.tell(RunStarted(context.job.name, report.run_id))
            self._work(recorder, before)
            self._account(recorder)
        except SyncdError as error:
            recorder.take_in()
            self._end(recorder, error)
        finally:
            self._keep_pause()
            context.room.end()
            report.seconds = clock.monotonic() - started
        recorder.finish()
        context.listen(RunFinished(context.job.name, report))
        return report

    def cancel(self) -> None:
        """Stop within a moment, with all state saved. Repeatable."""
        self._context.room.cancel()
        self._context.job.source.cancel()
        for route in self._context.job.routes:
            if route.probe is not None:
                route.probe.stop()
            for connection in route.connections:
                if isinstance(connection.destination, Stoppable):
                    connection.destination.stop()

    def _work(self, recorder: Recorder, before: Mapping[str, int]) -> None:
        context, job = self._context, self._context.job
        if before.get("removals_put_off") and job.removal is not None:
            for found in ("mailboxes", "listed", "listed_octets"):
                setattr(self.report, found, before.get(found, 0))
            remove_at_source(context, recorder, job.removal, self._check_lease)  # the slice before has done the rest
            return
        writer = Writer(context, recorder, self._check_lease)
        if not self.report.dry_run:
            recover(context)
            self._look_at_destinations(writer)
        else:
            self._look_at_mailboxes()
        grown = compare(context, tuple(writer.routes.in_use), writer.routes.ready)
        hold_predecessors(context)
        seed(context, writer.routes.ready)
        writer.routes.check()
        if grown:
            recorder.commit([], [], [], Done(), grown=grown)
        recorder.idle()
        self._backfill(writer, writer.routes.repeat_safe)
        failure = self._transfer(writer)
        recorder.take_in()
        self._backfill(
            writer, writer.routes.in_use
        )  # what was listed just now, for a destination that is new to the job
        if not self.report.dry_run:
            writer.finish()
        if failure is not None:
            raise failure
        if job.removal is not None:
            remove_at_source(context, recorder, job.removal, self._check_lease)

    def _backfill(self, writer: Writer, routes: Sequence[Route]) -> None:
        if self.report.dry_run:
            self.report.to_backfill = count_backfill(self._context)
        else:
            backfill_from_archives(self._context, writer, tuple(routes))

    def _look_at_destinations(self, writer: Writer) -> None:
        for route in self._context.job.routes:
            if not writer.routes.passes_over(route):
                writer.routes.look_at(route)
        writer.ask()
        writer.routes.check()

    def _look_at_mailboxes(self) -> None:
        """Sign in where mail is put into mailboxes: which mailbox becomes which may hang on what is there."""
        for route in self._context.job.routes:
            if route.asked and isinstance(route.destination, Filing):
                try:
                    route.destination.open()
                    remember(self._context, route)
                    for line in route.destination.notes() if isinstance(route.destination, Noting) else ():
                        self._context.note(f"{route.name}: {line}")
                except Cancelled:
                    raise
                except SyncdError as error:
                    self._context.note(f"{route.name}: {error}; what its mailboxes are for is not known")
                    remember(self._context, route, away=True)

    def _transfer(self, writer: Writer) -> SyncdError | None:
        """Fetch and deliver; returns the error of a source that failed: archives are read all the more then."""
        pipe = Pipe(direct=writer.is_direct, takers=writer.threads)
        reader = Reader(self._context, pipe, writer.routes.in_use, writer.routes.known, dry_run=self.report.dry_run)
        reader.waits = writer.routes.begin_opening()
        reader.start()
        try:
            writer.drain(pipe)
        except SyncdError as error:
            self._context.job.source.cancel()
            if error.scope is Scope.RUN or not writer.routes.in_use:
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
                self.report.reader_cpu_s = reader.cpu_s
        return None

    def _end(self, recorder: Recorder, error: SyncdError) -> None:
        """Take in what ended the work. Being asked for patience is no failure for a run that may be queued again."""
        context, report = self._context, self.report
        until = _until(error)
        if until is not None and not context.slice.patient and not _failed(recorder):
            context.note(str(error))
            self._put_off(recorder, until)
            report.exit_code = gravest(recorder.codes)
        else:
            report.more, report.not_before = False, None
            report.exit_code = gravest([exit_code(error), *recorder.codes])
            line = str(error)
            report.errors = [line, *(known for known in report.errors if not known.endswith(line))]
        if report.suspended:
            report.queued = context.ledger.queues(context.scope)

    def _put_off(self, recorder: Recorder, until: datetime) -> None:
        """Leave the rest to a slice that begins then, and not before the server lets us sign in again."""
        context, now = self._context, clock.now()
        context.leave_more(until if until > now else None)
        recorder.take_in()

    def _keep_pause(self) -> None:
        """Let the next slice begin when the server lets us sign in again, not earlier."""
        report, left_s = self.report, self._context.pause.left_s
        if report.more and left_s:
            earliest = clock.now() + timedelta(seconds=left_s)
            report.not_before = max(report.not_before or earliest, earliest)

    def _account(self, recorder: Recorder) -> None:
        """Every message is final, has a time to be tried again, or waits for a person."""
        report, ledger, scope = self.report, self._context.ledger, self._context.scope
        recorder.take_in()
        report.exit_code = gravest(recorder.codes)
        if report.dry_run or (report.unchanged and not report.uncertain and not ledger.any_problem(scope)):
            return
        accounts, report.queued = ledger.accounting(scope), ledger.queues(scope)
        report.waiting_time, report.waiting_person = accounts.waiting_time, accounts.waiting_person
        if report.suspended and accounts.due and not self._context.slice.patient and not _failed(recorder):
            self._put_off(recorder, min(report.suspended.values()))
            report.poll_from = clock.now() + timedelta(seconds=self._context.pause.left_s)
        if report.exit_code is ExitCode.DONE and report.waiting_person:
            report.exit_code = ExitCode.WAITING
        elif report.exit_code is ExitCode.DONE and not report.more and (report.waiting_time or accounts.due):
            report.exit_code = ExitCode.TEMPORARY


def _until(error: SyncdError) -> datetime | None:
    """Returns when to try again after an error that only asks for patience; None for any other."""
    if isinstance(error, LeaseHeld):  # by chance, so that those that wait for one archive do not all come back
        return clock.now() + timedelta(seconds=random.uniform(*BUSY_S))  # noqa: S311 (no secret)
    return error.until if isinstance(error, Throttled) else None


def _failed(recorder: Recorder) -> bool:
    return not NO_FAILURE.issuperset(recorder.codes)
