"""Figures of the service on both databases: what is counted, and that they go by indexes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from syncd.db import figures, workers
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.instants import to_microseconds
from syncd.db.leases import LEADER, LeaseSet
from syncd.db.models import definitions, documents, jobs, runs
from syncd.db.rows import Paused
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.settings.quiet import late_since
from tests.support.ledger import Bench, Clock


def define(
    bench: Bench,
    *,
    due_in: timedelta | None = None,
    late_after_s: int | None = None,
    quiet_hours: str = "",
    site: str = "",
    **job: object,
) -> int:
    """A job that was applied now, with values of its row."""
    from syncd import clock

    account = bench.account()
    values = {"name": f"job{next(bench.names)}", "configuration": "home", "removes": False, "enabled": True, **job}
    job_id = bench.insert(jobs, account_id=account, **values)
    digest = job_id.to_bytes(32)
    with bench.database.write() as connection:
        connection.execute(insert(documents).values(digest=digest, text="{}"))
        connection.execute(
            insert(definitions).values(
                job_id=job_id,
                digest=digest,
                site=site,
                schedule="every 15 minutes",
                timezone="UTC",
                jitter_s=0,
                quiet_hours=quiet_hours,
                late_after_s=late_after_s,
                next_due=None if due_in is None else to_microseconds(clock.now() + due_in),
                applied_at=to_microseconds(clock.now()),
            )
        )
    return job_id


def succeeded(bench: Bench, at: Clock, job_id: int) -> None:
    with bench.database.write() as connection:
        now = to_microseconds(at.now)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(succeeded_at=now))


def test_an_empty_service(database: Database) -> None:
    found = figures.figures(database, late_since)
    assert (found.queued, found.running, found.jobs, found.late, found.leads) == (0, 0, 0, 0, False)
    assert found.living == {"worker": 0, "scheduler": 0}
    assert (found.oldest_success, found.named, found.paused) == (None, (), {})


def test_open_runs_and_how_long_they_wait(bench: Bench, at: Clock) -> None:
    queue = Runs(bench.database)
    first, second, third, fourth = (define(bench) for _ in range(4))
    queue.enqueue(first, "schedule")
    at.now += timedelta(seconds=10)
    queue.enqueue(second, "schedule", not_before=at.now + timedelta(hours=1))
    running = queue.enqueue(third, "hand")
    assert running is not None
    assert queue.claim(running, Holder.me("a test")) is not None
    paused = queue.enqueue(fourth, "schedule", not_before=at.now - timedelta(hours=1))
    assert paused is not None
    bench.change(jobs, fourth, paused_since=1, paused_why=Paused.PERSON)
    found = figures.figures(bench.database, late_since)
    assert (found.queued, found.running, found.oldest_ready_s) == (3, 1, 10.0)
    bench.change(runs, running, state=RunState.DONE)
    assert figures.figures(bench.database, late_since).running == 0


def test_a_due_time_that_nobody_has_seen(bench: Bench, at: Clock) -> None:
    define(bench, due_in=timedelta(minutes=1))
    define(bench, due_in=timedelta(minutes=5))
    assert figures.figures(bench.database, late_since).overdue_s == 0
    at.now += timedelta(minutes=1, seconds=30)
    assert figures.figures(bench.database, late_since).overdue_s == 30


def test_lateness_counts_from_the_last_success_else_from_when_the_job_was_applied(bench: Bench, at: Clock) -> None:
    never, once = define(bench, late_after_s=3600), define(bench, late_after_s=3600)
    paused, free = define(bench, late_after_s=60), define(bench)
    bench.change(jobs, paused, paused_since=1, paused_why=Paused.SIGN_IN)
    at.now += timedelta(minutes=30)
    succeeded(bench, at, once)
    assert figures.figures(bench.database, late_since).late == 0
    at.now += timedelta(minutes=31)
    found = figures.figures(bench.database, late_since)
    assert (found.jobs, found.late, found.latest_s) == (4, 1, 60.0)
    assert {row.job: row.late_s for row in found.named if row.late_s} == {name_of(bench, never): 60.0}
    assert found.paused == {Paused.SIGN_IN: 1}
    at.now += timedelta(minutes=31)
    found = figures.figures(bench.database, late_since)
    assert (found.late, found.latest_s) == (2, 1920.0)
    assert {row.job for row in found.named if row.succeeded_at} == {name_of(bench, once)}
    succeeded(bench, at, free)
    assert (at.now - (figures.figures(bench.database, late_since).oldest_success or at.now)).total_seconds() == 62 * 60


def name_of(bench: Bench, job_id: int) -> str:
    with bench.database.read() as connection:
        return str(connection.execute(jobs.select().where(jobs.c.id == job_id)).one().name)


def test_quiet_hours_are_no_lateness(bench: Bench, at: Clock) -> None:
    """The clock begins at 12:00."""
    define(bench, late_after_s=3600, quiet_hours="12:30-20:00")
    at.now += timedelta(hours=8)
    assert figures.figures(bench.database, late_since).late == 0
    define(bench, late_after_s=60)
    at.now += timedelta(minutes=45)
    found = figures.figures(bench.database, late_since)
    assert (found.late, found.latest_s) == (2, 44 * 60.0)
    assert [row.late_s for row in found.named] == [15 * 60.0, 44 * 60.0]


def test_jobs_in_trouble_and_disabled_jobs(bench: Bench, at: Clock) -> None:
    define(bench, trouble="4 refused")
    define(bench, trouble="4 refused", enabled=False)
    found = figures.figures(bench.database, late_since)
    assert (found.jobs, found.in_trouble, len(found.named)) == (1, 1, 1)


def test_only_some_jobs_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "NAMED_JOBS", 2)
    for _ in range(3):
        define(bench)
    found = figures.figures(bench.database, late_since)
    assert (found.jobs, len(found.named)) == (3, 2)


def test_processes_and_the_leader(database: Database) -> None:
    me = workers.Worker(Holder.me("worker"), "worker", ("",), 8, "1")
    other = workers.Worker(Holder.me("scheduler"), "scheduler", (), 0, "1")
    with database.write() as connection:
        workers.beat(connection, me)
        workers.beat(connection, other)
    with LeaseSet.acquire(database, [LEADER], "scheduling", renew_s=0):
        found = figures.figures(database, late_since)
    assert (found.leads, found.living) == (True, {"worker": 1, "scheduler": 1})
    assert figures.figures(database, late_since).leads is False


def test_the_clock_of_the_database_is_near_ours(database: Database) -> None:
    with database.read() as connection:
        assert abs(figures.clock_difference(connection)) < 5
        assert figures.schema_is_right(connection)


def test_nothing_reads_all_runs(bench: Bench, at: Clock) -> None:
    """SQLite's plan of every statement: tables that grow with history are only searched."""
    if not bench.database.is_sqlite:
        pytest.skip("the plan of SQLite says what is read; PostgreSQL's depends on how much there is")
    statements: list[tuple[str, Any]] = []
    event.listen(
        bench.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, _context, _many: statements.append((statement, parameters)),
    )
    figures.figures(bench.database, late_since)
    asked = [it for it in statements if it[0].startswith("SELECT")]
    assert len(asked) >= 6
    with bench.database.read() as connection:
        for statement, parameters in asked:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                detail = str(row[3])
                assert not detail.startswith("SCAN runs") or "USING" in detail, (statement, detail)
                assert "messages" not in detail
    with bench.database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
