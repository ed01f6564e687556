"""Run rows on both databases: the queue, what is under way, the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import LeaseSet, job_resource
from syncd.db.ledger import Ledger
from syncd.db.models import leases
from syncd.db.rows import Progress, RunScope
from syncd.db.runs import Claim, Runs
from syncd.db.states import RunState
from syncd.errors import LeaseLost

NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
DEAD = {"started": 1}  # a process of this machine with our id that began at another time


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


def holder(**facts: Any) -> Holder:
    """This process, but for `facts`."""
    return dataclasses.replace(Holder.me("run of road"), **facts)


def queue(runs: Runs, job_id: int, **when: datetime) -> int:
    run_id = runs.enqueue(job_id, "hand", **when)
    assert run_id is not None
    return run_id


def take(runs: Runs, run_id: int, **facts: Any) -> Claim:
    claim = runs.claim(run_id, holder(**facts))
    assert claim is not None
    return claim


def scope_of(claim: Claim, job_id: int) -> RunScope:
    return RunScope(claim.run_id, claim.generation, job_id, 1, ())


# --- the queue ---------------------------------------------------------------------------------------------


def test_a_run_from_start_to_end(runs: Runs, job_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    run_id = queue(runs, job_id)
    queued = runs.open_run(job_id)
    assert queued is not None
    assert (queued.id, queued.job_id, queued.job, queued.state) == (run_id, job_id, "road", RunState.QUEUED)
    assert (queued.trigger, queued.queued_at, queued.started_at, queued.holder) == ("hand", NOON, None, None)
    assert (queued.generation, queued.slices, queued.due_at, queued.not_before) == (0, 0, None, None)

    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(seconds=5))
    me = holder()
    assert runs.claim(run_id, me) == Claim(run_id, 1, {})
    running = runs.open_run(job_id)
    assert running is not None
    assert (running.state, running.started_at, running.holder) == (RunState.RUNNING, clock.now(), me)
    assert (running.finished_at, running.exit_code, running.counts, running.message) == (None, None, {}, "")
    assert (running.generation, running.slices, running.cancel_requested) == (1, 1, False)

    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(seconds=90))
    runs.finish(Claim(run_id, 1, {}), RunState.FAILED, 4, {"fetched": 5}, "sign-in refused")
    assert runs.open_run(job_id) is None
    (done,) = runs.history()
    assert (done.state, done.exit_code, done.message) == (RunState.FAILED, 4, "sign-in refused")
    assert (done.counts, done.finished_at) == ({"fetched": 5}, NOON + timedelta(seconds=90))
    assert (done.uuid, done.started_at) == (queued.uuid, NOON + timedelta(seconds=5))


def test_a_job_has_one_open_run(runs: Runs, job_id: int, database: Database) -> None:
    run_id = queue(runs, job_id)
    assert runs.enqueue(job_id, "schedule") is None
    assert runs.enqueue(make_job(database, "other"), "hand") is not None
    claim = take(runs, run_id)
    assert runs.enqueue(job_id, "schedule") is None
    runs.finish(claim, RunState.DONE, 0, {})
    assert runs.enqueue(job_id, "schedule") is not None


def test_a_due_time_has_one_run(runs: Runs, job_id: int, database: Database) -> None:
    for due_at in (NOON, NOON + timedelta(hours=1)):
        runs.finish(take(runs, queue(runs, job_id, due_at=due_at)), RunState.DONE, 0, {})
    assert runs.enqueue(job_id, "schedule", due_at=NOON) is None
    assert runs.enqueue(make_job(database, "other"), "schedule", due_at=NOON) is not None
    assert [run.due_at for run in runs.history([job_id])] == [NOON + timedelta(hours=1), NOON]


def at_once(number: int, act: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(act, range(number)))


def test_of_many_that_queue_at_once_one_does(runs: Runs, job_id: int) -> None:
    queued = at_once(6, lambda _: runs.enqueue(job_id, "schedule", due_at=NOON))
    assert len([run_id for run_id in queued if run_id is not None]) == 1


def test_of_many_that_claim_at_once_one_gets_it(runs: Runs, job_id: int) -> None:
    run_id = queue(runs, job_id)
    claims = at_once(6, lambda _: runs.claim(run_id, holder()))
    assert [claim for claim in claims if claim is not None] == [Claim(run_id, 1, {})]


def test_a_run_is_not_claimed_before_its_time(runs: Runs, job_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    run_id = queue(runs, job_id, not_before=NOON + timedelta(seconds=30))
    assert runs.claim(run_id, holder()) is None
    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(seconds=30))
    claim = take(runs, run_id)
    runs.requeue(claim, NOON + timedelta(minutes=10))
    waiting = runs.open_run(job_id)
    assert waiting is not None
    assert (waiting.state, waiting.not_before) == (RunState.QUEUED, NOON + timedelta(minutes=10))
    assert runs.claim(run_id, holder()) is None


def test_slices_go_on_with_the_counts_of_earlier_ones(runs: Runs, job_id: int, database: Database) -> None:
    run_id = queue(runs, job_id)
    first = take(runs, run_id)
    Ledger(database, lambda _: None).report(scope_of(first, job_id), Progress("fetching", {"fetched": 3}))
    runs.requeue(first)
    waiting = runs.open_run(job_id)
    assert waiting is not None
    assert (waiting.holder, waiting.phase, waiting.counts) == (None, "", {"fetched": 3})
    second = take(runs, run_id)
    assert second == Claim(run_id, 2, {"fetched": 3})
    runs.requeue(second, counts={"fetched": 4})
    third = take(runs, run_id)
    assert third.counts == {"fetched": 4}
    runs.finish(third, RunState.DONE, 0, {"fetched": 5})
    (done,) = runs.history()
    assert (done.slices, done.counts) == (3, {"fetched": 5})


def test_a_claim_that_was_given_back_is_worth_nothing(runs: Runs, job_id: int) -> None:
    run_id = queue(runs, job_id)
    claim = take(runs, run_id)
    runs.requeue(claim)
    with pytest.raises(LeaseLost, match=f"run {run_id}"):
        runs.requeue(claim)
    with pytest.raises(LeaseLost, match=f"run {run_id}"):
        runs.finish(claim, RunState.DONE, 0, {})
    assert take(runs, run_id).generation == 2


@pytest.mark.parametrize("state", [RunState.DONE, RunState.FAILED, RunState.STOPPED])
def test_a_run_ends_once(runs: Runs, job_id: int, state: RunState) -> None:
    claim = take(runs, queue(runs, job_id))
    runs.finish(claim, state, 0, {})
    with pytest.raises(LeaseLost):
        runs.finish(claim, RunState.STOPPED, 0, {})
    assert runs.claim(claim.run_id, holder()) is None
    assert not runs.close(claim.run_id, RunState.FAILED, 1, "too late")
    assert runs.history()[0].state is state


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.STOPPED])
def test_a_run_that_nobody_claimed_is_closed(runs: Runs, job_id: int, state: RunState) -> None:
    run_id = queue(runs, job_id)
    assert runs.close(run_id, state, 5, "somebody else has the job")
    assert not runs.close(run_id, state, 5, "again")
    (closed,) = runs.history()
    assert (closed.state, closed.exit_code, closed.message) == (state, 5, "somebody else has the job")
    assert closed.finished_at is not None
    assert runs.claim(run_id, holder()) is None


def test_a_run_that_somebody_works_on_is_not_closed(runs: Runs, job_id: int) -> None:
    claim = take(runs, queue(runs, job_id))
    assert not runs.close(claim.run_id, RunState.STOPPED, 5, "x")
    runs.finish(claim, RunState.DONE, 0, {})


# --- taken over --------------------------------------------------------------------------------------------


def lease(database: Database, **facts: Any) -> LeaseSet:
    """The lease of the job, held by this process but for `facts`."""
    taken = LeaseSet.acquire(database, [job_resource(1)], "run of road", expiry_s=540, renew_s=0)
    taken.holder = dataclasses.replace(taken.holder, **facts)
    with database.write() as connection:
        connection.execute(update(leases).values(holder=str(taken.holder)))
    return taken


def test_a_run_with_a_living_owner_is_left(runs: Runs, job_id: int) -> None:
    """With the lease or, between claim and lease, without it."""
    run_id = queue(runs, job_id)
    take(runs, run_id)
    assert runs.claim(run_id, holder()) is None


def test_a_run_whose_owner_died_here_is_taken_over_at_once(runs: Runs, job_id: int, database: Database) -> None:
    run_id = queue(runs, job_id)
    dead = lease(database, **DEAD)
    old = runs.claim(run_id, dead.holder)
    assert old is not None
    new = take(runs, run_id)
    assert new == Claim(run_id, 2, {})
    for late in (lambda: runs.requeue(old), lambda: runs.finish(old, RunState.DONE, 0, {})):
        with pytest.raises(LeaseLost, match=f"another process took over run {run_id}"):
            late()
    (run,) = runs.history()
    assert (run.state, run.generation, run.slices) == (RunState.RUNNING, 2, 2)
    runs.finish(new, RunState.DONE, 0, {})


def test_a_run_elsewhere_is_taken_over_when_its_lease_ran_out(runs: Runs, job_id: int, database: Database) -> None:
    run_id = queue(runs, job_id)
    elsewhere = lease(database, host="elsewhere", **DEAD)
    assert runs.claim(run_id, elsewhere.holder) is not None
    assert runs.claim(run_id, holder()) is None
    with database.write() as connection:
        connection.execute(update(leases).values(expires_at=1.0))
    assert take(runs, run_id).generation == 2


def test_a_run_elsewhere_is_taken_over_when_somebody_else_has_the_lease(
    runs: Runs, job_id: int, database: Database
) -> None:
    run_id = queue(runs, job_id)
    take(runs, run_id, host="elsewhere")
    with lease(database) as mine:
        claim = runs.claim(run_id, mine.holder)
        assert claim is not None
        assert claim.generation == 2


def test_a_run_is_taken_over_by_who_has_the_lease_from_an_owner_that_was_frozen(
    runs: Runs, job_id: int, database: Database
) -> None:
    """It lives, on this machine, and its lease ran out."""
    run_id = queue(runs, job_id)
    frozen = take(runs, run_id)
    with lease(database) as mine:
        claim = runs.claim(run_id, mine.holder)
        assert claim is not None
        with pytest.raises(LeaseLost):
            runs.finish(frozen, RunState.DONE, 0, {})
        runs.finish(claim, RunState.DONE, 0, {})


# --- progress ----------------------------------------------------------------------------------------------


def test_progress_and_notes_are_there_for_whoever_looks(
    runs: Runs, job_id: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = take(runs, queue(runs, job_id))
    ledger, scope = Ledger(database, lambda _: None), scope_of(claim, job_id)
    monkeypatch.setattr(clock, "now", lambda: NOON)
    ledger.report(scope, Progress("fetching", {"fetched": 3}, ("removals are frozen", "one\nline")))
    ledger.commit(scope, [], [], [], progress=Progress("fetching", {"fetched": 4}, ("held for you",)))
    run = runs.open_run(job_id)
    assert run is not None
    assert (run.phase, run.counts, run.updated_at) == ("fetching", {"fetched": 4}, NOON)
    notes = runs.notes([run.id, 99])
    assert list(notes) == [run.id]
    assert [(note.at, note.text) for note in notes[run.id]] == [
        (NOON, "removals are frozen"),
        (NOON, "one\\nline"),
        (NOON, "held for you"),
    ]
    runs.finish(claim, RunState.DONE, 0, {"fetched": 4})
    assert len(runs.notes([run.id])[run.id]) == 3
    assert runs.history()[0].phase == ""


def test_who_was_replaced_writes_no_progress(runs: Runs, job_id: int, database: Database) -> None:
    run_id = queue(runs, job_id)
    old = take(runs, run_id, **DEAD)
    new = take(runs, run_id)
    ledger = Ledger(database, lambda _: None)
    late = Progress("late", {"fetched": 1}, ("late",))
    with pytest.raises(LeaseLost, match=f"run {run_id}"):
        ledger.report(scope_of(old, job_id), late)
    with pytest.raises(LeaseLost, match=f"run {run_id}"):
        ledger.commit(scope_of(old, job_id), [], [], [], progress=late)
    ledger.report(scope_of(new, job_id), Progress("listing", {}))
    assert runs.notes([run_id]) == {}
    runs.finish(new, RunState.DONE, 0, {})
    with pytest.raises(LeaseLost):
        ledger.report(scope_of(new, job_id), late)


# --- looking -----------------------------------------------------------------------------------------------


def test_history_is_newest_first_of_one_job_or_of_all(runs: Runs, job_id: int, database: Database) -> None:
    other = make_job(database, "other")
    ids = []
    for job in (job_id, other, job_id):
        ids.append(queue(runs, job))
        runs.finish(take(runs, ids[-1]), RunState.DONE, 0, {})
    assert [run.id for run in runs.history()] == ids[::-1]
    assert [run.id for run in runs.history([job_id])] == [ids[2], ids[0]]
    assert [run.id for run in runs.history(limit=1)] == [ids[2]]
    assert {job: run.id for job, run in runs.latest([job_id, other, 99]).items()} == {job_id: ids[2], other: ids[1]}
    assert runs.latest([]) == {}
    assert runs.open_run(job_id) is None
