"""What a person decides about messages that wait: tried again, or dropped."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from syncd.db.ledger import Scope
from syncd.db.models import deliveries, messages
from syncd.db.states import DELIVERY_MOVES, DeliveryState
from tests.support.ledger import LETTERS, Bench, Clock, uids

RETRIED = "LRHUP"  # states that a retry makes, or leaves, PENDING


@pytest.fixture
def scope(bench: Bench) -> Scope:
    return bench.job("as")


def put(bench: Bench, scope: Scope, state: DeliveryState) -> tuple[int, int]:
    """A message that the first destination has, with a problem at the second, where it is in `state`."""
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "dl")
    with bench.database.write() as connection:
        route = scope.routes[1].id
        connection.execute(update(deliveries).where(deliveries.c.route_id == route).values(state=state))
    return row.key, scope.routes[1].id


@pytest.mark.parametrize("state", DeliveryState)
def test_retry(bench: Bench, scope: Scope, at: Clock, state: DeliveryState) -> None:
    pair = put(bench, scope, state)
    bench.ledger.retry([pair])
    expected = "P" if LETTERS[state] in RETRIED else LETTERS[state]
    assert bench.delivery_states(scope) == {b"a": "D" + expected}
    if expected == "P":
        assert bench.troubles()[pair] == ("because", 1, at.now)
        assert [row.key for row in bench.ledger.strays(scope, 0, 10)] == [pair[0]]


@pytest.mark.parametrize("state", DeliveryState)
def test_drop(bench: Bench, scope: Scope, at: Clock, state: DeliveryState) -> None:
    pair = put(bench, scope, state)
    bench.ledger.drop([pair], scope.job_id)
    legal = DeliveryState.DROPPED in DELIVERY_MOVES[state]
    assert bench.delivery_states(scope) == {b"a": "D" + ("X" if legal else LETTERS[state])}
    assert bench.troubles() == {}
    at.later(days=30)
    if legal:
        assert bench.ledger.strays(scope, 0, 10) == []
        assert bench.ledger.accounting(scope).final == 1


def test_the_back_off_begins_anew(bench: Bench, scope: Scope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    pair = (row.key, scope.routes[1].id)
    while not bench.troubles() or bench.troubles()[pair][2] is not None:
        bench.commit(scope, row, "dl")
    bench.ledger.retry([pair])
    bench.commit(scope, row, "-l")
    assert bench.troubles()[pair][2] is not None


def test_a_message_that_cannot_be_fetched_is_asked_for_again(bench: Bench, scope: Scope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    for _ in range(9):
        bench.fail(scope, row.key)
    assert bench.troubles()[row.key, 0][2] is None
    bench.ledger.retry([(row.key, 0)])
    again = bench.work(scope, uids("a"))[b"a"]
    assert (again.attempts, again.retry_at) == (1, at.now)


def test_a_message_that_cannot_be_fetched_is_dropped_for_one_job(bench: Bench, scope: Scope) -> None:
    other = bench.job("a", account=scope.account_id)
    row = bench.work(scope, uids("a"))[b"a"]
    bench.listed(other, uids("a"))
    bench.fail(scope, row.key)
    bench.ledger.drop([(row.key, 0)], scope.job_id)
    assert bench.delivery_states(scope) == {b"a": "XX"}
    assert bench.delivery_states(other) == {b"a": "P"}
    assert [key for key, _ in bench.troubles()] == [row.key]  # the other job still waits for it
    bench.ledger.drop([(row.key, 0)], other.job_id)
    assert bench.troubles() == {}
    assert bench.ledger.accounting(scope).final == 1


def test_a_note_on_a_frozen_removal_is_not_about_trying(bench: Bench, scope: Scope) -> None:
    bench.pull(scope, uids("a"))
    (key,) = keys(bench)
    bench.ledger.mark_frozen(scope, [key], "another message")
    before = bench.troubles()
    bench.ledger.retry([(key, 0)])
    assert bench.troubles() == before


def keys(bench: Bench) -> list[int]:
    with bench.database.read() as connection:
        return list(connection.execute(select(messages.c.id)).scalars())


def test_archives_that_hold_a_message(bench: Bench) -> None:
    scope = bench.job("aas")
    found = bench.work(scope, uids("a", "b"))
    bench.commit(scope, found[b"a"], "dld", hint="cur/1")
    bench.commit(scope, found[b"b"], "lld", hint="x")
    keys = [row.key for row in found.values()]
    assert bench.ledger.holding(keys) == {found[b"a"].key: [(scope.routes[0].name, "cur/1")]}


def test_s25_what_is_sent_in_spite_of_a_loop_stays_so_until_it_is_delivered(bench: Bench, scope: Scope) -> None:
    rows = bench.work(scope, uids("a", "b"))
    relay = scope.routes[1].id
    a, b = (rows[uid].key for uid in (b"a", b"b"))
    for row in rows.values():
        bench.commit(scope, row, "dr")
    bench.ledger.retry([(a, relay), (b, relay)], [(a, relay)])
    assert bench.ledger.insisted(relay) == [a]
    for letter, open_ in (("l", [a]), ("r", []), ("d", [])):
        bench.sending(scope, (a, relay))
        bench.commit(scope, rows[b"a"], "d" + letter)
        assert bench.ledger.insisted(relay) == open_
        bench.ledger.retry([(a, relay)])
    with bench.database.read() as connection:
        left = select(deliveries.c.receipt).where(deliveries.c.message_id == a, deliveries.c.route_id == relay)
        assert connection.execute(left).scalar_one() is None
