"""The scheduler: when its duties fire, who leads, and what it does about a clock that was set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.schedule import FIRST, LEASE_S, LOOK_S, Scheduler, _WhenDue
from syncd import clock
from syncd.db import due as due_times
from syncd.db.database import Database
from syncd.db.leases import LEADER, LeaseSet
from syncd.db.models import definitions as rows
from syncd.db.models import leases
from syncd.db.states import RunState
from syncd.errors import LedgerError
from syncd.services.agenda import first_due
from tests.support.service import DONE, Tables, definition

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEEP = timedelta(days=90)


class Clocks:
    """The wall clock, which may be set, and the one that only goes on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        self.steady = 1000.0
        patch.setattr(clock, "now", lambda: self.now)
        patch.setattr(clock, "monotonic", lambda: self.steady)
        patch.setattr(clock, "boottime", lambda: self.steady)

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)
        self.steady += timedelta(**by).total_seconds()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def tables(tmp_path: Path, clocks: Clocks) -> Iterator[Tables]:
    assert clocks.now == NOON
    with Database.open(None, tmp_path) as database:
        made = Tables(database)
        wanted = [definition(name, schedule="every 15 minutes") for name in ("a", "b")]
        made.apply(*wanted, following=lambda it: first_due("home", clock.now(), it))
        yield made


class Rung(list[tuple[int, str]]):
    """The bell that wakes workers."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def __call__(self, run_id: int, site: str) -> None:
        self.append((run_id, site))
        if self.error is not None:
            raise self.error


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture
def scheduler(tables: Tables, rung: Rung) -> Scheduler:
    """One that leads; its threads do not run."""
    made = Scheduler(tables.database, rung, KEEP)
    made._take_or_renew()
    assert made.leads
    return made


# --- when the duty fires -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due_in_s", "fires_in_s"),
    [(None, LOOK_S), (-3600, 0.02), (-0.02, 0.02), (0, 0.02), (0.5, 0.52), (0.99, 1), (30, LOOK_S)],
)
def test_the_duty_fires_when_something_is_due_and_each_second(due_in_s: float | None, fires_in_s: float) -> None:
    due = None if due_in_s is None else NOON + timedelta(seconds=due_in_s)
    fires = _WhenDue(lambda: due).get_next_fire_time(NOON, NOON)
    assert fires == NOON + timedelta(seconds=fires_in_s)


@pytest.mark.parametrize("due_in_s", [None, *range(-3, 4)])
def test_it_never_fires_in_the_past(due_in_s: float | None) -> None:
    """APScheduler would fire it again and again, as fast as it can."""
    due = None if due_in_s is None else NOON + timedelta(seconds=due_in_s)
    for previous in (None, NOON - timedelta(days=9), NOON, NOON + timedelta(days=9)):
        fires = _WhenDue(lambda: due).get_next_fire_time(previous, NOON)
        assert NOON + FIRST <= fires <= NOON + timedelta(seconds=LOOK_S)


# --- what is due -------------------------------------------------------------------------------------------------


def test_what_is_due_is_queued_and_workers_are_woken(
    scheduler: Scheduler, tables: Tables, clocks: Clocks, rung: Rung
) -> None:
    scheduler._due()
    assert rung == []
    due = due_times.next_due(tables.database)
    assert due is not None
    assert scheduler._next == due
    clocks.now = due
    scheduler._due()
    ((run_id, site),) = rung
    assert (tables.row(run_id).due_at, site) == (due, "")
    assert scheduler._next is not None
    assert scheduler._next > due
    scheduler._due()
    assert len(rung) == 1


def test_after_a_time_without_service_there_is_one_run_a_job_and_nobody_is_woken(
    scheduler: Scheduler, tables: Tables, clocks: Clocks, rung: Rung
) -> None:
    clocks.later(hours=5)
    scheduler._due()
    found = tables.runs.history()
    assert (sorted(run.job for run in found), rung) == (["a", "b"], [])
    assert all(run.not_before is not None and run.not_before >= clocks.now for run in found)


@pytest.mark.parametrize("odd", [{"schedule": "each blue moon"}, {"schedule": "at 02:00", "timezone": "Mars/Olympus"}])
def test_a_schedule_that_cannot_be_read_here_stops_no_other(
    scheduler: Scheduler, tables: Tables, clocks: Clocks, caplog: pytest.LogCaptureFixture, odd: dict[str, str]
) -> None:
    """A newer version has written it, or this machine lacks the time zone: nothing at all was queued any more."""
    wanted = [definition("odd", **odd), *(definition(name, schedule="every 15 minutes") for name in ("a", "b"))]
    tables.apply(*wanted, following=lambda it: NOON if it.job == "odd" else None)
    clocks.later(minutes=15)
    scheduler._due()
    assert sorted(run.job for run in tables.runs.history()) == ["a", "b", "odd"]
    assert "schedule.unreadable: job odd" in caplog.text
    clocks.later(minutes=1)
    scheduler._due()
    assert len(tables.runs.history()) == 3


def test_a_broker_that_is_away_is_asked_once(
    scheduler: Scheduler, tables: Tables, clocks: Clocks, rung: Rung, caplog: pytest.LogCaptureFixture
) -> None:
    rung.error = ConnectionRefusedError("refused")
    clocks.later(minutes=15)
    with tables.database.write() as connection:
        connection.execute(rows.update().values(next_due=round(clocks.now.timestamp() * 1e6)))
    scheduler._due()
    assert (len(rung), len(tables.runs.history())) == (1, 2)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["broker.away"]


def test_history_is_purged(scheduler: Scheduler, tables: Tables, clocks: Clocks) -> None:
    for _ in range(2):
        tables.queue.finish(tables.working(tables.id_of("a")), DONE)
    clocks.later(days=91)
    scheduler._take_or_renew()
    scheduler._guarded(scheduler._purge)
    assert len(tables.runs.history()) == 1


# --- a clock that was set ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(hours=6), timedelta(days=4000)])
def test_due_times_of_a_clock_that_was_ahead_are_computed_anew(
    scheduler: Scheduler, tables: Tables, clocks: Clocks, ahead: timedelta
) -> None:
    scheduler._due()
    clocks.now += ahead
    scheduler._due()
    for run in tables.runs.history():
        tables.runs.close(run.id, RunState.FAILED, 5, "a test")
    clocks.now = NOON
    scheduler._look_back = True  # as the thread of the leadership finds
    scheduler._due()
    assert scheduler._next is not None
    assert scheduler._next <= NOON + timedelta(minutes=15)


def test_it_is_looked_back_once_at_every_start(
    scheduler: Scheduler, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(due_times, "bring_forward", lambda *given: looked.append(given[0]))
    scheduler._due()
    scheduler._due()
    assert looked == [tables.database]


def test_looking_back_that_fails_is_done_later(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise LedgerError("away")

    with monkeypatch.context() as patch:
        patch.setattr(due_times, "bring_forward", away)
        scheduler._guarded(scheduler._due)
    assert scheduler._look_back
    scheduler._guarded(scheduler._due)
    assert not scheduler._look_back
    assert [record.message for record in caplog.records] == ["duty.failed: away"]


@pytest.mark.parametrize("seconds", [-7200.0, 7200.0])
def test_a_clock_that_was_set_is_noticed(
    tables: Tables, rung: Rung, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    made = Scheduler(tables.database, rung, KEEP)
    fired: list[datetime] = []
    monkeypatch.setattr(made, "_fire_now", lambda: fired.append(clocks.now))
    steps = iter(
        [lambda: clocks.later(seconds=1), lambda: setattr(clocks, "now", clocks.now + timedelta(seconds=seconds))]
    )

    def wait(_: float) -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    monkeypatch.setattr(made._stopping, "wait", wait)
    made._look_back = False
    made._lead()
    assert (len(fired), made._look_back) == (1, True)


def test_all_duties_fire_now(scheduler: Scheduler) -> None:
    scheduler._clock.add_job(int, _WhenDue(lambda: None), id="due", next_run_time=NOON + timedelta(days=1))
    scheduler._clock.start(paused=True)
    scheduler._fire_now()
    assert [job.next_run_time for job in scheduler._clock.get_jobs()] == [NOON]
    scheduler.stop()


# --- leadership --------------------------------------------------------------------------------------------------


def test_one_leads_and_the_other_stands_by(scheduler: Scheduler, tables: Tables, rung: Rung, clocks: Clocks) -> None:
    other = Scheduler(tables.database, rung, KEEP)
    other._take_or_renew()
    assert (scheduler.leads, other.leads) == (True, False)
    clocks.later(minutes=15)
    other._guarded(other._due)
    assert tables.runs.history() == []
    lease = scheduler._lease
    assert lease is not None
    lease.release()
    other._take_or_renew()
    assert other.leads


def test_a_leader_that_was_frozen_stands_by(
    scheduler: Scheduler, tables: Tables, rung: Rung, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    with tables.database.write() as connection:
        connection.execute(leases.update().values(expires_at=1.0))
    other = Scheduler(tables.database, rung, KEEP)
    other._take_or_renew()
    assert other.leads
    clocks.later(seconds=LEASE_S + 1, minutes=15)
    scheduler._guarded(scheduler._due)
    assert tables.runs.history() == []
    scheduler._take_or_renew()
    assert not scheduler.leads
    assert caplog.records[-1].message.startswith("scheduler.stands_by")


def test_nothing_is_done_after_the_end(scheduler: Scheduler, tables: Tables, clocks: Clocks) -> None:
    scheduler._clock.start(paused=True)
    scheduler.stop()
    scheduler.stop()
    assert not scheduler.leads
    clocks.later(hours=1)
    scheduler._guarded(scheduler._due)
    assert tables.runs.history() == []
    with LeaseSet.acquire(tables.database, [LEADER], "a test", renew_s=0) as lease:
        assert lease.pairs[0][0] == LEADER


def test_a_bug_in_a_duty_is_logged_and_ends_nothing(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    scheduler._guarded(bug)
    assert caplog.records[-1].levelno == logging.ERROR
    assert scheduler.leads
