"""Run jobs by hand: from names in the configuration to a queued run for each, worked off in this process.

A run is a row (`db.runs`), also here: `syncd run` queues one, or takes the one that the job has open, and works on it
by `services.slices`. No queued row is left behind, however it ends: one that nobody claimed is closed with its reason.

Jobs that share an archive share its object and its lease, one batch at a time. Jobs that read the same account take
turns; the others run side by side, as many as asked for. Jobs that read an archive come after those that fill it.
An exception that nobody expected ends the job that it came from, and no other: it is told as a bug, see `crash`.

A dry run is a run on a copy of the ledger, which makes no archive and ends where fetching would begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Final

from syncd import clock, crash
from syncd.db import restored, troubles
from syncd.db.catalog import Catalog
from syncd.db.holder import Holder
from syncd.db.queue import HERE
from syncd.db.runs import ATTEMPTS, Runs
from syncd.db.states import RunState
from syncd.engine.events import Event, Listener, Noted, RunFinished, RunReport
from syncd.engine.exit_codes import ExitCode, gravest
from syncd.errors import AccountChanged, ConfigError, LeaseHeld, SyncdError
from syncd.services.open_files import allow_open_files
from syncd.services.registry import refilled
from syncd.services.signin import try_out
from syncd.services.slices import BUG, RunOptions, failed, keeps_note, kind_of_trouble, state_of, work_on
from syncd.services.wiring import copied_ledger, listed, open_ledger, open_source, owner
from syncd.services.workplace import Common, Running, Workplace
from syncd.settings.load import Loaded
from syncd.settings.staged import stages

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.rows import AccountRow
    from syncd.db.runs import RunRow
    from syncd.services.registry import Registered

WATCH_S: Final = 1.0  # between two looks at what people ask of the runs under way
LONGEST_WAIT_S: Final = 60.0  # a person waits for a run that may begin within a minute, not longer


class RunsByHand:
    """Runs the jobs `names` (all enabled ones if there are none). `cancel` may come from a signal handler."""

    def __init__(self, loaded: Loaded, names: Sequence[str], options: RunOptions, listen: Listener) -> None:
        self._loaded = loaded
        self._names = chosen_jobs(loaded, names)
        self._options = options
        self._listen = listen
        self._running = Running()
        self._troubles: dict[str, troubles.Trouble] = {}  # by job: as its run ended, if only to fail once more
        self._database: Database | None = None  # while it is open
        self._over = Flag()

    def execute(self) -> list[RunReport]:
        """Run them all; in the order of the names, one report for each. Raises only what concerns every job."""
        loaded, options = self._loaded, self._options
        allow_open_files(loaded, self._names, options.parallel)
        refill = refilled(loaded, self._names) if options.refill else frozenset[str]()
        ledger = copied_ledger(loaded, self._names) if options.dry_run else open_ledger(loaded)
        reports: dict[str, RunReport] = {}
        try:
            with (
                ledger as database,
                Common(database, self._running) as common,
                Workplace(loaded, common, dry_run=options.dry_run, refill=refill) as place,
            ):
                self._database = database
                Thread(target=self._watch, args=(database,), name="watch", daemon=True).start()
                self._recognise_older(database)
                place.registry.retire()
                with ThreadPoolExecutor(options.parallel, thread_name_prefix="job") as pool:
                    run = partial(self._run_in_turn, place)
                    for stage in self._stages():
                        reports.update((report.job, report) for done in pool.map(run, stage) for report in done)
        except Exception as error:
            if len(reports) < len(self._names):
                raise
            self._add_bug(reports[self._names[-1]], error)  # in giving back what the jobs shared
        finally:
            self._over.set()
            self._database = None
        return [reports[name] for name in self._names]

    def cancel(self) -> None:
        """Stop every run within a moment. Repeatable."""
        self._loaded.secrets.cancel()
        self._running.cancel()
        if self._database is not None and self._running.rows:
            Thread(target=self._note_stop, args=(self._database,), name="stopping", daemon=True).start()

    def _watch(self, database: Database) -> None:
        """End runs that somebody cancels from elsewhere (`syncd cancel`)."""
        while not self._over.wait(WATCH_S):
            rows = dict(self._running.rows)
            if not rows:
                continue
            with suppress(SyncdError):  # a database that is away: the runs themselves tell of it
                for run_id in Runs(database).asked_to_stop(rows):
                    rows[run_id].cancel()

    def _note_stop(self, database: Database) -> None:
        """Note in the rows of runs that they were asked to stop. They may not come to say so themselves."""
        with suppress(Exception):  # they most likely do, and say how far they came
            Runs(database).request_stop(tuple(self._running.rows))

    def _recognise_older(self, database: Database) -> None:
        directory = self._loaded.settings.state_directory
        if keeps_note(self._loaded, self._options) and restored.recognise(database, directory):
            text = f"{restored.REASON}: deliveries that may have been made since wait for you, see syncd errors"
            for name in self._names:
                self._listen(Noted(name, text))

    def _stages(self) -> Iterator[list[list[str]]]:
        """Yields stages, each to be begun when the one before it is done: lists of jobs that take turns."""
        jobs = self._loaded.settings.jobs
        for stage in stages(jobs, self._names):
            turns: dict[str, list[str]] = {}
            for name in stage:
                turns.setdefault(jobs[name].source, []).append(name)
            yield list(turns.values())

    def _run_in_turn(self, place: Workplace, names: Sequence[str]) -> list[RunReport]:
        return [self._run(place, name) for name in names]

    def _run(self, place: Workplace, name: str) -> RunReport:
        try:
            self._running.check()
            if self._loaded.settings.jobs[name].source in place.destinations.unmade:
                report = RunReport(name, dry_run=True)  # by a run of another job: there is nothing in it yet
            else:
                return _ByHand(place, name, self._options, partial(self._tell, place)).run()
        except SyncdError as error:
            report = failed(name, error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (the others run on)
            report = RunReport(name)
            self._add_bug(report, error)
        try:
            self._tell(place, RunFinished(name, report))
        except Exception as error:  # noqa: BLE001 (the same)
            self._add_bug(report, error)
        return report

    def _tell(self, place: Workplace, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._note_trouble(place, event.report)
        self._listen(event)

    def _note_trouble(self, place: Workplace, report: RunReport) -> None:
        """Keep with the job what is wrong with it, and say in its report whether that is new."""
        stopped = self._running.cancelled or report.exit_code in {ExitCode.HELD, ExitCode.INTERRUPTED}
        if self._options.dry_run or stopped:
            return
        with suppress(Exception):  # of a ledger that fails the report tells
            job = Catalog(place.database, owner(self._loaded)).find_job(report.job)
            if job is not None and report.job not in self._troubles:
                first = report.errors[0] if report.errors else ""
                kind = kind_of_trouble(report, first)
                self._troubles[report.job] = troubles.note(place.database, job.id, kind, first)
        noted = self._troubles.get(report.job)
        if noted is not None:
            report.news, report.trouble_since = noted.news.value, noted.since

    def _add_bug(self, report: RunReport, error: BaseException) -> None:
        where = crash.keep(error, self._loaded.settings.state_directory, f'job "{report.job}"')
        line = str(error) if isinstance(error, SyncdError) else crash.line(error, where)
        report.errors.append(line)
        report.exit_code = gravest([report.exit_code, ExitCode.FAILED])


class _ByHand:
    """One job, run by hand."""

    def __init__(self, place: Workplace, name: str, options: RunOptions, listen: Listener) -> None:
        self._place = place
        self._name = name
        self._options = options
        self._listen = listen
        self._runs = Runs(place.database)

    def run(self) -> RunReport:
        """Register the job, queue a run of it, work on that. Raises SyncdError, which is in the run's row by then."""
        try:
            registered = self._register()
        except SyncdError as error:
            self._record(failed(self._name, error))
            raise
        except BaseException:
            self._record(RunReport(self._name, exit_code=ExitCode.FAILED, errors=[BUG]))
            raise
        for _ in range(ATTEMPTS):
            run = self._open_row(registered.job.id)
            try:
                report = self._wait(run) or work_on(self._place, run.id, registered, self._options, self._listen)
            except SyncdError as error:
                report = failed(self._name, error)
                self._close(run, report)
                raise
            except BaseException:
                with suppress(Exception):  # it may be the ledger that fails; the first exception is told
                    self._runs.close(run.id, RunState.FAILED, ExitCode.FAILED, BUG)
                raise
            if report is not None:
                return report
        raise LeaseHeld(f'job "{self._name}" is being worked on by another process')

    def _register(self) -> Registered:
        registry = self._place.registry
        return registry.job(self._name, self._account())

    def _account(self) -> AccountRow:
        """Register the source. It is bound to another host, port or username only when one can sign in there."""
        place, source = self._place, self._place.loaded.settings.jobs[self._name].source
        try:
            return place.registry.account(source)
        except AccountChanged:
            if not self._options.rebind:
                raise
        opened = open_source(place.loaded, source, place.quirks)
        with place.running.during(opened):
            try_out(opened)
        return place.registry.account(source, rebind=True)

    def _open_row(self, job_id: int) -> RunRow:
        """Returns the one run of the job that is open: queued now, or by whoever died or failed before us."""
        run = self._runs.ensure_open(job_id, HERE)
        if run is not None:
            return run
        raise LeaseHeld(f'job "{self._name}" is being run by other processes, one after another')

    def _wait(self, run: RunRow) -> RunReport | None:
        """Wait until the run may begin. Returns a report, and the run is closed, where that takes too long."""
        if run.state is not RunState.QUEUED or run.not_before is None or self._options.dry_run:
            return None
        wait = (run.not_before - clock.now()).total_seconds()
        when = f"{run.not_before.astimezone():%Y-%m-%d %H:%M:%S}"
        if wait > LONGEST_WAIT_S:
            text = f"this run may not begin before {when}: run it again then"
            report = RunReport(self._name, run.id, exit_code=ExitCode.TEMPORARY, errors=[text])
            self._close(run, report)
            self._listen(RunFinished(self._name, report))
            return report
        if wait > 0:
            self._listen(Noted(self._name, f"this run may not begin before {when}: waiting for it"))
        while (left := (run.not_before - clock.now()).total_seconds()) > 0:
            self._place.running.pause(left)
        return None

    def _close(self, run: RunRow, report: RunReport) -> bool:
        """Close the run, unless somebody has claimed it."""
        return self._runs.close(run.id, state_of(report.exit_code), report.exit_code, report.errors[0])

    def _record(self, report: RunReport) -> None:
        """Have history and status tell of what ended a run before the job was registered."""
        with suppress(Exception):  # the error that is to be recorded is told, whatever becomes of its record
            self._record_closed(report)

    def _record_closed(self, report: RunReport) -> None:
        run = self._open_row(self._registered_before() or self._register_source())
        if self._close(run, report):
            return
        claim = self._runs.claim(run.id, Holder.me(f'run of job "{self._name}"'))  # of a process that died
        if claim is not None:
            code = report.exit_code
            self._runs.finish(claim, state_of(code), code, claim.counts, report.errors[0])

    def _registered_before(self) -> int | None:
        job = Catalog(self._place.database, owner(self._place.loaded)).find_job(self._name)
        return None if job is None else job.id

    def _register_source(self) -> int:
        """Register a job that has never run with its source alone, for its history. Raises SyncdError."""
        loaded, registry = self._place.loaded, self._place.registry
        account = registry.account(loaded.settings.jobs[self._name].source)
        return Catalog(self._place.database, owner(loaded)).job(self._name, account.id, [], removes=False).id


def chosen_jobs(loaded: Loaded, names: Sequence[str]) -> list[str]:
    """Returns the jobs that are meant: each of the names once, or all enabled jobs. Raises ConfigError."""
    jobs = loaded.settings.jobs
    unknown = [name for name in names if name not in jobs]
    if unknown:
        raise ConfigError(*(f"there is no job {name!r}; the configuration has {listed(jobs)}" for name in unknown))
    chosen = list(dict.fromkeys(names)) or [name for name, job in jobs.items() if job.enabled]
    if not chosen:
        raise ConfigError("there is nothing to do: the configuration has no enabled job; add one under [jobs.NAME]")
    return chosen
