"""Uncertain outcomes, refusals that are taken back or remembered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from syncd.db.ledger import Scope, Settled
from syncd.db.ledger.outcomes import DELIVERY_BACKOFF
from syncd.db.ledger.uncertain import MAX_DOUBTS
from syncd.db.rows import ProblemRow
from syncd.destinations.base import Outcome, Verdict
from syncd.errors import Conflict
from tests.support.ledger import Bench, Clock, digest, uids


@pytest.fixture
def scope(bench: Bench) -> Scope:
    return bench.job("as")


def send(bench: Bench, scope: Scope, *names: str) -> dict[str, int]:
    """These are being sent to the second destination, the first has them; their keys."""
    found = bench.work(scope, uids(*names))
    for row in found.values():
        bench.commit(scope, row, "d-")
    bench.sending(scope, *((row.key, scope.routes[1].id) for row in found.values()))
    return {uid.decode(): row.key for uid, row in found.items()}


def told(bench: Bench, scope: Scope) -> list[ProblemRow]:
    return list(bench.ledger.problems(scope.job_id))


def test_what_is_sending_is_uncertain_after_a_crash(bench: Bench, scope: Scope, at: Clock) -> None:
    keys = send(bench, scope, "a", "b")
    relay = scope.routes[1].id
    assert bench.ledger.doubt(scope, [relay], "it ended") == 2
    assert bench.delivery_states(scope) == {b"a": "DU", b"b": "DU"}
    assert bench.troubles() == {(key, relay): ("it ended", 1, None) for key in keys.values()}
    assert bench.ledger.doubt(scope, [relay], "it ended") == 0
    assert [row.uncertain for row in told(bench, scope)] == [1, 1]


def test_of_some_only(bench: Bench, scope: Scope) -> None:
    keys = send(bench, scope, "a", "b")
    assert bench.ledger.doubt(scope, [scope.routes[1].id], "no reply", {keys["b"]}) == 1
    assert bench.delivery_states(scope) == {b"a": "DS", b"b": "DU"}
    assert bench.ledger.doubt(scope, [scope.routes[0].id], "another destination") == 0


def test_sending_is_no_problem_and_clears_none(bench: Bench, scope: Scope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "dl")
    before = bench.troubles()
    at.later(hours=1)
    bench.sending(scope, (row.key, scope.routes[1].id))
    assert bench.troubles() == before


def test_it_is_sent_again_at_once_and_then_ever_later(bench: Bench, scope: Scope, at: Clock) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    for pause in (timedelta(), *DELIVERY_BACKOFF[: MAX_DOUBTS - 1]):
        bench.ledger.doubt(scope, [relay], "no reply")
        assert bench.ledger.settle_doubts(scope, ()) == Settled(resent=1, held=0)
        assert bench.delivery_states(scope) == {b"a": "DP"}
        assert bench.troubles()[key, relay][2] == at.now + pause
        at.now += pause
        assert [row.key for row in bench.ledger.strays(scope, 0, 10)] == [key]
        bench.sending(scope, (key, relay))
    bench.ledger.doubt(scope, [relay], "no reply")
    assert bench.ledger.settle_doubts(scope, ()) == Settled(resent=0, held=1)
    assert bench.delivery_states(scope) == {b"a": "DH"}
    assert [row.uncertain for row in told(bench, scope)] == [MAX_DOUBTS + 1]


def test_it_is_held_where_that_is_the_policy(bench: Bench, at: Clock) -> None:
    scope = bench.job("ss")
    row = bench.work(scope, uids("a"))[b"a"]
    one, two = (route.id for route in scope.routes)
    bench.sending(scope, (row.key, one), (row.key, two))
    bench.ledger.doubt(scope, [one, two], "no reply")
    assert bench.ledger.settle_doubts(scope, {two}) == Settled(resent=1, held=1)
    assert bench.delivery_states(scope) == {b"a": "PH"}
    assert bench.troubles()[row.key, two][2] is None
    assert bench.ledger.accounting(scope).waiting_person == 0  # something goes on by itself
    assert bench.ledger.settle_doubts(scope, {two}) == Settled(resent=0, held=0)


def test_an_outcome_that_is_told_twice_is_recorded_once(bench: Bench, scope: Scope) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    for _ in range(2):
        bench.ledger.commit(scope, [], [(relay, Outcome(key, Verdict.UNCERTAIN, reason="no reply"))], [])
    assert [row.uncertain for row in told(bench, scope)] == [1]


def test_what_was_uncertain_is_told_when_it_is_delivered(bench: Bench, scope: Scope, at: Clock) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    bench.ledger.doubt(scope, [relay], "no reply")
    bench.ledger.settle_doubts(scope, ())
    bench.ledger.commit(scope, [], [(relay, Outcome(key, Verdict.DELIVERED))], [])
    assert bench.troubles() == {}
    (row,) = told(bench, scope)
    assert (row.key, row.route_id, row.delivery, row.uncertain, row.reason) == (key, relay, 2, 1, "no reply")
    other = bench.job("s")
    assert told(bench, other) == []
    bench.ledger.drop([(key, relay)], scope.job_id)
    assert told(bench, scope) == []
    assert bench.delivery_states(scope) == {b"a": "DD"}


def test_doubts_follow_a_message_into_a_new_epoch(bench: Bench, scope: Scope) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    bench.ledger.doubt(scope, [relay], "no reply")
    bench.ledger.settle_doubts(scope, ())
    bench.ledger.commit(scope, [], [(relay, Outcome(key, Verdict.DELIVERED))], [])
    with bench.ledger.listing(scope) as listing:
        bumped = listing.bump_epoch("renamed")
    row = bench.work(bumped, uids("x"))[b"x"]
    assert bench.ledger.rebind(bumped, [(row.key, *digest(b"octets"))]) == {row.key: 0b11}
    assert [(one.key, one.uncertain) for one in told(bench, bumped)] == [(row.key, 1)]


def test_s02_refusals_are_taken_back(bench: Bench, scope: Scope) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    relay = scope.routes[1].id
    bench.commit(scope, row, "dr")
    bench.ledger.take_back(relay, [row.key])
    assert bench.delivery_states(scope) == {b"a": "DP"}
    assert bench.troubles() == {}
    assert [found.key for found in bench.ledger.strays(scope, 0, 10)] == [row.key]
    with pytest.raises(Conflict, match="in another state"):
        bench.ledger.take_back(relay, [row.key])


def test_s02_refusals_of_earlier_runs_are_remembered_until_something_is_delivered(
    bench: Bench, scope: Scope, at: Clock
) -> None:
    found = bench.work(scope, uids("a", "b", "c", "d"))
    relay = scope.routes[1].id
    for uid, verdict in zip((b"a", b"b", b"c", b"d"), "rdrr", strict=True):
        at.later(minutes=1)
        bench.commit(scope, found[uid], f"d{verdict}")
    assert bench.ledger.refused_lately(relay, 10) == ["because"] * 2
    assert bench.ledger.refused_lately(relay, 1) == ["because"]
    assert bench.ledger.refused_lately(scope.routes[0].id, 10) == []
    bench.ledger.retry([(found[b"c"].key, relay)])
    assert len(bench.ledger.refused_lately(relay, 10)) == 1
