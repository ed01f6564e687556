"""What was sent to an account lately, by whichever job."""

from __future__ import annotations

from sqlalchemy import select

from syncd.db.models import routes
from syncd.db.sent import sent_since
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
