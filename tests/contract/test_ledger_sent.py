"""What was sent to an account lately, by whichever job."""

from __future__ import annotations

from sqlalchemy import select

from syncd.db.ledger.sent import sent_since
from syncd.db.models import routes
from tests.contract.test_ledger_seeding import places
from tests.support.ledger import START, Bench, Clock, uids

DAY = 86_400


def account_of(bench: Bench, route_id: int) -> int:
    with bench.database.read() as connection:
        return int(connection.execute(select(routes.c.account_id).where(routes.c.id == route_id)).scalar_one())


def test_what_left_counts_and_what_did_not_does_not(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    rows = bench.work(scope, uids("a", "b", "c", "d", "e"))
    for number, (uid, letter) in enumerate(zip((b"a", b"b", b"c", b"d"), "dulr", strict=True)):
        at.now = START.replace(minute=number)
        bench.sending(scope, (rows[uid].key, scope.routes[1].id))
        bench.commit(scope, rows[uid], f"d{letter}")
    account = account_of(bench, scope.routes[1].id)
    start = START.timestamp()
    assert sent_since(bench.database, account, start, 10) == [start, start + 60]
    assert sent_since(bench.database, account, start + 60, 10) == [start + 60]
    assert sent_since(bench.database, account, start, 1) == [start + 60], "the newest"
    assert sent_since(bench.database, account + 1, start, 10) == []


def test_what_a_lost_ledger_may_have_sent_is_not_counted(bench: Bench, at: Clock) -> None:
    """It was held at the instant of the first run, and used up a day's limit with nothing sent."""
    scope = bench.job("as")
    bench.ledger.archives.seed(scope.run, scope.routes[0].id, places(b"a", b"b", b"c"))
    assert bench.delivery_states(scope) == {b"a": "DH", b"b": "DH", b"c": "DH"}
    assert sent_since(bench.database, account_of(bench, scope.routes[1].id), START.timestamp(), 10) == []


def test_what_may_have_left_counts_each_time_whatever_became_of_it(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    row = bench.work(scope, uids("a"))[b"a"]
    relay = scope.routes[1].id
    for hold in ((), (), (relay,)):
        at.later(minutes=1)
        bench.sending(scope, (row.key, relay))
        bench.ledger.uncertain.record(scope.run, [relay], "no reply")
        bench.ledger.uncertain.resolve(scope.run, hold)
    start = START.timestamp()
    assert sent_since(bench.database, account_of(bench, relay), start, 10) == [start + 60, start + 120, start + 180]
