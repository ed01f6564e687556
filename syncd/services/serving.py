"""Work on runs as a worker of the service does: told a run's number, claim it, work on one slice, give it back.

    claim      `db.queue`: the run, the leases of its job and account, a connection that the host's limit leaves
    settings   the document that the run began with (`documents`); passwords are read again for each run
    archives   taken while they are used; one that another process writes to puts the run off
    slice      the engine, until the work is done, the slice is over, or the service stops
    end        closed with its counts, or queued again: more is left, or a server asked for patience

`Workshop` is what one process has for it. Its `watch` is called each second: it hands on what people ask of the runs
under way (cancel, pause) and the end of each slice. A run is stopped softly first: it stops asking for more.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from syncd import clock, crash
from syncd.db import definitions, troubles
from syncd.db.catalog import Catalog
from syncd.db.leases import account_resource
from syncd.db.queue import Claimed, End, Queue, Request
from syncd.db.states import RunState
from syncd.engine.context import Slice
from syncd.engine.events import Listener, RunFinished, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import ConfigError, Conflict, LeaseHeld, LeaseLost, LedgerError, StorageError, SyncdError
from syncd.services.documents import settings_of
from syncd.services.indexes import indexes_in
from syncd.services.registry import Registry
from syncd.services.slices import RunOptions, Work, failed, kind_of_trouble, state_of
from syncd.services.wiring import owner
from syncd.services.workplace import Workplace
from syncd.settings.quiet import quiet_from, quiet_until

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.db.rows import Paused
    from syncd.services.indexes import Indexes
    from syncd.services.registry import Registered
    from syncd.services.workplace import Common
    from syncd.settings.loaded import Loaded, LoadedService

log = logging.getLogger(__name__)

SLICE_S: Final = 480.0  # then others have their turn, and RabbitMQ would ask after 1,800 s
KEPT_DOCUMENTS: Final = 500  # settings of jobs that were worked on lately: about 20 KiB each
BUG: Final = "stopped by a bug in syncd"
PATIENCE_S: Final = 300.0  # for a database that is away where the end of a slice is to be written
RETRY_S: Final = 2.0  # between two attempts at it


T = TypeVar("T")
About = Callable[[int, str, str], AbstractContextManager[object]]  # run, job, source → what surrounds the work on it


def _nothing(*_: object) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of working on a run. `closed` is False where it is queued again."""

    report: RunReport
    closed: bool
    paused: Paused | None = None  # why its job is paused from now on


@dataclass(slots=True)
class _Known:
    """A document as settings, and the job as the catalog had it when it was worked on last."""

    loaded: Loaded
    registry: Registry
    registered: Registered | None = None


@dataclass(slots=True)
class _UnderWay:
    """A run that a thread of ours works on."""

    claimed: Claimed
    stopping: threading.Event = field(default_factory=threading.Event)  # ends the slice softly
    work: Work | None = None  # once the engine has it
    request: Request | None = None
    cut: bool = False  # by a stop of the service
    begun: float = field(default_factory=clock.monotonic)


def _quiet_until(loaded: Loaded, job: str) -> datetime | None:
    """Returns the end of a job's quiet hours; None outside of them."""
    return quiet_until(*_quiet_hours(loaded, job), clock.now())


def _quiet_from(loaded: Loaded, job: str) -> datetime | None:
    """Returns when a job's quiet hours begin next; None where it has none."""
    return quiet_from(*_quiet_hours(loaded, job), clock.now())


def _quiet_hours(loaded: Loaded, job: str) -> tuple[str, str]:
    settings = loaded.settings.jobs[job]
    return str(settings.quiet_hours or ""), settings.timezone or loaded.settings.timezone


def _done(counts: Mapping[str, int]) -> Iterator[int]:
    """Yields what a run did, over all its slices."""
    yield from (counts.get(name, 0) for name in ("fetched", "backfilled", "uncertain", "recognised", "removed"))


class Workshop:
    """Works on the runs that it is told of. Used from any thread."""

    def __init__(
        self,
        process: LoadedService,
        common: Common,
        limits: Mapping[str, int],
        listen: Listener,
        slice_s: float = SLICE_S,
        *,
        about: About = _nothing,
        stored: Callable[[Mapping[Path, Indexes]], None] = lambda _: None,
    ) -> None:
        """`process`: the settings of this process; `limits`: host → connections open to it at most, of all workers.

        `about` is told the run, the job and its source, and surrounds the work on them: log lines name them.
        `stored` is told of archives into which a slice has brought mail, and where their search indexes are.
        """
        self.queue = Queue(common.database)
        self._process = process
        self._common = common
        self._limits = limits
        self._listen = listen
        self._slice_s = slice_s
        self._about = about
        self._stored = stored
        self._documents: OrderedDict[bytes, _Known] = OrderedDict()
        self._under_way: dict[int, _UnderWay] = {}
        self._begun = 0  # calls of `work`
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._idle = threading.Condition(self._lock)

    # --- work ------------------------------------------------------------------------------------------

    def work(self, run_id: int) -> Ended | None:
        """Work on one slice of a run. Returns what became of it; None where it was not ours to work on.

        Every SyncdError after the claim ends in the run's row, and so does a bug, which is also kept as a crash file.
        An end that the database does not take is tried again for PATIENCE_S. Then it raises LedgerError or
        StorageError, and the run is taken over after its lease ends.
        """
        with self._lock:
            if self._stopping.is_set() or run_id in self._under_way:  # one that we lost is left by its thread first
                return None
            self._begun += 1  # from before the claim: a process that stops waits for it
        try:
            return self._claim_and_work(run_id)
        finally:
            with self._idle:
                self._begun -= 1
                self._idle.notify_all()

    def _claim_and_work(self, run_id: int) -> Ended | None:
        claimed = self.queue.claim(run_id, self._limits)
        if claimed is None:
            return None
        here = _UnderWay(claimed)
        with self._lock:
            self._under_way[run_id] = here
        if self._stopping.is_set():
            here.stopping.set()
        try:
            return self._work(here)
        finally:
            claimed.leases.drop()  # what could not be written is not kept from those that take it over
            with self._lock:
                del self._under_way[run_id]

    def _work(self, here: _UnderWay) -> Ended | None:
        claimed = here.claimed
        try:
            known = self._known(claimed)
            with self._about(claimed.claim.run_id, claimed.job, known.loaded.settings.jobs[claimed.job].source):
                report = self._slice(here, known)
        except (LeaseHeld, Conflict) as error:  # somebody else is at it
            log.info("run.put_off: run %d of %s: %s", claimed.claim.run_id, claimed.job, error)
            return self._put_off(claimed)
        except SyncdError as error:
            self._forget(claimed.digest)
            report = failed(claimed.job, error)
        except Exception as error:  # noqa: BLE001  a bug ends this run and no other; it is kept, and told
            where = crash.keep(error, self._process.settings.state_directory, f'job "{claimed.job}"')
            report = RunReport(claimed.job, exit_code=ExitCode.FAILED, errors=[crash.line(error, where)])
        report.run_id = claimed.claim.run_id
        return self._end(here, report)

    def _put_off(self, claimed: Claimed) -> Ended | None:
        """Have a run begin a little later; tells only of one that is over, as somebody has cancelled it."""
        queued = self._patiently(lambda: self.queue.put_off(claimed))
        return None if queued else self._cancelled(RunReport(claimed.job), claimed)

    def _cancelled(self, report: RunReport, claimed: Claimed) -> Ended:
        report.run_id, report.exit_code, report.more = claimed.claim.run_id, ExitCode.INTERRUPTED, False
        return Ended(report, closed=True)

    def _slice(self, here: _UnderWay, known: _Known) -> RunReport:
        claimed = here.claimed
        loaded = replace(known.loaded)  # with secrets that are read again
        rest = None if claimed.by_hand else _quiet_until(loaded, claimed.job)
        if rest is not None:
            return RunReport(claimed.job, more=True, not_before=rest)
        with Workplace(loaded, self._common, registry=known.registry) as place:
            registered = self._registered(known, claimed.job)
            if account_resource(registered.account.uuid) not in dict(claimed.leases.pairs):
                raise LeaseHeld(f'job "{claimed.job}" reads another account since this run was claimed')
            with place.destinations.taken(claimed.job) as archives:
                slice_ = Slice.lasting(self._seconds(claimed, loaded), here.stopping.is_set)
                options = RunOptions(by_hand=claimed.by_hand, slice=slice_)
                work = Work(place, registered, claimed.claim, archives, claimed.leases, options, self._quiet)
                here.work = work
                if here.cut or here.request is Request.CANCEL:  # before there was anything to be stopped
                    work.cancel()
                report = work.execute()
            if report.fetched or report.backfilled:
                indexes, stores = indexes_in(loaded, self._common.database), loaded.settings.archives
                to = (it.to for it in loaded.settings.jobs[claimed.job].destinations)
                self._stored({stores[name].path: indexes for name in to if name in stores})
            return report

    def _seconds(self, claimed: Claimed, loaded: Loaded) -> float:
        """Returns how long a slice may last: it ends softly where the quiet hours of its job begin."""
        begin = None if claimed.by_hand else _quiet_from(loaded, claimed.job)
        return self._slice_s if begin is None else min(self._slice_s, (begin - clock.now()).total_seconds())

    def _quiet(self, event: object) -> None:
        """Pass events on, but for the end, which is told once it is in the row."""
        if not isinstance(event, RunFinished):
            self._listen(event)  # type: ignore[arg-type]  # the engine gives events

    def _end(self, here: _UnderWay, report: RunReport) -> Ended | None:
        """Write what became of a run. One that another process has taken over is that process's to end."""
        claimed = here.claimed
        try:
            ended = self._patiently(lambda: self._closed_or_queued(here, report))
        except LeaseLost as error:
            log.warning("run.lost: run %d of %s: %s", claimed.claim.run_id, claimed.job, error)
            claimed.leases.drop()
            return None
        if ended.closed:
            self._listen(RunFinished(claimed.job, report))
        return ended

    def _patiently(self, write: Callable[[], T]) -> T:
        """Write what became of a run, also where the database is away for a while; `write` checks the generation.

        Otherwise the run would count as one whose worker died, and a database that was restarted three times would
        have its job paused.
        """
        begun, told = clock.monotonic(), ""
        while True:
            try:
                return write()
            except LeaseLost:
                raise
            except (LedgerError, StorageError) as error:
                if self._stopping.is_set() or clock.monotonic() - begun >= PATIENCE_S:
                    raise
                if told != str(error):
                    told = str(error)
                    log.info("run.end_not_written: %s", error)
            self._stopping.wait(RETRY_S)

    def _closed_or_queued(self, here: _UnderWay, report: RunReport) -> Ended:
        claimed, cancelled = here.claimed, here.request is Request.CANCEL
        if not cancelled and self._goes_on(here, report):
            report.more = True
            counts = report.counts(claimed.claim.counts)
            if report.exit_code is ExitCode.HELD:
                queued = self.queue.put_off(claimed, counts)
            else:
                queued = self.queue.requeue(claimed, report.not_before, counts, report.poll_from)
            return Ended(report, closed=False) if queued else self._cancelled(report, claimed)
        if cancelled:
            report.exit_code = ExitCode.INTERRUPTED
        self._note_trouble(claimed, report)
        code, counts = report.exit_code, report.counts(claimed.claim.counts)
        message = report.errors[0] if report.errors else ""
        end = End(
            RunState.STOPPED if cancelled else state_of(code),
            code,
            counts,
            message,
            succeeded=code in {ExitCode.DONE, ExitCode.WAITING},
            refused=code is ExitCode.SIGN_IN_REFUSED,
            idle=code is ExitCode.DONE and not claimed.by_hand and report.unchanged and not any(_done(counts)),
        )
        return Ended(report, closed=True, paused=self.queue.finish(claimed, end))

    def _goes_on(self, here: _UnderWay, report: RunReport) -> bool:
        """Returns whether a run has another slice: work is left, or we stopped it for a reason that is not its own.

        The lease of an archive that another process took over while this one was frozen is such a reason.
        """
        return report.more or here.cut or report.not_before is not None or report.exit_code is ExitCode.HELD

    def _note_trouble(self, claimed: Claimed, report: RunReport) -> None:
        if report.exit_code is ExitCode.INTERRUPTED:
            return
        first = report.errors[0] if report.errors else ""
        kind = kind_of_trouble(report, first)
        if not kind and not claimed.trouble:
            return
        with suppress(SyncdError):  # the end of the run is written next, or fails for the same reason
            noted = troubles.note(self._common.database, claimed.job_id, kind, first)
            report.news, report.trouble_since = noted.news.value, noted.since

    # --- settings --------------------------------------------------------------------------------------

    def _known(self, claimed: Claimed) -> _Known:
        with self._lock:
            known = self._documents.get(claimed.digest)
            if known is not None:
                self._documents.move_to_end(claimed.digest)
                return known
        text = definitions.document(self._common.database, claimed.digest)
        if text is None:
            raise ConfigError(f'the definition of job "{claimed.job}" is gone: write it again with syncd apply')
        loaded = settings_of(text, self._process)
        known = _Known(loaded, Registry(loaded, self._common.database))
        with self._lock:
            self._documents[claimed.digest] = known
            while len(self._documents) > KEPT_DOCUMENTS:
                self._documents.popitem(last=False)
        return known

    def _forget(self, digest: bytes) -> None:
        """Look again at what is registered: an archive may be another one, or an account bound to another host."""
        with self._lock:
            self._documents.pop(digest, None)

    def _registered(self, known: _Known, job: str) -> Registered:
        """Returns the job as it is registered; registers it again where the catalog has it otherwise than we know."""
        registered = known.registered
        if registered is not None:
            row = Catalog(self._common.database, owner(known.loaded)).find_job(job)
            if row == registered.job:
                return registered
        account = known.registry.account(known.loaded.settings.jobs[job].source)
        known.registered = known.registry.job(job, account)
        return known.registered

    # --- from other threads ----------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Returns how many runs are under way here."""
        return len(self._under_way)

    def watch(self) -> None:
        """Hand on what people ask of the runs under way. To be called each second. Raises LedgerError, StorageError."""
        with self._lock:
            runs = dict(self._under_way)
        if not runs:
            return
        wanted = self.queue.requests([run.claimed.claim for run in runs.values()])
        for run_id, request in wanted.items():
            runs[run_id].request = request
            if request is Request.CANCEL and (work := runs[run_id].work) is not None:
                work.cancel()
            runs[run_id].stopping.set()

    def stop(self) -> None:
        """Begin nothing any more, and have each run end its slice softly. Repeatable; any thread."""
        self._stopping.set()
        with self._lock:
            runs = list(self._under_way.values())
        for run in runs:
            run.stopping.set()

    def take_environment(self, of: LoadedService) -> None:
        """Resolve secrets by the variables of these settings from now on: a file `.env` was read again."""
        with self._lock:
            self._process = replace(self._process, environment=of.environment)
            self._documents.clear()

    def cut(self) -> None:
        """Cut the connections of all runs under way: what is in transfer is fetched again. After `stop`."""
        with self._lock:
            runs = list(self._under_way.values())
        for run in runs:
            run.cut = True
            if run.work is not None:
                run.work.cancel()

    def wait(self, seconds: float) -> bool:
        """Wait until no run is under way; returns whether it came to that."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._begun, seconds)
