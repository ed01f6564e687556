"""The history stays small, on both databases: what is thrown away, and what is kept for a reason."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Table, func, insert, select

from syncd import clock
from syncd.db import history, workers
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.leases import EXPIRY_S
from syncd.db.ledger import Ledger
from syncd.db.models import documents, permits, problems, run_notes, runs, uncertain_outcomes
from syncd.db.models import workers as process_rows
from syncd.db.queue import End
from syncd.db.rows import Progress, RunScope
from syncd.db.states import RunState
from tests.support.ledger import Bench, Clock, uids
from tests.support.service import DONE, Tables

KEEP = timedelta(days=90)
IDLE = End(RunState.DONE, 0, {}, succeeded=True, idle=True)


@pytest.fixture
def tables(database: Database, at: Clock) -> Tables:
    assert at.now
    return Tables(database)


def done(tables: Tables, job_id: int, end: End = DONE) -> int:
    claimed = tables.working(job_id)
    tables.queue.finish(claimed, end)
    return claimed.claim.run_id


def left(tables: Tables) -> list[int]:
    return sorted(run.id for run in tables.runs.history())


def rows(database: Database, table: Table) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def purge(tables: Tables, keep: timedelta = KEEP) -> int:
    return history.purge(tables.database, clock.now(), keep)


def test_a_run_that_nobody_will_ever_take_over_is_closed(tables: Tables, at: Clock) -> None:
    """Its worker died, and then its job was taken out of the configuration: it was shown as running for good."""
    dead, wanted, alive = (tables.working(tables.job(name)) for name in ("gone", "stays", "under way"))
    for claimed in (dead, wanted):
        tables.die(claimed)
    tables.apply(tables.applied["stays"])
    at.later(minutes=59)
    purge(tables)
    assert tables.row(dead.claim.run_id).state is RunState.RUNNING
    at.later(minutes=2)
    tables.expire()
    alive.leases.renew()
    purge(tables)
    row = tables.row(dead.claim.run_id)
    assert (row.state, row.exit_code, row.message) == (RunState.ABANDONED, 1, history.LEFT_BEHIND)
    assert tables.row(wanted.claim.run_id).state is RunState.RUNNING
    tables.queue.finish(alive, DONE)


def test_idle_runs_go_after_an_hour_and_the_newest_stays(tables: Tables, at: Clock) -> None:
    job_id, other = tables.job("a"), tables.job("b")
    ids = [done(tables, job_id, IDLE) for _ in range(3)]
    ids.append(done(tables, other, IDLE))
    assert purge(tables) == 0
    at.later(hours=1, seconds=1)
    assert purge(tables) == 2
    assert left(tables) == ids[2:]
    assert purge(tables) == 0


def test_runs_that_did_something_are_kept_for_long(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    old = [done(tables, job_id), done(tables, job_id, End(RunState.FAILED, 5, {}, "later"))]
    at.later(days=1)
    newer = done(tables, job_id)
    at.later(days=88, hours=23)
    assert purge(tables) == 0
    at.later(hours=2)
    assert purge(tables) == 2
    assert left(tables) == [newer]
    assert old[0] < newer
    at.later(days=900)
    assert (purge(tables), left(tables)) == (0, [newer])


def test_a_short_history_is_short_for_idle_runs_too(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    for _ in range(2):
        done(tables, job_id, IDLE)
    at.later(minutes=11)
    assert purge(tables, timedelta(minutes=10)) == 1


def test_open_runs_stay_however_old(tables: Tables, at: Clock) -> None:
    queued, running = tables.queued(tables.job("a")), tables.working(tables.job("b"))
    at.later(days=900)
    assert purge(tables) == 0
    assert left(tables) == [queued, running.claim.run_id]


def test_notes_and_permits_go_with_their_run(tables: Tables, at: Clock) -> None:
    job_id = tables.job()
    claimed = tables.claimed(tables.queued(job_id), {"road.example.net": 1})
    scope = RunScope(claimed.claim.run_id, claimed.claim.generation, job_id, 1, ())
    Ledger(tables.database, lambda _: None).report(scope, Progress("fetching", {}, ("a note", "another")))
    tables.queue.finish(claimed, DONE)
    with tables.database.write() as connection:  # as a worker left it that died between two runs
        values = {"subject": "host road.example.net", "run_id": claimed.claim.run_id, "generation": 1}
        connection.execute(insert(permits).values(values))
    newest = done(tables, job_id)
    assert rows(tables.database, run_notes) == 2
    at.later(days=91)
    assert purge(tables) == 1
    assert (left(tables), rows(tables.database, run_notes), rows(tables.database, permits)) == ([newest], 0, 0)


def test_runs_that_a_listing_or_a_message_names_stay(bench: Bench, at: Clock) -> None:
    """One run listed something new, one met a message that cannot be fetched, one does not know what became of mail."""
    listed = bench.job("s")
    bench.listed(listed, uids("a", "b"))
    met = bench.begin(listed)
    work = bench.work(met, uids("a", "b", "c"))
    bench.fail(met, work[b"a"].key)
    unsure = bench.begin(met)
    with bench.database.write() as connection:
        facts = {"message_id": work[b"b"].key, "route_id": listed.routes[0].id, "reason": "lost", "noted": False}
        connection.execute(
            insert(uncertain_outcomes).values(run_id=unsure.run.run_id, at=to_microseconds(at.now), **facts)
        )
    nothing = bench.begin(unsure)
    newest = bench.begin(nothing)
    for scope in (listed, met, unsure, nothing, newest):
        bench.change(runs, scope.run.run_id, state=RunState.DONE, finished_at=to_microseconds(at.now), idle=True)
    assert (rows(bench.database, problems), rows(bench.database, uncertain_outcomes)) == (1, 1)
    at.later(days=91)
    assert history.purge(bench.database, at.now, KEEP) == 1
    with bench.database.read() as connection:
        kept = set(connection.execute(select(runs.c.id)).scalars())
    assert kept == {it.run.run_id for it in (listed, met, unsure, newest)}


def test_many_runs_go_in_parts(tables: Tables, at: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "IN_LIST", 3)
    job_id = tables.job()
    ids = [done(tables, job_id, IDLE) for _ in range(11)]
    at.later(hours=2)
    assert purge(tables) == 10
    assert left(tables) == ids[-1:]


def test_documents_and_dead_processes_go_as_well(tables: Tables, at: Clock) -> None:
    tables.job("road")
    tables.job("road", text="{}")
    worker = workers.Worker(tables.working(tables.id_of("road")).leases.holder, "worker", ("",), 8, "1.0")
    with tables.database.write() as connection:
        workers.beat(connection, worker)
    assert (rows(tables.database, documents), len(workers.known(tables.database))) == (2, 1)
    purge(tables)
    assert (rows(tables.database, documents), len(workers.known(tables.database))) == (1, 1)
    with tables.database.write() as connection:
        connection.execute(process_rows.update().values(seen_at=process_rows.c.seen_at - 2 * workers.FORGET_S))
    assert EXPIRY_S < workers.FORGET_S
    purge(tables)
    assert workers.known(tables.database) == []
