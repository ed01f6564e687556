"""Run rows, on both databases."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import LeaseSet, job_resource
from syncd.db.models import leases
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.errors import Conflict

NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


@pytest.fixture
def job_id(database: Database) -> int:
    return make_job(database, "road")


def make_job(database: Database, name: str) -> int:
    catalog = Catalog(database)
    account = catalog.account("office", "pop3", "pop.example.net", "me")
    return catalog.job(name, account.id, [], removes=False).id


def lease(database: Database, job: str = "road") -> LeaseSet:
    return LeaseSet.acquire(database, [job_resource(job)], f"run of {job}", renew_s=0)


def test_a_run_from_start_to_end(runs: Runs, job_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder.me("run of road")
    monkeypatch.setattr(clock, "now", lambda: NOON)
    run_id = runs.start(job_id, "hand", holder)
    (running,) = runs.history()
    assert (running.id, running.job, running.state, running.trigger) == (run_id, "road", RunState.RUNNING, "hand")
    assert running.started_at == running.queued_at == NOON
    assert (running.finished_at, running.exit_code, running.counts, running.message) == (None, None, {}, "")
    assert running.holder == holder

    runs.progress(run_id, {"fetched": 3})
    assert runs.history()[0].counts == {"fetched": 3}

    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(seconds=90))
    runs.finish(run_id, RunState.FAILED, 4, {"fetched": 5}, "sign-in refused")
    (done,) = runs.history()
    assert (done.state, done.exit_code, done.counts, done.message) == (
        RunState.FAILED,
        4,
        {"fetched": 5},
        "sign-in refused",
    )
    assert done.finished_at == NOON + timedelta(seconds=90)
    assert (done.uuid, done.started_at) == (running.uuid, NOON)


@pytest.mark.parametrize("state", [RunState.DONE, RunState.FAILED, RunState.STOPPED])
def test_a_run_ends_once(runs: Runs, job_id: int, state: RunState) -> None:
    run_id = runs.start(job_id, "hand", Holder.me("run"))
    runs.finish(run_id, state, 0, {})
    with pytest.raises(Conflict, match=f"^run {run_id} is finished already and cannot become stopped$"):
        runs.finish(run_id, RunState.STOPPED, 0, {})


def test_history_is_newest_first_of_one_job_or_of_all(runs: Runs, job_id: int, database: Database) -> None:
    other = make_job(database, "other")
    ids = [runs.start(job, "hand", Holder.me("run")) for job in (job_id, other, job_id)]
    assert [run.id for run in runs.history()] == ids[::-1]
    assert [run.id for run in runs.history(job_id)] == [ids[2], ids[0]]
    assert [run.id for run in runs.history(limit=1)] == [ids[2]]
    assert {job: run.id for job, run in runs.latest([job_id, other, 99]).items()} == {job_id: ids[2], other: ids[1]}
    assert runs.latest([]) == {}


def test_a_run_whose_owner_holds_the_job_is_left_alone(runs: Runs, job_id: int, database: Database) -> None:
    with lease(database) as mine:
        runs.start(job_id, "hand", mine.holder)
        assert runs.abandon() == []
        assert runs.history()[0].state is RunState.RUNNING


def test_a_run_whose_lease_was_given_back_is_abandoned(runs: Runs, job_id: int, database: Database) -> None:
    with lease(database) as mine:
        run_id = runs.start(job_id, "hand", mine.holder)
    assert [run.id for run in runs.abandon()] == [run_id]
    (run,) = runs.history()
    assert run.state is RunState.ABANDONED
    assert run.finished_at is not None
    assert runs.abandon() == []


def test_a_run_whose_owner_died_here_is_abandoned_at_once(runs: Runs, job_id: int, database: Database) -> None:
    with lease(database) as mine:
        dead = dataclasses.replace(mine.holder, started=1)
        with database.write() as connection:
            connection.execute(update(leases).values(holder=str(dead)))
        run_id = runs.start(job_id, "hand", dead)
        assert [run.id for run in runs.abandon()] == [run_id]


def test_a_run_elsewhere_is_given_up_when_its_lease_ran_out(runs: Runs, job_id: int, database: Database) -> None:
    with lease(database) as mine:
        elsewhere = dataclasses.replace(mine.holder, host="elsewhere", started=1)
        with database.write() as connection:
            connection.execute(update(leases).values(holder=str(elsewhere)))
        run_id = runs.start(job_id, "hand", elsewhere)
        assert runs.abandon() == []
        with database.write() as connection:
            connection.execute(update(leases).values(expires_at=1.0))
        assert [run.id for run in runs.abandon()] == [run_id]


def test_the_next_run_of_a_job_abandons_the_last_and_not_itself(runs: Runs, job_id: int, database: Database) -> None:
    with lease(database) as first:
        old = runs.start(job_id, "hand", first.holder)
    with lease(database) as second:
        new = runs.start(job_id, "hand", second.holder)
        assert [run.id for run in runs.abandon()] == [old]
        assert {run.id: run.state for run in runs.history()} == {new: RunState.RUNNING, old: RunState.ABANDONED}


def test_an_owner_that_was_only_frozen_may_still_finish(runs: Runs, job_id: int) -> None:
    run_id = runs.start(job_id, "hand", Holder.me("run"))
    assert len(runs.abandon()) == 1
    runs.finish(run_id, RunState.DONE, 0, {"fetched": 1})
    assert runs.history()[0].state is RunState.DONE
