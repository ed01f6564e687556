"""The scheduler: queues what is due, keeps the tables small, tells of what is late. One of all schedulers leads.

    leadership   a lease of 15 s, renewed every 5 s by a thread on the monotonic clock; the others stand by
    due          fires when the next job is due, and each second to see what was applied meanwhile
    purge        history, documents and workers that nobody needs any more
    notices      whatever is to be told to people

APScheduler fires the duties. They never call the scheduler: with its lock held elsewhere that would be a deadlock. It
reads the wall clock, so the thread of the leadership looks whether that clock was set, and has all duties fire then.
A clock that was ahead leaves due times that are too far away: they are computed again, and at every start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from jobs.trouble import Trouble
from syncd import clock
from syncd.db import due as due_times
from syncd.db import history
from syncd.db.due import Next
from syncd.db.leases import LEADER, LeaseSet
from syncd.errors import LeaseHeld, LeaseLost, LedgerError, StorageError
from syncd.services.agenda import due_again, following

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.due import Due, Queued

log = logging.getLogger(__name__)

LEASE_S: Final = 15.0
RENEW_S: Final = 5.0
LOOK_S: Final = 1.0  # between two looks at the clock, and for what is due
FIRST: Final = timedelta(milliseconds=20)  # the duty fires so long after a due time, which has surely come then
PURGE_S: Final = 3600.0
NOTICES_S: Final = 30.0
UNREADABLE: Final = timedelta(hours=1)  # until a job is looked at again whose schedule cannot be read
JUMP_S: Final = 2.0  # of the wall clock against the monotonic one: it was set

Ring = Callable[[int, str], None]


class _WhenDue(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at the next due time that is known, and at the latest after LOOK_S."""

    def __init__(self, agenda: Callable[[], datetime | None]) -> None:
        self._agenda = agenda

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        """Returns a time after `now`, also where the duty has not yet seen to what is due: it is asked until then."""
        look, due = now + timedelta(seconds=LOOK_S), self._agenda()
        return look if due is None else max(now + FIRST, min(look, due + FIRST))


class Scheduler:
    """Schedules from `start` to `stop`, while it leads."""

    def __init__(
        self,
        database: Database,
        ring: Ring,
        keep_history: timedelta,
        duties: Sequence[Callable[[], None]] = (),
    ) -> None:
        """`ring` wakes a worker for a run of a site; `duties` are called every NOTICES_S while this one leads."""
        self._database = database
        self._ring = ring
        self._keep_history = keep_history
        self._duties = duties
        self._next: datetime | None = None
        self._lease: LeaseSet | None = None
        self._renewal = Trouble(log, "scheduler.renewal")
        self._troubles: dict[Callable[[], None], Trouble] = {}  # by duty
        self._look_back = True  # due times may have been noted by a clock that was ahead
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._lead, name="leadership", daemon=True)
        self._clock = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self.looked_at = clock.monotonic()  # the last look for what is due that came to its end, of one that leads
        self.led_at = self.fired_at = self.looked_at  # signs of life of its two threads, whether it leads or not

    @property
    def leads(self) -> bool:
        """Returns whether this scheduler is the one that leads."""
        return self._lease is not None

    def start(self) -> None:
        """Begin. Returns at once."""
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it warns of each duty that is still under way
        self._clock.add_job(partial(self._guarded, self._due), _WhenDue(lambda: self._next), id="due")
        self._clock.add_job(partial(self._guarded, self._purge), IntervalTrigger(seconds=int(PURGE_S)), id="purge")
        for number, duty in enumerate(self._duties):
            every = IntervalTrigger(seconds=int(NOTICES_S))
            self._clock.add_job(partial(self._guarded, duty), every, id=f"duty {number}")
        self._clock.start()
        self._thread.start()

    def stop(self) -> None:
        """End, and let another scheduler lead. Repeatable."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._clock.shutdown(wait=False)
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    # --- leadership ------------------------------------------------------------------------------------

    def _lead(self) -> None:
        renewed = clock.monotonic() - RENEW_S
        offset = _offset()
        while True:
            now = clock.monotonic()
            if now - renewed >= RENEW_S or (self._lease is None and now - renewed >= LOOK_S):
                renewed = now
                self._take_or_renew()
            if abs(_offset() - offset) > JUMP_S:
                self._look_back = True
                offset = _offset()
                log.warning("clock.set: the clock of this machine was set; everything is looked at again")
                self._fire_now()
            self.led_at = clock.monotonic()
            if self._stopping.wait(LOOK_S):
                return

    def _take_or_renew(self) -> None:
        try:
            if self._lease is None:
                self._lease = LeaseSet.acquire(self._database, [LEADER], "scheduling", expiry_s=LEASE_S, renew_s=0)
                log.info("scheduler.leads")
            else:
                self._lease.renew()
        except LeaseHeld:
            return
        except LeaseLost:
            self._lease = None
            log.warning("scheduler.stands_by: another scheduler leads")
        except (LedgerError, StorageError) as error:
            self._renewal.tell(error)
        else:
            self._renewal.over()
        if self._stopping.is_set() and self._lease is not None:
            self._lease.release()

    def _fire_now(self) -> None:
        now = clock.now()
        for job in self._clock.get_jobs():
            job.modify(next_run_time=now)

    # --- duties ----------------------------------------------------------------------------------------

    def _guarded(self, duty: Callable[[], None]) -> None:
        """Fulfil a duty while we lead. What fails is tried again when its time comes again."""
        self.fired_at = clock.monotonic()
        if self._lease is None or self._stopping.is_set():
            return
        trouble = self._troubles.setdefault(duty, Trouble(log, "duty"))
        try:
            duty()
        except (LedgerError, StorageError) as error:
            trouble.tell(error)
        except Exception:
            log.exception("duty.failed")
        else:
            trouble.over()

    def _due(self) -> None:
        lease = self._lease
        if lease is None:
            return
        lease.check(1.0)
        if self._look_back:
            due_times.bring_forward(self._database, partial(_again, clock.now()))
            self._look_back = False
        more = True
        while more and not self._stopping.is_set():
            now = clock.now()
            waiting = due_times.count_due(self._database, now)
            if not waiting:
                break
            queued, more = due_times.queue_due(self._database, now, partial(_following, waiting=waiting))
            self._announce(queued)
        self._next = due_times.next_due(self._database)
        self.looked_at = clock.monotonic()

    def _announce(self, queued: Sequence[Queued]) -> None:
        """Wake workers, up to the first failure: then the broker is away, and they look by themselves."""
        for run in queued:
            if not run.at_once:
                continue
            try:
                self._ring(run.run_id, run.site)
            except Exception as error:  # noqa: BLE001  each transport has its own errors
                log.warning("broker.away: workers find what is due by themselves: %s", error)
                return

    def _purge(self) -> None:
        gone = history.purge(self._database, clock.now(), self._keep_history)
        log.info("history.purged: %d runs", gone)


def _following(due: Due, until: datetime, waiting: int) -> Next:
    """Returns what follows a due time. A schedule that cannot be read here stops its own job alone, and is told."""
    try:
        return following(due, until, waiting)
    except Exception:  # a newer version wrote it, or this machine does not know its time zone
        log.exception("schedule.unreadable: job %s: %r, time zone %s", due.job, due.schedule, due.timezone)
        return Next(until + UNREADABLE)


def _again(now: datetime, due: Due) -> datetime | None:
    """Returns `due_again`; None for a schedule that cannot be read here, which is told when it comes due."""
    try:
        return due_again(now, due)
    except Exception:
        log.exception("schedule.unreadable: job %s: %r, time zone %s", due.job, due.schedule, due.timezone)
        return None


def _offset() -> float:
    """Returns the wall clock against the monotonic one, in seconds."""
    return clock.now().timestamp() - clock.monotonic()
