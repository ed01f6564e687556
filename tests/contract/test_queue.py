"""The queue as workers use it, on both databases: claim, put off, give back, close, take over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from syncd.db import control
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.leases import EXPIRY_S, LeaseSet, account_resource, job_resource
from syncd.db.models import definitions, jobs, leases, permits, runs
from syncd.db.names import Owner
from syncd.db.queue import BUSY_S, CANCELLED, GRACE, HERE, MAX_REFUSALS, NO_PERMIT_S, End, Request
from syncd.db.rows import Paused
from syncd.db.runs import Claim, RunRow, Runs
from syncd.db.states import RunState
from syncd.errors import LeaseLost
from tests.contract.conftest import Opener
from tests.support.ledger import Clock
from tests.support.service import DONE, REFUSED, Tables, definition

OURS = ("",)


@pytest.fixture
def tables(database: Database, at: Clock) -> Tables:
    assert at.now
    return Tables(database)


def owned(database: Database) -> set[str]:
    """The resources that somebody has a lease on."""
    with database.read() as connection:
        return set(connection.execute(select(leases.c.resource).where(leases.c.holder != "")).scalars())


def permits_out(tables: Tables) -> int:
    with tables.database.read() as connection:
        return connection.execute(select(func.count()).select_from(permits)).scalar_one()


# --- claim and its end ---------------------------------------------------------------------------------------


def test_a_claim_has_the_leases_of_job_and_account(tables: Tables) -> None:
    job_id = tables.job("road")
    run_id = tables.queued(job_id)
    claimed = tables.claimed(run_id)
    assert (claimed.claim, claimed.job, claimed.configuration) == (Claim(run_id, 1, {}), "road", "home")
    assert (claimed.digest, claimed.by_hand) == (tables.applied["road"].digest, False)
    held = owned(tables.database)
    assert job_resource(job_id) in held
    assert {it.partition(":")[0] for it in held} == {"job", "account"}
    row = tables.row(run_id)
    assert (row.state, row.holder) == (RunState.RUNNING, claimed.leases.holder)

    assert tables.queue.finish(claimed, DONE) is None
    assert owned(tables.database) == set()
    row = tables.row(run_id)
    assert (row.state, row.exit_code, row.slices) == (RunState.DONE, 0, 1)
    with pytest.raises(LeaseLost):
        tables.queue.finish(claimed, DONE)


def test_a_run_that_ends_as_somebody_looks_for_it_is_followed_by_one_of_theirs(tables: Tables) -> None:
    """`syncd run` beside a service ended with exit 10 there."""
    job_id = tables.job("road")
    claimed = tables.claimed(tables.queued(job_id))

    class Late(Runs):
        """Its look comes after the open run has ended."""

        def open_run(self, job_id: int) -> RunRow | None:
            if tables.row(claimed.claim.run_id).state is RunState.RUNNING:
                tables.queue.finish(claimed, DONE)
            return super().open_run(job_id)

    run = Late(tables.database).ensure_open(job_id, "hand")
    assert run is not None
    assert (run.state, run.id != claimed.claim.run_id) == (RunState.QUEUED, True)


def test_jobs_of_one_name_in_two_configurations_run_at_once(tables: Tables) -> None:
    first = tables.working(tables.job("road"))
    office = Owner("office", lambda name: name == "office")
    tables.apply(definition("road", user="other", text='{"of":"office"}'), owner=office)
    other = Catalog(tables.database, office).find_job("road")
    assert other is not None
    second = tables.working(other.id)
    assert (second.job, second.configuration, second.job_id != first.job_id) == ("road", "office", True)
    for claimed in (first, second):
        tables.queue.finish(claimed, DONE)


def test_of_two_workers_one_claims(tables: Tables, open_ledger: Opener) -> None:
    """Each has a connection of its own to the database."""
    run_id = tables.queued(tables.job())
    others = [Tables(open_ledger()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda other: other.queue.claim(run_id), others))
    (claimed,) = [it for it in found if it is not None]
    assert claimed.claim == Claim(run_id, 1, {})
    tables.queue.finish(claimed, DONE)
    assert tables.row(run_id).slices == 1


def test_two_jobs_of_one_account_take_turns(tables: Tables, at: Clock) -> None:
    first = tables.working(tables.job("road"))
    second = tables.queued(tables.job("other", user="road"))
    assert tables.queue.claim(second) is None
    put_off = tables.row(second).not_before
    assert put_off is not None
    assert timedelta(seconds=BUSY_S[0]) <= put_off - at.now <= timedelta(seconds=BUSY_S[1])
    assert tables.waiting() == []
    tables.queue.finish(first, DONE)
    at.now = put_off
    assert tables.waiting() == [second]
    tables.queue.finish(tables.claimed(second), DONE)


def test_a_late_message_does_not_have_a_run_begin_before_its_time(tables: Tables, at: Clock) -> None:
    """It waits for a server's patience, and another job has the account when the message comes."""
    later = at.now + timedelta(minutes=10)
    run_id = tables.queued(tables.job("road"), not_before=later)
    other = tables.working(tables.job("other", user="road"))
    assert tables.queue.claim(run_id) is None
    assert tables.row(run_id).not_before == later
    tables.queue.finish(other, DONE)


def test_a_message_of_a_run_that_is_over_does_nothing(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    assert tables.queue.claim(claimed.claim.run_id) is None  # doubled, while it is worked on
    assert tables.row(claimed.claim.run_id).not_before is None
    tables.queue.finish(claimed, DONE)
    assert tables.queue.claim(claimed.claim.run_id) is None
    assert tables.queue.claim(999) is None


def test_a_run_is_given_back_with_its_counts_and_goes_on_at_its_time(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    claimed = tables.working(job_id)
    assert tables.queue.requeue(claimed, at.now + timedelta(seconds=30), {"fetched": 4})
    assert owned(tables.database) == set()
    assert (tables.waiting(), tables.queue.claim(claimed.claim.run_id)) == ([], None)
    at.later(seconds=30)
    assert tables.waiting() == [claimed.claim.run_id]
    second = tables.claimed(claimed.claim.run_id)
    assert second.claim == Claim(claimed.claim.run_id, 2, {"fetched": 4})
    with pytest.raises(LeaseLost):
        tables.queue.requeue(claimed)
    tables.queue.finish(second, DONE)


def test_a_run_keeps_the_definition_that_it_began_with(tables: Tables) -> None:
    tables.job("road")
    old = tables.applied["road"].digest
    first = tables.working(tables.id_of("road"))
    tables.job("road", text="{}")
    tables.queue.requeue(first)
    second = tables.claimed(first.claim.run_id)
    assert second.digest == old
    tables.queue.finish(second, DONE)
    third = tables.working(tables.id_of("road"))
    assert third.digest == tables.applied["road"].digest != old
    tables.queue.finish(third, DONE)


def test_a_run_that_was_put_off_begins_within_seconds(tables: Tables, at: Clock) -> None:
    claimed = tables.working(tables.job())
    assert tables.queue.put_off(claimed)
    at.later(seconds=BUSY_S[1])
    assert tables.waiting() == [claimed.claim.run_id]


@pytest.mark.parametrize(
    ("due_s", "poll_s", "begins_s"),
    [
        (900, 0, 900),
        (900, None, 3600),
        (None, 0, 3600),
        (7200, 0, 3600),
        (900, 1200, 1200),
        (900, 7200, 3600),
        (-5, 0, 3600),
    ],
)
def test_a_run_that_waits_for_a_destination_alone_goes_on_when_its_job_is_due(
    tables: Tables, at: Clock, due_s: int | None, poll_s: int | None, begins_s: int
) -> None:
    """A limit for each day that was used up had kept the source from being polled until the next day."""

    def later(seconds: int | None) -> datetime | None:
        return None if seconds is None else at.now + timedelta(seconds=seconds)

    job_id = tables.job()
    due = later(due_s)
    with tables.database.write() as connection:
        known = update(definitions).where(definitions.c.job_id == job_id)
        connection.execute(known.values(next_due=None if due is None else to_microseconds(due)))
    claimed = tables.working(job_id)
    assert tables.queue.requeue(claimed, later(3600), poll_from=later(poll_s))
    assert tables.row(claimed.claim.run_id).not_before == later(begins_s)


def test_a_success_is_noted_with_the_job(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    tables.queue.finish(tables.working(job_id), End(RunState.FAILED, 5, {}, "later"))
    assert tables.value(jobs, "succeeded_at", job_id) is None
    tables.queue.finish(tables.working(job_id), DONE)
    assert tables.value(jobs, "succeeded_at", job_id) == round(at.now.timestamp() * 1_000_000)


# --- permits ---------------------------------------------------------------------------------------------------


def test_a_host_has_so_many_connections_and_no_more(tables: Tables, at: Clock) -> None:
    ids = [tables.queued(tables.job(name, host="pop.example.net")) for name in ("a", "b", "c")]
    elsewhere = tables.queued(tables.job("d", host="pop.example.org"))
    limits = {"pop.example.net": 2}
    first, _ = tables.claimed(ids[0], limits), tables.claimed(ids[1], limits)
    assert tables.queue.claim(ids[2], limits) is None
    put_off = tables.row(ids[2]).not_before
    assert put_off is not None
    assert timedelta(seconds=NO_PERMIT_S[0]) <= put_off - at.now <= timedelta(seconds=NO_PERMIT_S[1])
    assert tables.row(ids[2]).state is RunState.QUEUED
    assert job_resource(tables.id_of("c")) not in owned(tables.database)
    assert tables.claimed(elsewhere, limits)
    tables.queue.finish(first, DONE)
    at.now = put_off
    assert tables.claimed(ids[2], limits)
    assert permits_out(tables) == 2


def test_a_limit_is_for_all_ports_of_a_host(tables: Tables) -> None:
    """The identity of an account at a port of its own has the port behind the host."""
    hosts = ("pop.example.net", "pop.example.net:1100", "[2001:db8::1]:1100", "2001:db8::1")
    ids = [tables.queued(tables.job(f"job-{at}", host=host)) for at, host in enumerate(hosts)]
    limits = {"pop.example.net": 1, "2001:db8::1": 1}
    assert [tables.queue.claim(run_id, limits) is not None for run_id in ids] == [True, False, True, False]


def test_of_many_that_claim_at_once_as_many_are_let_in_as_may(tables: Tables, open_ledger: Opener) -> None:
    ids = [tables.queued(tables.job(f"job-{number}", host="pop.example.net")) for number in range(6)]
    others = [Tables(open_ledger()) for _ in ids]
    with ThreadPoolExecutor(6) as pool:
        found = list(
            pool.map(lambda pair: pair[0].queue.claim(pair[1], {"pop.example.net": 2}), zip(others, ids, strict=True))
        )
    assert len([it for it in found if it is not None]) == 2
    assert permits_out(tables) == 2


def test_a_permit_of_a_dead_worker_counts_until_its_run_is_taken_over(tables: Tables) -> None:
    limits = {"pop.example.net": 1}
    dead = tables.claimed(tables.queued(tables.job("a", host="pop.example.net")), limits)
    tables.die(dead)
    other = tables.queued(tables.job("b", host="pop.example.net"))
    assert tables.queue.claim(other, limits) is None  # its connection may be open yet
    again = tables.claimed(dead.claim.run_id, limits)
    assert permits_out(tables) == 1
    tables.queue.finish(again, DONE)
    assert permits_out(tables) == 0


def test_a_permit_of_an_older_claim_does_not_count(tables: Tables) -> None:
    limits = {"pop.example.net": 1}
    first = tables.claimed(tables.queued(tables.job("a", host="pop.example.net")), limits)
    tables.change(runs, first.claim.run_id, generation=9)
    assert tables.claimed(tables.queued(tables.job("b", host="pop.example.net")), limits)


# --- runs that wait ----------------------------------------------------------------------------------------------


def test_a_run_that_was_announced_is_left_to_its_message_for_a_while(tables: Tables, at: Clock) -> None:
    run_id = tables.queued(tables.job())
    assert tables.waiting() == []
    at.now += GRACE
    assert tables.waiting() == [run_id]


def test_a_run_by_hand_is_first_and_at_once(tables: Tables, at: Clock) -> None:
    first, second = tables.queued(tables.job("a")), tables.queued(tables.job("b"))
    at.now += GRACE
    by_hand = tables.queued(tables.job("c"), "hand")
    assert tables.waiting() == [by_hand, first, second]
    assert tables.waiting(limit=1) == [by_hand]


def test_a_run_that_a_command_works_on_itself_is_left_to_it_for_a_while(tables: Tables, at: Clock) -> None:
    """A worker that looked around in between took it, and `syncd run --here` ended with exit 10."""
    run_id = tables.queued(tables.job(), HERE)
    assert tables.waiting() == []
    at.now += GRACE
    assert tables.waiting() == [run_id]  # the command was killed


def test_runs_wait_in_the_order_of_their_time(tables: Tables, at: Clock) -> None:
    late = tables.queued(tables.job("late"), not_before=at.now + timedelta(seconds=20))
    early = tables.queued(tables.job("early"), not_before=at.now + timedelta(seconds=10))
    assert tables.queue.next_ready(OURS) == at.now + timedelta(seconds=10)
    at.later(seconds=30)
    assert tables.waiting() == [early, late]


def test_a_worker_sees_the_runs_of_its_sites(tables: Tables, at: Clock) -> None:
    here, there = tables.queued(tables.job("here", site="here")), tables.queued(tables.job("there", site="there"))
    anywhere = tables.queued(tables.job("anywhere"))
    at.now += GRACE
    assert tables.waiting(["", "here"]) == [here, anywhere]
    assert tables.waiting(["there"]) == [there]
    assert [it.site for it in tables.queue.waiting(["there"], 5)] == ["there"]
    assert tables.queue.next_ready(["nowhere"]) is None
    assert tables.queue.next_ready(["there"]) is not None


def test_a_paused_job_waits_and_a_person_does_not(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    run_id = tables.queued(job_id)
    assert control.pause(tables.database, job_id)
    at.now += GRACE
    assert (tables.waiting(), tables.queue.next_ready(OURS), tables.queue.claim(run_id)) == ([], None, None)
    tables.runs.urge(run_id, "hand")
    assert tables.waiting() == [run_id]
    claimed = tables.claimed(run_id)
    assert claimed.by_hand
    tables.queue.requeue(claimed)
    assert tables.waiting() == [run_id]
    tables.queue.finish(tables.claimed(run_id), DONE)
    assert control.resume(tables.database, job_id)


def test_a_person_may_urge_a_paused_run_that_has_begun(tables: Tables, at: Clock) -> None:
    """Otherwise `syncd run` would wait for it until the job is resumed. A server's patience is kept."""
    job_id = tables.job()
    claimed = tables.working(job_id)
    tables.queue.requeue(claimed, at.now + timedelta(seconds=30))
    control.pause(tables.database, job_id)
    tables.runs.urge(claimed.claim.run_id, "hand")
    assert tables.waiting() == []
    at.later(seconds=30)
    assert tables.waiting() == [claimed.claim.run_id]


def test_a_clock_that_was_set_back_keeps_no_run_back(tables: Tables, at: Clock) -> None:
    """The run was queued, and its time was set, a week ahead."""
    now = at.now
    at.later(days=7)
    run_id = tables.queued(tables.job("a"))
    waits = tables.queued(tables.job("b"), not_before=at.now + timedelta(seconds=10))
    at.now = now
    assert set(tables.waiting()) == {run_id, waits}
    assert tables.queue.claim(run_id) is not None
    assert tables.queue.claim(waits) is not None


# --- runs whose worker is gone -----------------------------------------------------------------------------------


def test_a_run_of_a_dead_process_is_found_at_once_and_taken_over(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    assert tables.waiting() == []
    tables.die(claimed)
    assert tables.waiting() == [claimed.claim.run_id]
    assert tables.waiting(["elsewhere"]) == []
    again = tables.claimed(claimed.claim.run_id)
    assert again.claim.generation == 2
    with pytest.raises(LeaseLost):
        tables.queue.finish(claimed, DONE)
    tables.queue.finish(again, DONE)


@pytest.mark.parametrize("facts", [{"host": "elsewhere"}, {"boot": "another"}, {"token": "frozen"}])
def test_a_run_whose_lease_ran_out_is_taken_over(tables: Tables, facts: dict[str, str]) -> None:
    """Its worker is on another machine, or on this one and frozen: only the lease tells."""
    claimed = tables.working(tables.job())
    tables.owned_by(claimed, **facts)
    assert (tables.waiting(), tables.queue.claim(claimed.claim.run_id)) == ([], None)
    tables.expire()
    assert tables.waiting() == [claimed.claim.run_id]
    again = tables.claimed(claimed.claim.run_id)
    for late in (lambda: tables.queue.finish(claimed, DONE), lambda: tables.queue.requeue(claimed)):
        with pytest.raises(LeaseLost):
            late()
    tables.queue.finish(again, DONE)


def test_after_three_deaths_a_run_is_closed_and_its_job_paused(tables: Tables) -> None:
    job_id = tables.job()
    claimed = tables.working(job_id)
    run_id = claimed.claim.run_id
    for _ in range(2):
        tables.die(claimed)
        claimed = tables.claimed(run_id)
    tables.die(claimed)
    assert tables.waiting() == [run_id]
    assert tables.queue.claim(run_id) is None
    row = tables.row(run_id)
    assert (row.state, row.exit_code, row.slices) == (RunState.ABANDONED, 1, 3)
    assert "died 3 times" in row.message
    assert row.finished_at is not None
    assert (tables.paused(job_id), tables.waiting()) == (Paused.DEATHS, [])
    assert control.resume(tables.database, job_id)
    tables.queue.finish(tables.working(job_id), DONE)


def test_a_slice_that_ends_well_forgets_deaths(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    for _ in range(4):
        tables.die(claimed)
        claimed = tables.claimed(claimed.claim.run_id)
        tables.queue.requeue(claimed)
        claimed = tables.claimed(claimed.claim.run_id)
    tables.queue.finish(claimed, DONE)


def test_a_lease_renewed_in_time_is_not_taken(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    other = tables.owned_by(claimed, host="elsewhere")
    tables.expire()
    with tables.database.write() as connection:
        ours = leases.update().where(leases.c.holder == str(other))
        connection.execute(ours.values(expires_at=leases.c.expires_at + 10**10))
    assert EXPIRY_S < 10**10
    assert tables.waiting() == [claimed.claim.run_id]  # so far ahead that no clock that is right has written it
    claimed.leases.renew()
    assert tables.waiting() == []
    assert tables.queue.claim(claimed.claim.run_id) is None


# --- what people ask ---------------------------------------------------------------------------------------------


def test_a_queued_run_is_cancelled_at_once(tables: Tables) -> None:
    run_id = tables.queued(tables.job())
    assert control.cancel(tables.database, run_id) == control.Cancelled(run_id, closed=True)
    row = tables.row(run_id)
    assert (row.state, row.exit_code, row.message) == (RunState.STOPPED, 130, CANCELLED)
    assert control.cancel(tables.database, run_id) is None
    assert tables.queue.claim(run_id) is None


def test_the_worker_of_a_run_is_asked_to_cancel_it(tables: Tables) -> None:
    claimed, other = tables.working(tables.job("a")), tables.working(tables.job("b"))
    claims = [claimed.claim, other.claim]
    assert tables.queue.requests(claims) == {}
    assert control.cancel(tables.database, claimed.claim.run_id) == control.Cancelled(
        claimed.claim.run_id, closed=False
    )
    assert tables.queue.requests(claims) == {claimed.claim.run_id: Request.CANCEL}
    assert tables.queue.requests([other.claim]) == {}
    assert tables.queue.requests([claimed.claim._replace(generation=9)]) == {}
    assert tables.row(claimed.claim.run_id).state is RunState.RUNNING


def test_a_wish_to_cancel_that_comes_when_the_slice_ends_is_kept(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    control.cancel(tables.database, claimed.claim.run_id)
    assert not tables.queue.requeue(claimed)
    row = tables.row(claimed.claim.run_id)
    assert (row.state, row.exit_code, row.message) == (RunState.STOPPED, 130, CANCELLED)
    assert owned(tables.database) == set()


def test_a_wish_to_cancel_outlives_the_worker(tables: Tables) -> None:
    claimed = tables.working(tables.job())
    control.cancel(tables.database, claimed.claim.run_id)
    tables.die(claimed)
    assert tables.waiting() == [claimed.claim.run_id]
    assert tables.queue.claim(claimed.claim.run_id) is None
    assert tables.row(claimed.claim.run_id).state is RunState.STOPPED


def test_a_run_under_way_is_asked_to_pause_unless_a_person_wanted_it(tables: Tables) -> None:
    ids = [tables.job("scheduled"), tables.job("by-hand")]
    scheduled, by_hand = tables.working(ids[0]), tables.claimed(tables.queued(ids[1], "hand"))
    for job_id in ids:
        assert control.pause(tables.database, job_id)
        assert not control.pause(tables.database, job_id)
    assert tables.queue.requests([scheduled.claim, by_hand.claim]) == {scheduled.claim.run_id: Request.PAUSE}
    assert {job_id: it.why for job_id, it in control.pauses(tables.database, ids).items()} == dict.fromkeys(
        ids, Paused.PERSON
    )
    assert control.resume(tables.database, ids[0])
    assert not control.resume(tables.database, ids[0])
    assert tables.queue.requests([scheduled.claim]) == {}


# --- refused sign-ins --------------------------------------------------------------------------------------------


def refuse(tables: Tables, job_id: int, times: int) -> Paused | None:
    """What the last refusal comes to."""
    paused = None
    for _ in range(times):
        paused = tables.queue.finish(tables.working(job_id), REFUSED)
    return paused


def test_after_five_refused_sign_ins_a_job_is_paused(tables: Tables) -> None:
    job_id = tables.job()
    assert refuse(tables, job_id, MAX_REFUSALS - 1) is None
    assert tables.paused(job_id) is None
    assert refuse(tables, job_id, 1) is Paused.SIGN_IN
    assert tables.paused(job_id) == Paused.SIGN_IN
    control.resume(tables.database, job_id)
    assert refuse(tables, job_id, MAX_REFUSALS - 1) is None


def test_a_success_forgets_refusals(tables: Tables) -> None:
    job_id = tables.job()
    refuse(tables, job_id, MAX_REFUSALS - 1)
    tables.queue.finish(tables.working(job_id), DONE)
    assert refuse(tables, job_id, MAX_REFUSALS - 1) is None


def test_a_changed_definition_lifts_a_pause_for_refused_sign_ins_and_no_other(tables: Tables) -> None:
    refused, by_person = tables.job("refused"), tables.job("by-person")
    refuse(tables, refused, MAX_REFUSALS)
    control.pause(tables.database, by_person)
    tables.job("unrelated")
    assert tables.paused(refused) == Paused.SIGN_IN
    tables.job("refused", text='{"new":"password"}')
    tables.job("by-person", text='{"new":"schedule"}')
    assert (tables.paused(refused), tables.paused(by_person)) == (None, Paused.PERSON)
    assert refuse(tables, refused, MAX_REFUSALS - 1) is None


# --- jobs that are not wanted any more -----------------------------------------------------------------------------


def test_what_is_queued_for_a_job_that_was_taken_out_is_closed(tables: Tables) -> None:
    job_id = tables.job("gone")
    run_id = tables.queued(job_id)
    tables.apply(definition("other"))
    row = tables.row(run_id)
    assert (row.state, row.exit_code) == (RunState.STOPPED, 130)
    assert "does not have this job" in row.message


def test_what_runs_for_a_job_that_was_taken_out_ends_with_its_slice(tables: Tables) -> None:
    claimed = tables.working(tables.job("gone"))
    tables.apply(definition("other"))
    assert tables.row(claimed.claim.run_id).state is RunState.RUNNING
    assert not tables.queue.requeue(claimed)
    assert tables.row(claimed.claim.run_id).state is RunState.STOPPED


def test_leases_of_others_put_a_run_off(tables: Tables) -> None:
    """The account is read by `syncd run` in a process of its own."""
    job_id = tables.job("road")
    claimed = tables.working(job_id)
    resources = [resource for resource, _ in claimed.leases.pairs if resource.startswith(account_resource.__name__[:7])]
    tables.queue.finish(claimed, DONE)
    run_id = tables.queued(job_id)
    with LeaseSet.acquire(tables.database, resources, "a test", renew_s=0):
        assert tables.queue.claim(run_id) is None
    assert tables.row(run_id).not_before is not None
    assert job_resource(job_id) not in owned(tables.database)
