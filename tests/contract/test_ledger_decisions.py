"""Decisions of a person about messages that wait: tried again, or dropped."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from syncd.db.models import deliveries, messages, problems
from syncd.db.rows import MailboxScope, ProblemKind
from syncd.db.states import DELIVERY_MOVES, DeliveryState
from syncd.mail.message import Key
from tests.support.ledger import FIRST, LETTERS, Bench, Clock, uids

RETRIED = "LRHUP"  # states that a retry makes, or leaves, PENDING


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job("as")


def put(bench: Bench, scope: MailboxScope, state: DeliveryState) -> tuple[Key, int]:
    """A message that the first destination has, with a problem at the second, where it is in `state`."""
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "dl")
    with bench.database.write() as connection:
        route = scope.routes[1].id
        connection.execute(update(deliveries).where(deliveries.c.route_id == route).values(state=state))
        if state is DeliveryState.DELIVERED:
            connection.execute(update(problems).values(kind=ProblemKind.DAMAGED))
    return row.key, scope.routes[1].id


@pytest.mark.parametrize("state", DeliveryState)
def test_retry(bench: Bench, scope: MailboxScope, at: Clock, state: DeliveryState) -> None:
    pair = put(bench, scope, state)
    bench.ledger.decisions.retry([pair])
    expected = "P" if LETTERS[state] in RETRIED else LETTERS[state]
    assert bench.delivery_states(scope) == {b"a": "D" + expected}
    if expected == "P":
        assert bench.troubles()[pair] == ("because", 1, at.now)
        assert [row.key for row in bench.ledger.backfill(scope.run, FIRST, 10)] == [pair[0]]


@pytest.mark.parametrize("state", DeliveryState)
def test_drop(bench: Bench, scope: MailboxScope, at: Clock, state: DeliveryState) -> None:
    pair = put(bench, scope, state)
    bench.ledger.decisions.drop([pair], scope.run.job_id)
    legal = DeliveryState.DROPPED in DELIVERY_MOVES[state]
    assert bench.delivery_states(scope) == {b"a": "D" + ("X" if legal else LETTERS[state])}
    assert bench.troubles() == {}
    at.later(days=30)
    if legal:
        assert bench.ledger.backfill(scope.run, FIRST, 10) == []
        assert bench.ledger.accounting(scope.run).final == 1


def test_the_back_off_begins_again(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    pair = (row.key, scope.routes[1].id)
    while not bench.troubles() or bench.troubles()[pair][2] is not None:
        bench.commit(scope, row, "dl")
    bench.ledger.decisions.retry([pair])
    bench.commit(scope, row, "-l")
    assert bench.troubles()[pair][2] is not None


def test_a_message_that_cannot_be_fetched_is_asked_for_again(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    for _ in range(9):
        bench.fail(scope, row.key)
    assert bench.troubles()[row.key, 0][2] is None
    bench.ledger.decisions.retry([(row.key, 0)])
    again = bench.work(scope, uids("a"))[b"a"]
    assert (again.attempts, again.retry_at) == (1, at.now)


def test_a_message_that_cannot_be_fetched_is_dropped_for_one_job(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job("a", account=scope.run.account_id)
    row = bench.work(scope, uids("a"))[b"a"]
    bench.listed(other, uids("a"))
    bench.fail(scope, row.key)
    bench.ledger.decisions.drop([(row.key, 0)], scope.run.job_id)
    assert bench.delivery_states(scope) == {b"a": "XX"}
    assert bench.delivery_states(other) == {b"a": "P"}
    assert [key for key, _ in bench.troubles()] == [row.key]  # the other job still waits for it
    bench.ledger.decisions.drop([(row.key, 0)], other.run.job_id)
    assert bench.troubles() == {}
    assert bench.ledger.accounting(scope.run).final == 1


def test_a_note_that_a_message_is_kept_is_not_about_trying(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a"))
    (key,) = keys(bench)
    bench.ledger.removals.mark_frozen(scope.run, [key], "another message")
    before = bench.troubles()
    bench.ledger.decisions.retry([(key, 0)])
    assert bench.troubles() == before


def keys(bench: Bench) -> list[Key]:
    with bench.database.read() as connection:
        return [Key(key) for key in connection.execute(select(messages.c.id)).scalars()]


def test_archives_that_have_a_message(bench: Bench) -> None:
    scope = bench.job("aas")
    found = bench.work(scope, uids("a", "b"))
    bench.commit(scope, found[b"a"], "dld", hint="cur/1")
    bench.commit(scope, found[b"b"], "lld", hint="x")
    keys = [row.key for row in found.values()]
    assert bench.ledger.archives.having(keys) == {found[b"a"].key: [(scope.routes[0].name, "cur/1")]}


def test_s25_what_is_sent_in_spite_of_a_loop_stays_so_until_it_is_delivered(bench: Bench, scope: MailboxScope) -> None:
    rows = bench.work(scope, uids("a", "b"))
    relay = scope.routes[1].id
    a, b = (rows[uid].key for uid in (b"a", b"b"))
    for row in rows.values():
        bench.commit(scope, row, "dr")
    bench.ledger.decisions.retry([(a, relay), (b, relay)], [(a, relay)])
    assert bench.ledger.decisions.insisted(relay) == [a]
    for letter, open_ in (("l", [a]), ("r", []), ("d", [])):
        bench.sending(scope, (a, relay))
        bench.commit(scope, rows[b"a"], "d" + letter)
        assert bench.ledger.decisions.insisted(relay) == open_
        bench.ledger.decisions.retry([(a, relay)])
    with bench.database.read() as connection:
        left = select(deliveries.c.receipt).where(deliveries.c.message_id == a, deliveries.c.route_id == relay)
        assert connection.execute(left).scalar_one() is None


def test_what_a_problem_is_about_stands_beside_it(bench: Bench, scope: MailboxScope) -> None:
    """No decision reads the reason, which is for people."""
    rows = bench.work(scope, uids("a", "b", "c", "d"))
    relay = scope.routes[1].id
    bench.commit(scope, rows[b"a"], "dr", code="550 5.7.1")
    bench.commit(scope, rows[b"b"], "dr", loop=True)
    bench.fail(scope, rows[b"c"].key, "too old")
    bench.commit(scope, rows[b"d"], "d-")
    bench.ledger.archives.mark_damaged(scope.run, rows[b"d"].key, scope.routes[0].id, "its octets differ")
    kinds = {row.uid: row.kind for row in bench.ledger.problems(scope.run.job_id)}
    assert kinds == {
        b"a": ProblemKind.DELIVERY,
        b"b": ProblemKind.LOOP,
        b"c": ProblemKind.FETCH,
        b"d": ProblemKind.DAMAGED,
    }
    assert bench.ledger.uncertain.refused_lately(relay, 10)[-1:] == ["550 5.7.1"]


def test_a_refusal_that_is_taken_back_stays_insisted_on(bench: Bench, scope: MailboxScope) -> None:
    row, relay = bench.work(scope, uids("a"))[b"a"], scope.routes[1].id
    bench.commit(scope, row, "dr", loop=True)
    bench.ledger.decisions.retry([(row.key, relay)], [(row.key, relay)])
    bench.commit(scope, row, "dr", code="550 no")
    bench.ledger.uncertain.take_back(relay, [row.key])
    assert bench.delivery_states(scope) == {b"a": "DP"}
    assert bench.ledger.decisions.insisted(relay) == [row.key]
    assert [found.key for found in bench.ledger.backfill(scope.run, FIRST, 10)] == [row.key]
