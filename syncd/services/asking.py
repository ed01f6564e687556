"""Run jobs by asking the service: a run is queued, first in line, and its progress is read from its row.

A run by hand is worked on by a running service wherever that serves the job's site; else `services.runs` works on it in
the process of the command. Either way it is the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from threading import Event as Flag
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.db import control, definitions, workers
from syncd.db.catalog import Catalog
from syncd.db.queue import HAND
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.engine.events import (
    DELIVERED_TO,
    Committed,
    Listener,
    Noted,
    PhaseBegan,
    Planned,
    RunFinished,
    RunReport,
    RunStarted,
)
from syncd.engine.exit_codes import ExitCode
from syncd.errors import LeaseHeld, LedgerError, StorageError, SyncdError
from syncd.services.documents import Documents
from syncd.services.wiring import owner

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.runs import RunRow
    from syncd.settings.loaded import Loaded

LOOK_S: Final = 0.5
GONE_S: Final = 30.0  # a service that is not heard of for so long, while our run waits for it, has ended
_INTEGERS: Final = frozenset(it.name for it in fields(RunReport) if it.type == "int") - {"run_id"}
_PREFIX: Final = DELIVERED_TO.format("")

Ring = Callable[[int, str], None]  # a run's id and its site


def served(loaded: Loaded, database: Database, jobs: Sequence[str]) -> bool:
    """Returns whether a running service has the definitions of these jobs, and workers for their sites."""
    sites = _sites(database)
    if not sites:
        return False
    known = definitions.digests(database, owner(loaded))
    return all(job in known and _site(loaded, job) in sites for job in jobs)


def _sites(database: Database) -> set[str]:
    """Returns the sites that living workers serve."""
    return {site for worker in workers.living(workers.known(database), "worker") for site in worker.sites}


def _site(loaded: Loaded, job: str) -> str:
    return loaded.settings.site_of(loaded.settings.jobs[job])


def ask(loaded: Loaded, database: Database, job: str, ring: Ring) -> int:
    """Returns the run of a job: the one that is open, or one that is queued now, first in line. Raises LeaseHeld."""
    runs, row = Runs(database), Catalog(database, owner(loaded)).find_job(job)
    if row is None:
        raise LeaseHeld(f'job "{job}" is not known to the service any more: syncd apply')
    run = runs.ensure_open(row.id, HAND)
    if run is None:
        raise LeaseHeld(f'job "{job}" is being run by other processes, one after another')
    if run.state is RunState.QUEUED:
        runs.urge(run.id, HAND)
        ring(run.id, _site(loaded, job))
    return run.id


class RunsByService:
    """Asks the service to run jobs, and follows them. `cancel` may come from a signal handler."""

    def __init__(
        self, loaded: Loaded, database: Database, jobs: Sequence[str], listen: Listener, ring: Ring = lambda *_: None
    ) -> None:
        self._loaded = loaded
        self._database = database
        self._jobs = list(dict.fromkeys(jobs))
        self._listen = listen
        self._ring = ring
        self._runs = Runs(database)
        self._cancelled = Flag()

    def execute(self) -> list[RunReport]:
        """Ask for all of them at once; returns one report for each, in the order of the names.

        Raises LedgerError, StorageError where the database does not take the question, or is away for GONE_S after it.
        """
        followed = {job: _Followed(self._database, job, self._asked(job), self._listen) for job in self._jobs}
        told, read_at = False, clock.monotonic()
        while not all(run.over for run in followed.values()):
            if self._cancelled.is_set() and not told:
                told = True
                for run in followed.values():
                    run.cancel()
            try:
                self._look(followed)
                read_at = clock.monotonic()
            except (LedgerError, StorageError):
                if clock.monotonic() - read_at > GONE_S:
                    raise
            self._cancelled.wait(LOOK_S) if not told else clock.sleep(LOOK_S)
        return [followed[job].report for job in self._jobs]

    def _look(self, followed: Mapping[str, _Followed]) -> None:
        for run in followed.values():
            run.look()
        sites = _sites(self._database)
        for job, run in followed.items():
            run.note_service(served=_site(self._loaded, job) in sites)

    def cancel(self) -> None:
        """Cancel the runs that were asked for. Repeatable."""
        self._cancelled.set()

    def _asked(self, job: str) -> int:
        """Returns the run of a job: the one that is open, or one that is queued now."""
        run_id = ask(self._loaded, self._database, job, self._ring)
        self._note_difference(job)
        return run_id

    def _note_difference(self, job: str) -> None:
        applied = definitions.digests(self._database, owner(self._loaded)).get(job)
        if applied != Documents(self._loaded).digest(job):
            self._listen(Noted(job, "the configuration has changed since it was applied: the service runs this job as"
                                    " it was; to change that: syncd apply"))  # fmt: skip


class _Followed:
    """A run that somebody else works on, followed by its row."""

    def __init__(self, database: Database, job: str, run_id: int, listen: Listener) -> None:
        self.report = RunReport(job, run_id)
        self.over = False
        self._database = database
        self._runs = Runs(database)
        self._listen = listen
        self._started = False
        self._phase = ""
        self._planned = (0, 0)
        self._began = clock.monotonic()
        self._alone_since: float | None = None

    def look(self) -> None:
        """Read the row, and tell what is new in it."""
        if self.over:
            return
        run = self._runs.find(self.report.run_id)
        if run is None:
            return
        if run.started_at is not None and not self._started:  # a short run may have ended before it is looked at
            self._started = True
            self._listen(RunStarted(run.job, run.id))
        self._take_over(run)
        if run.phase and run.phase != self._phase:
            self._phase = run.phase
            self._listen(PhaseBegan(run.job, run.phase))
        self._tell_progress(run)
        if run.finished_at is not None:
            self._end(run)

    def cancel(self) -> None:
        """Ask for its end."""
        if not self.over:
            with suppress(SyncdError):
                control.cancel(self._database, self.report.run_id)

    def note_service(self, *, served: bool) -> None:
        """Note whether somebody is there to work on it: where nobody is for GONE_S, it is not waited for any longer."""
        if served:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or clock.monotonic()
        if not self.over and clock.monotonic() - self._alone_since > GONE_S:
            self.over = True
            self.report.exit_code = ExitCode.TEMPORARY
            self.report.errors = ["the service has ended; the run is queued, and begins when a worker is started again"]
            self._listen(RunFinished(self.report.job, self.report))

    def _take_over(self, run: RunRow) -> None:
        report = self.report
        for name, number in run.counts.items():
            if name in _INTEGERS:
                setattr(report, name, number)
            elif name.startswith(_PREFIX):
                report.delivered[name.removeprefix(_PREFIX)] = number

    def _tell_progress(self, run: RunRow) -> None:
        report = self.report
        plan = (report.to_fetch, report.to_fetch_octets)
        if plan != self._planned:
            self._planned = plan
            self._listen(Planned(run.job, report.listed, report.new, *plan, report.listed_octets))
        if report.fetched:
            self._listen(Committed(run.job, report.fetched, report.fetched_octets))

    def _end(self, run: RunRow) -> None:
        self.over = True
        report = self.report
        report.exit_code = ExitCode(run.exit_code or 0)
        report.errors = [run.message] if run.message else []
        report.seconds = clock.monotonic() - self._began
        self._listen(RunFinished(run.job, report))
