"""Octets of accounts with a daily limit: counted with the commit, in quarters of an hour, gone after a day."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from syncd.db.ledger.traffic import Traffic, passed_since
from syncd.db.models import traffic
from syncd.db.rows import RunScope
from syncd.mail.allowance import BUCKET_S, Direction
from tests.support.ledger import START, Bench, Clock

DAY = 86_400
BEGIN = int(START.timestamp()) // BUCKET_S * BUCKET_S


@pytest.fixture
def scope(bench: Bench) -> RunScope:
    return bench.job("as").run


def count(bench: Bench, scope: RunScope, octets: int, direction: Direction = Direction.DOWN) -> None:
    bench.ledger.commit(scope, [], [], [], passed=Traffic(scope.account_id, direction, octets))


def seen(bench: Bench, scope: RunScope, direction: Direction = Direction.DOWN) -> list[tuple[int, int]]:
    return list(passed_since(bench.database, scope.account_id, direction, START.timestamp() - DAY))


def test_octets_add_up_within_a_quarter_of_an_hour(bench: Bench, scope: RunScope, at: Clock) -> None:
    count(bench, scope, 1 << 40)
    count(bench, scope, 5)
    count(bench, scope, 7, Direction.UP)
    at.later(minutes=20)
    count(bench, scope, 11)
    assert seen(bench, scope) == [(BEGIN, (1 << 40) + 5), (BEGIN + BUCKET_S, 11)]
    assert seen(bench, scope, Direction.UP) == [(BEGIN, 7)]


def test_what_is_older_than_a_day_goes(bench: Bench, scope: RunScope, at: Clock) -> None:
    count(bench, scope, 1)
    at.later(hours=25)
    count(bench, scope, 2)
    with bench.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(traffic)).scalar_one() == 1


def test_what_is_dated_ahead_does_not_count(bench: Bench, scope: RunScope, at: Clock) -> None:
    at.later(hours=30)
    count(bench, scope, 1)
    at.now = START
    assert seen(bench, scope) == []
