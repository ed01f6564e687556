"""Definitions on both databases: what `apply` changes and leaves, and runs that are queued because their time came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from syncd.db import control, definitions
from syncd.db import due as due_times
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.definitions import Applied, Definition
from syncd.db.due import Due, Next, Queued
from syncd.db.models import accounts, documents, jobs, runs
from syncd.db.names import Owner
from syncd.db.queue import Queue
from syncd.db.states import RunState
from syncd.errors import Locked
from tests.contract.conftest import ENGINES, Opener
from tests.support.ledger import Clock
from tests.support.service import DONE, HOME, Tables, definition

HOUR = timedelta(hours=1)
OTHER = Owner("other", lambda name: name == "other")


@pytest.fixture
def tables(database: Database, at: Clock) -> Tables:
    assert at.now
    return Tables(database)


def enabled(database: Database) -> dict[tuple[str, str], bool]:
    with database.read() as connection:
        found = connection.execute(select(jobs.c.configuration, jobs.c.name, jobs.c.enabled)).all()
    return {(row.configuration, row.name): row.enabled for row in found}


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are sent in the block; the rows of one INSERT or UPDATE are one."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine, "before_cursor_execute", note)


# --- apply -------------------------------------------------------------------------------------------------------


def test_what_is_new_changed_and_gone(tables: Tables) -> None:
    first = [definition("a"), definition("b"), definition("c")]
    assert tables.apply(*first) == Applied(["a", "b", "c"], [], [])
    assert tables.apply(*first) == Applied([], [], [])
    changed = definition("b", text="{}", site="host-a", schedule="every hour")
    assert tables.apply(first[0], changed, definition("d")) == Applied(["d"], ["b"], ["c"])
    assert definitions.digests(tables.database, HOME) == {
        "a": first[0].digest,
        "b": changed.digest,
        "d": definition("d").digest,
    }
    assert definitions.document(tables.database, changed.digest) == "{}"
    assert definitions.document(tables.database, bytes(32)) is None
    assert enabled(tables.database)["home", "c"] is False


def test_nothing_is_written_where_nothing_changed(tables: Tables) -> None:
    wanted = [definition(f"job-{number}") for number in range(5)]
    tables.apply(*wanted)
    with counted(tables.database) as sent:
        tables.apply(*wanted)
    assert [line for line in sent if line.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))] == []


def test_a_job_that_comes_back_keeps_its_row(tables: Tables) -> None:
    tables.apply(definition("a"), definition("b"))
    job_id = tables.id_of("a")
    run_id = tables.working(job_id)
    tables.queue.finish(run_id, DONE)
    assert tables.apply(definition("b")) == Applied([], [], ["a"])
    assert tables.apply(definition("b")) == Applied([], [], [])
    assert definitions.digests(tables.database, HOME).keys() == {"b"}
    assert tables.apply(definition("a"), definition("b")) == Applied(["a"], [], [])
    assert (tables.id_of("a"), enabled(tables.database)["home", "a"]) == (job_id, True)
    assert len(tables.runs.history([job_id])) == 1


def test_a_job_that_ran_before_it_was_applied_is_the_same(tables: Tables) -> None:
    catalog = Catalog(tables.database, HOME)
    account = catalog.account("road", "pop3", "road.example.net", "road")
    job = catalog.job("road", account.id, [], removes=False)
    assert tables.apply(definition("road")) == Applied(["road"], [], [])
    assert tables.id_of("road") == job.id
    with tables.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(accounts)).scalar_one() == 1


def test_another_configuration_is_left_alone(tables: Tables) -> None:
    mine, theirs = definition("road"), definition("road", text="{}")
    tables.apply(mine)
    assert tables.apply(theirs, definition("own"), owner=OTHER) == Applied(["road", "own"], [], [])
    assert tables.apply() == Applied([], [], ["road"])
    assert definitions.digests(tables.database, OTHER) == {"road": theirs.digest, "own": definition("own").digest}
    assert enabled(tables.database) == {("home", "road"): False, ("other", "road"): True, ("other", "own"): True}
    with tables.database.read() as connection:  # one mailbox, whoever reads it
        assert connection.execute(select(func.count()).select_from(accounts)).scalar_one() == 2


def test_a_configuration_takes_over_the_jobs_of_one_that_is_over(tables: Tables) -> None:
    """Its file was moved, or it was given a name."""
    tables.apply(definition("road"))
    job_id = tables.id_of("road")
    moved = Owner("moved", lambda name: name in {"moved", "home"})
    assert tables.apply(definition("road", text="{}"), owner=moved) == Applied([], ["road"], [])
    with tables.database.read() as connection:
        assert connection.execute(select(jobs.c.id)).scalars().all() == [job_id]


def test_two_jobs_that_share_an_account(tables: Tables) -> None:
    tables.apply(definition("a", user="road"), definition("b", user="road"))
    tables.apply(definition("a", user="road"), definition("b", user="road"), definition("c", user="road"))
    with tables.database.read() as connection:
        found = connection.execute(select(jobs.c.account_id, accounts.c.name).join(accounts)).all()
    assert len(found) == 3
    assert set(found) == {(found[0].account_id, "road")}


def test_two_that_apply_at_once_write_it_once(tables: Tables, open_ledger: Opener) -> None:
    wanted = [definition(f"job-{number}") for number in range(20)]
    other = Tables(open_ledger())
    assert tables.apply(*wanted).added == [it.job for it in wanted]
    assert other.apply(*wanted) == Applied([], [], [])


def test_thousands_of_jobs_take_few_statements(tables: Tables) -> None:
    wanted = [definition(f"job-{number:04}", schedule="every hour") for number in range(2000)]
    due = datetime.fromisoformat("2026-03-01T13:00:00+00:00")
    with counted(tables.database) as sent:
        applied = tables.apply(*wanted, following=lambda _: due)
    assert (len(applied.added), len(sent) < 60) == (2000, True), len(sent)
    assert due_times.next_due(tables.database) == due
    changed = [definition(it.job, text=f'{{"{it.job}":2}}') for it in wanted]
    with counted(tables.database) as sent:
        assert len(tables.apply(*changed).changed) == 2000
    assert len(sent) < 60
    with counted(tables.database) as sent:
        assert len(tables.apply().disabled) == 2000
    assert len(sent) < 60
    assert due_times.next_due(tables.database) is None


def test_more_names_than_a_statement_takes(database: Database) -> None:
    """65,535 parameters are PostgreSQL's limit, 32,766 SQLite's."""
    catalog = Catalog(database, HOME)
    account = catalog.account("road", "pop3", "road.example.net", "road")
    catalog.job("here", account.id, [], removes=False)
    catalog.job("gone", account.id, [], removes=False)
    live: dict[str, Sequence[tuple[str, str]]] = {f"job-{number}": () for number in range(70_000)}
    catalog.retire({**live, "here": ()})
    assert enabled(database) == {("home", "here"): True, ("home", "gone"): False}


def test_a_time_that_has_come_outlives_a_change_of_the_definition(tables: Tables, at: Clock) -> None:
    """The service was down for a night, and is started with an edited file: the run that catches up was lost."""
    due = at.now + HOUR
    wanted = [definition(name, schedule="at 02:00") for name in ("road", "by hand now")]
    tables.apply(*wanted, following=lambda _: due)
    at.later(hours=6)
    changed = [definition("road", schedule="at 03:00", text="{}"), definition("by hand now", text="[]")]
    tables.apply(*changed, following=lambda it: at.now + 20 * HOUR if it.schedule else None)
    queued, _ = due_times.queue_due(tables.database, at.now, lambda *_: Next(at.now + 20 * HOUR))
    assert [(tables.row(run.run_id).job, run.due_at) for run in queued] == [("road", due)]


def test_a_changed_definition_is_due_anew(tables: Tables, at: Clock) -> None:
    asked: list[str] = []

    def following(it: Definition) -> datetime:
        asked.append(it.job)
        return at.now + HOUR

    tables.apply(definition("a", schedule="daily"), definition("b", schedule="daily"), following=following)
    at.later(minutes=30)
    tables.apply(definition("a", schedule="daily"), definition("b", text="{}", schedule="hourly"), following=following)
    assert asked == ["a", "b", "b"]
    assert due_times.next_due(tables.database) == at.now + timedelta(minutes=30)


def test_documents_that_nothing_names_are_thrown_away(tables: Tables) -> None:
    tables.job("road")
    old = tables.applied["road"].digest
    claimed = tables.working(tables.id_of("road"))
    tables.job("road", text="{}")
    new = tables.applied["road"].digest

    def purged() -> tuple[int, list[bytes]]:
        with tables.database.write() as connection:
            gone = definitions.purge_documents(connection)
            return gone, sorted(bytes(it) for it in connection.execute(select(documents.c.digest)).scalars())

    assert purged() == (0, sorted([old, new]))  # the run under way goes on with it
    tables.queue.finish(claimed, DONE)
    assert purged() == (1, [new])


# --- due times ---------------------------------------------------------------------------------------------------


def hourly(due: Due, until: datetime) -> Next:
    """Due each hour from the time that is noted; those that have passed are missed."""
    assert due.next_due is not None
    missed = (until - due.next_due) // HOUR
    return Next(due.next_due + (missed + 1) * HOUR, missed)


@pytest.fixture
def scheduled(tables: Tables, at: Clock) -> Tables:
    """Jobs that are due in an hour, and one without a schedule."""
    wanted = [definition("a", schedule="hourly"), definition("b", schedule="hourly", site="host-b"), definition("c")]
    tables.apply(*wanted, following=lambda it: at.now + HOUR if it.schedule else None)
    return tables


def missed(tables: Tables, run_id: int) -> int:
    number: int = tables.value(runs, "missed", run_id)
    return number


def test_nothing_is_due_before_its_time(scheduled: Tables, at: Clock) -> None:
    assert due_times.next_due(scheduled.database) == at.now + HOUR
    at.later(minutes=59)
    assert due_times.count_due(scheduled.database, at.now) == 0
    assert due_times.queue_due(scheduled.database, at.now, hourly) == ([], False)


def test_a_due_time_has_one_run(scheduled: Tables, at: Clock) -> None:
    at.later(hours=1)
    assert due_times.count_due(scheduled.database, at.now) == 2
    queued, more = due_times.queue_due(scheduled.database, at.now, hourly)
    assert ([it.site for it in queued], more) == (["", "host-b"], False)
    assert [(it.due_at, it.at_once) for it in queued] == [(at.now, True)] * 2
    assert due_times.queue_due(scheduled.database, at.now, hourly) == ([], False)
    assert due_times.next_due(scheduled.database) == at.now + HOUR
    row = scheduled.row(queued[0].run_id)
    assert (row.job, row.state, row.trigger, row.due_at) == ("a", RunState.QUEUED, "schedule", at.now)
    assert (row.not_before, missed(scheduled, row.id)) == (None, 0)


def test_a_run_that_must_not_begin_yet_is_not_announced(scheduled: Tables, at: Clock) -> None:
    at.later(hours=1)
    later = at.now + timedelta(minutes=5)
    queued, _ = due_times.queue_due(scheduled.database, at.now, lambda *_: Next(None, 0, later))
    assert [it.at_once for it in queued] == [False, False]
    assert scheduled.row(queued[0].run_id).not_before == later
    assert due_times.next_due(scheduled.database) is None


def test_what_was_missed_is_counted_in_the_one_run_that_covers_it(scheduled: Tables, at: Clock) -> None:
    due_at = at.later(hours=1)
    at.later(hours=5)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [it.due_at for it in queued] == [due_at, due_at]
    assert [missed(scheduled, it.run_id) for it in queued] == [5, 5]
    assert due_times.next_due(scheduled.database) == at.now + HOUR


def test_a_job_has_no_second_run_while_it_has_an_open_one(scheduled: Tables, at: Clock) -> None:
    at.later(hours=1)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    first = scheduled.claimed(queued[0].run_id)
    scheduled.queue.finish(scheduled.claimed(queued[1].run_id), DONE)
    at.later(hours=3)
    second, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [it.site for it in second] == ["host-b"]
    assert missed(scheduled, first.claim.run_id) == 3
    scheduled.queue.finish(first, DONE)
    at.later(hours=1)
    third, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [scheduled.row(it.run_id).job for it in third] == ["a"]


def test_a_run_by_hand_covers_a_due_time(scheduled: Tables, at: Clock) -> None:
    by_hand = scheduled.queued(scheduled.id_of("a"), "hand")
    at.later(hours=1)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [it.site for it in queued] == ["host-b"]
    assert missed(scheduled, by_hand) == 1


@pytest.mark.parametrize("database_url", ENGINES[1:], indirect=True)
def test_a_due_time_is_not_lost_where_the_open_run_ends_at_that_moment(
    tables: Tables, at: Clock, database_url: str, tmp_path: Path
) -> None:
    """The job had no run then: one that is due each night was not looked at for two days."""
    tables.apply(definition("a", schedule="hourly"), following=lambda _: at.now + HOUR)
    open_run = tables.working(tables.id_of("a"))
    at.later(hours=3)
    tried: list[str] = []
    with Database.open(database_url, tmp_path / "state", busy_s=0.01) as other:  # it gives up where the row is locked

        def end_the_run(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith(("INSERT", "UPDATE")) and not tried:
                tried.append(statement)
                with suppress(Locked):
                    Queue(other).finish(open_run, DONE)

        event.listen(tables.database.engine, "after_cursor_execute", end_the_run)
        due_times.queue_due(tables.database, at.now, hourly)
    assert tried
    assert sum(run.missed + (run.due_at is not None) for run in tables.runs.history()) == 3


def test_paused_jobs_get_no_runs_and_no_catching_up(scheduled: Tables, at: Clock) -> None:
    job_id = scheduled.id_of("a")
    control.pause(scheduled.database, job_id)
    at.later(hours=4)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [it.site for it in queued] == ["host-b"]
    assert scheduled.runs.history([job_id]) == []
    control.resume(scheduled.database, job_id)
    assert due_times.queue_due(scheduled.database, at.now, hourly) == ([], False)
    at.later(hours=1)
    assert missed(scheduled, due_times.queue_due(scheduled.database, at.now, hourly)[0][0].run_id) == 0
    assert scheduled.paused(job_id) is None


def test_disabled_jobs_get_no_runs(scheduled: Tables, at: Clock) -> None:
    scheduled.change(jobs, scheduled.id_of("a"), enabled=False)
    at.later(hours=1)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert [it.site for it in queued] == ["host-b"]


def test_of_schedulers_that_queue_at_once_each_due_time_has_one_run(
    scheduled: Tables, at: Clock, open_ledger: Opener
) -> None:
    """One of them was frozen and does not know that another one leads."""
    at.later(hours=1)
    other = open_ledger()

    first, _ = due_times.queue_due(other, at.now, hourly)
    second, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    assert (len(first), second) == (2, [])
    assert [missed(scheduled, it.run_id) for it in first] == [0, 0]


def test_a_due_time_that_had_its_run_gets_no_other_when_the_clock_goes_back(scheduled: Tables, at: Clock) -> None:
    start = at.now
    at.later(hours=1)
    queued, _ = due_times.queue_due(scheduled.database, at.now, hourly)
    for it in queued:
        scheduled.queue.finish(scheduled.claimed(it.run_id), DONE)
    at.now = start
    assert due_times.bring_forward(scheduled.database, lambda _: start + HOUR) == 2
    at.later(hours=1)
    assert due_times.queue_due(scheduled.database, at.now, hourly) == ([], False)
    assert len(scheduled.runs.history()) == 2
    at.later(hours=1)
    assert len(due_times.queue_due(scheduled.database, at.now, hourly)[0]) == 2


def test_due_times_are_brought_forward_and_never_put_off(scheduled: Tables, at: Clock) -> None:
    scheduled.job("d", schedule="hourly")
    times: Mapping[str, datetime] = {"a": at.now + timedelta(minutes=1), "b": at.now + 9 * HOUR, "d": at.now + HOUR}
    scheduled.apply(*[definition(name, schedule="hourly", text=f"{{}}{name}") for name in times],
                    following=lambda it: None if it.job == "d" else at.now + HOUR)  # fmt: skip
    assert due_times.bring_forward(scheduled.database, lambda due: times[due.job]) == 2
    assert due_times.next_due(scheduled.database) == times["a"]
    assert due_times.count_due(scheduled.database, at.now + HOUR) == 3


def test_many_that_are_due_are_queued_in_parts(tables: Tables, at: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_times, "DUE_AT_ONCE", 4)
    wanted = [definition(f"job-{number}", schedule="hourly") for number in range(10)]
    tables.apply(*wanted, following=lambda _: at.now)
    queue = partial(due_times.queue_due, tables.database, at.now, hourly)
    found: list[tuple[list[Queued], bool]] = [queue() for _ in range(4)]
    assert [(len(queued), more) for queued, more in found] == [(4, True), (4, True), (2, False), (0, False)]
    assert due_times.bring_forward(tables.database, lambda _: at.now) == 10
