"""What was done each day, on both databases."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from syncd.db import days
from syncd.db.database import Database
from syncd.db.days import Day
from syncd.db.holder import Holder
from syncd.db.runs import Claim, Runs, finish_in
from syncd.db.states import RunState
from tests.contract.test_figures import define
from tests.support.ledger import Bench, Clock


class Work:
    """Runs of a job of the configuration "home"."""

    def __init__(self, bench: Bench) -> None:
        self.job = define(bench)
        self.runs = Runs(bench.database)

    def claim(self) -> Claim:
        run = self.runs.open_run(self.job)
        run_id = run.id if run is not None else self.runs.enqueue(self.job, "hand")
        claim = self.runs.claim(run_id or 0, Holder.me("test"))
        assert claim is not None
        return claim

    def did(self, messages: int) -> dict[str, int]:
        return {"fetched": messages, "fetched_octets": messages * 1000}


@pytest.fixture
def work(bench: Bench) -> Work:
    return Work(bench)


def today(database: Database, at: Clock, many: int = 1) -> Day:
    return days.last(database, "home", at.now, many)[-1]


def test_slices_are_counted_when_they_end_and_the_run_once(work: Work, database: Database, at: Clock) -> None:
    work.runs.requeue(work.claim(), counts=work.did(3))
    assert today(database, at) == Day(at.now.date(), 0, 0, 3, 3000)
    work.runs.requeue(work.claim())  # put off: nothing was done
    work.runs.finish(work.claim(), RunState.DONE, 0, work.did(5))
    assert today(database, at) == Day(at.now.date(), 1, 0, 5, 5000)


def test_runs_that_failed_are_counted_and_idle_ones_are_not(work: Work, database: Database, at: Clock) -> None:
    work.runs.finish(work.claim(), RunState.FAILED, 1, {}, "no")
    idle = work.claim()
    with database.write() as connection:
        finish_in(connection, idle, RunState.DONE, 0, {}, idle=True)
    run_id = work.runs.enqueue(work.job, "hand")
    assert run_id is not None
    assert work.runs.close(run_id, RunState.FAILED, 1, "no")
    assert not work.runs.close(run_id, RunState.FAILED, 1, "no")
    assert today(database, at) == Day(at.now.date(), 2, 2, 0, 0)


def test_days_follow_one_another_without_gaps_and_others_are_left_out(
    work: Work, database: Database, at: Clock
) -> None:
    first = at.now.date()
    work.runs.finish(work.claim(), RunState.DONE, 0, work.did(1))
    at.now += timedelta(days=3)
    work.runs.finish(work.claim(), RunState.STOPPED, 130, work.did(2))
    found = days.last(database, "home", at.now, 30)
    assert [it.day - found[0].day for it in found] == [timedelta(number) for number in range(30)]
    assert {it.day: it.messages for it in found if it.runs} == {first: 1, first + timedelta(3): 2}
    assert days.last(database, "home", at.now, 2)[0].messages == 0
    assert days.last(database, "other", at.now, 2)[1] == Day(first + timedelta(3))
    assert isinstance(found[0].day, date)
