"""What the ledger may cost: octets on the disk, memory, and steps of SQLite."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Select, event
from sqlalchemy.dialects import sqlite

from syncd.db.database import Database
from syncd.db.ledger import ListingSession, Stored, removal, work
from syncd.db.ledger.comparison import scratch
from syncd.db.ledger.scopes import in_present_epoch, of
from syncd.db.models import messages
from syncd.db.rows import MailboxScope
from syncd.mail.listing import LineNumber, Listed, Totals
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Uid
from tests.support.ledger import BEGIN, FIRST, Bench, add, box, outcome

OCTETS_A_MESSAGE = 200  # 10 million messages within 2 GB
MEMORY_KIB = 10 << 10  # more for 100,000 messages than for 1,000
STEPS_COUNTED = 100
# A statement that walks the wrong way takes ten times as many or more; these are twice what is needed.
FIRST_LISTING_STEPS = 600
SAME_LISTING_STEPS = 10
WORK_STEPS = 250
COMMIT_STEPS = 300
PROBLEM_STEPS = 400
ACCOUNT_STEPS = 800
DUE_STEPS = 250
QUIET_STEPS = 200  # for each mailbox that is as it was


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Database.open(None, tmp_path / "state") as database:
        yield Bench(database)


def take_in(session: ListingSession, count: int) -> Totals:
    """Lines as Dovecot writes them: a unique-id of 16 to 20 octets."""
    for start in range(1, count + 1, 1000):
        session.add(
            [
                Listed(LineNumber(number), Uid(b"%08x%08xabcd" % (number, 0x5F3A1B2C)), 2048)
                for number in range(start, start + 1000)
            ]
        )
    return Totals(count, count * 2048)


def deliver(bench: Bench, scope: MailboxScope, session: ListingSession) -> None:
    route, after = scope.routes[0].id, BEGIN
    while page := session.work(after, 1000):
        after = page[-1].number
        stored: list[Stored] = [(row.key, 2048, hashlib.sha256(row.uid).digest(), row.uid[:8]) for row in page]
        bench.ledger.commit(scope.run, stored, [(route, outcome(row.key)) for row in page], [])


def test_a_message_costs_few_octets_on_the_disk(bench: Bench) -> None:
    scope = bench.job()
    count = 30_000
    with bench.ledger.listing(scope) as session:
        session.record(take_in(session, count))
        deliver(bench, scope, session)
    with bench.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    assert pages * size / count < OCTETS_A_MESSAGE
    assert bench.ledger.accounting(scope.run).final == count


PROGRAM = """
import resource, sys, tests.unit.db.test_ledger_costs as costs
from pathlib import Path
with costs.Database.open(None, Path(sys.argv[1])) as database:
    bench = costs.Bench(database)
    scope = bench.job()
    with bench.ledger.listing(scope) as session:
        totals = costs.take_in(session, int(sys.argv[2]))
        session.overlap()
        session.record(totals)
        session.outlook(1 << 30)
        after = costs.BEGIN
        while page := session.work(after, 1000):
            after = page[-1].number
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(directory: Path, count: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory / str(count)), str(count)], capture_output=True, check=True
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_listing(tmp_path: Path) -> None:
    assert peak_kib(tmp_path, 100_000) - peak_kib(tmp_path, 1000) < MEMORY_KIB


def test_the_listing_is_kept_in_the_state_directory(bench: Bench, tmp_path: Path) -> None:
    with bench.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA temp_store").scalar_one() == 0  # a file
        assert connection.exec_driver_sql("PRAGMA temp_store_directory").scalar_one() == str(tmp_path / "state")


class Steps:
    """Counts the instructions of SQLite's machine, thousands at a time: the same on every machine, however busy."""

    def __init__(self, bench: Bench) -> None:
        self._count = 0
        bench.database.engine.dispose()
        event.listen(bench.database.engine, "connect", self._watch)

    def _watch(self, connection: sqlite3.Connection, _: object) -> None:
        connection.set_progress_handler(self._tick, STEPS_COUNTED)

    def _tick(self) -> int:
        self._count += STEPS_COUNTED
        return 0

    def taken(self) -> int:
        """Since it was asked last."""
        count, self._count = self._count, 0
        return count


def test_statements_take_few_steps_a_message(bench: Bench) -> None:
    scope = bench.job()
    count = 20_000
    steps = Steps(bench)
    with bench.ledger.listing(scope) as session:
        totals = take_in(session, count)
        session.record(totals)
        assert 10 < steps.taken() / count < FIRST_LISTING_STEPS
        page = session.work(BEGIN, 1000)
        page = session.work(LineNumber(5000), 5000)
        assert 10 < steps.taken() / 6000 < WORK_STEPS
        deliver(bench, scope, session)
    with bench.ledger.listing(scope) as session:
        take_in(session, count)
        steps.taken()
        assert session.record(totals).unchanged
        assert steps.taken() / count < SAME_LISTING_STEPS
    rows = page[:1000]
    stored: list[Stored] = [(row.key, 2048, hashlib.sha256(row.uid).digest(), row.uid[:8]) for row in rows]
    assert bench.ledger.rebind(scope, stored) == {}
    assert steps.taken() < len(rows)  # asked with each batch: must not grow with the mailbox
    outcomes = [(scope.routes[0].id, outcome(row.key)) for row in rows]
    bench.refill(scope.routes[0])
    steps.taken()
    bench.ledger.commit(scope.run, stored, outcomes, [])
    assert 10 < steps.taken() / len(rows) < COMMIT_STEPS


def plan(bench: Bench, query: Select[tuple[object, ...]]) -> str:
    """The steps that SQLite takes."""
    asked = query.params(after=0, limit=1000, now=1, before=1, mailbox=1, routes=[1])
    text = str(asked.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    with bench.database.session() as session, bench.database.read(session) as connection:
        scratch.create(connection)
        return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))


def test_sqlite_begins_where_there_are_few_rows(bench: Bench) -> None:
    scope = bench.job("as")
    assert "SEARCH deliveries USING INDEX ix_deliveries_open (route_id=?)" in plan(bench, work.ANY_OPEN)
    assert "deliveries USING INDEX ix_deliveries_open (route_id=? AND message_id>?)" in plan(
        bench, work.backfill(scope.run)
    )
    steps = plan(bench, work.work(scope.run)).splitlines()
    assert steps[1:3] == [
        "SEARCH scratch USING INTEGER PRIMARY KEY (rowid>?)",
        "SEARCH deliveries USING PRIMARY KEY (message_id=? AND route_id=?) LEFT-JOIN",
    ]
    removable = removal._done_with([1], [1], None, messages).where(of(scope.run), in_present_epoch())
    assert plan(bench, removable).startswith("SEARCH messages USING INDEX ix_messages_present (mailbox_id=?)")
    here = removal._done_with([1], [1], None, messages).where(messages.c.mailbox_id == 1, messages.c.epoch == 1)
    assert plan(bench, here).startswith("SEARCH messages USING INDEX ix_messages_present (mailbox_id=?)")


def test_a_list_of_what_may_be_there_twice_takes_as_many_steps_a_line_however_long_it_is(bench: Bench) -> None:
    """Each page grouped all that was left: 100,000 lines took 18 s, and would have taken half an hour for a million."""
    scope = bench.job("as")
    with bench.ledger.listing(scope) as session:
        session.record(take_in(session, 5000))
        deliver(bench, scope, session)
    relay = scope.routes[1].id
    with bench.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO uncertain_outcomes (message_id, route_id, run_id, at, reason, noted)"
            f" SELECT id, {relay}, {scope.run.run_id}, 1, 'no reply', id % 10 = 0 FROM messages, (VALUES (1), (2))"
        )
        connection.exec_driver_sql(f"UPDATE deliveries SET state = 2 WHERE route_id = {relay}")
    steps = Steps(bench)
    found = list(bench.ledger.problems(scope.run.job_id))
    assert [row.key for row in found] == [key for key in range(1, 5001) if key % 10]
    assert {row.uncertain for row in found} == {2}
    assert 10 < steps.taken() / len(found) < PROBLEM_STEPS


def test_what_is_asked_of_a_whole_account_costs_the_same_in_many_mailboxes(bench: Bench) -> None:
    """Each mailbox is found by an index, and no message is looked at that is in none of them."""
    scope, stranger = bench.job("as"), bench.job("as")
    mailboxes = [scope, *(bench.mailbox(scope, box(b"M%d" % number)) for number in range(19))]
    for each, count in (*((each, 1000) for each in mailboxes), (stranger, 5000)):
        with bench.ledger.listing(each) as session:
            session.record(take_in(session, count))
            deliver(bench, each, session)
    run, count, steps = scope.run, 20_000, Steps(bench)
    assert bench.ledger.accounting(run).listed == count
    assert 10 < steps.taken() / count < ACCOUNT_STEPS
    assert bench.ledger.queues(run) == {scope.routes[1].name: count}
    assert 10 < steps.taken() / count < DUE_STEPS
    assert bench.ledger.removals.due(run, None) == {}
    assert 10 < steps.taken() / count < DUE_STEPS
    assert len(bench.ledger.backfill(run, FIRST, 1000)) == 1000
    assert 10 < steps.taken() / count < DUE_STEPS
    assert not bench.ledger.any_problem(run)
    assert bench.ledger.mailboxes.unlisted(run, {each.mailbox_id for each in mailboxes}) == []
    assert steps.taken() < count / 10


def test_quiet_mailboxes_cost_little(bench: Bench) -> None:
    """Ten thousand of them, every 15 minutes: no transaction, and few steps for each."""
    scope = bench.job("as")
    listed = [box(b"M%d" % number, contents=b"1 1", validity=Epoch(7)) for number in range(300)]
    for known in bench.ledger.mailboxes.known(scope.run, listed):
        bench.pull(known.scope, [(b"1", 10)])
    steps, transactions = Steps(bench), bench.fenced
    found = bench.ledger.mailboxes.known(scope.run, listed)
    assert all(known.planned and not known.is_open for known in found)
    assert bench.ledger.mailboxes.unlisted(scope.run, {known.scope.mailbox_id for known in found}) == []
    assert steps.taken() / len(listed) < QUIET_STEPS
    assert bench.fenced == transactions


def test_a_poll_that_finds_nothing_new_writes_nothing_and_asks_little(bench: Bench) -> None:
    scope = bench.job("as")
    bench.pull(scope, [(b"a", 10), (b"b", 10)])
    asked: list[str] = []
    event.listen(bench.database.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    transactions = bench.fenced
    (known,) = bench.ledger.mailboxes.known(scope.run, [scope.mailbox])
    assert bench.ledger.mailboxes.unlisted(scope.run, {scope.mailbox_id}) == []
    with bench.ledger.listing(known.scope) as session:
        add(session, [(b"a", 10), (b"b", 10)])
        assert session.suspects(BEGIN, 1000) == []
        assert session.overlap() == (2, 2, 2)
        assert session.record(Totals(2, 20)).unchanged
    assert bench.fenced == transactions
    assert not [statement for statement in asked if not statement.startswith(("BEGIN", "SELECT"))]
    assert "BEGIN IMMEDIATE" not in asked
    assert len([statement for statement in asked if statement.startswith("SELECT")]) <= 8
