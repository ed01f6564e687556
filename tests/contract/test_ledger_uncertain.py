"""Uncertain outcomes, refusals that are taken back or remembered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from syncd.db.ledger.backoff import DELIVERY, MAX_UNCERTAIN
from syncd.db.models import routes
from syncd.db.rows import Freeze, MailboxScope, ProblemRow, Resolved
from syncd.errors import Conflict
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict
from tests.support.ledger import FIRST, Bench, Clock, digest, uids


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job("as")


def send(bench: Bench, scope: MailboxScope, *names: str) -> dict[str, Key]:
    """These are being sent to the second destination, the first has them; their keys."""
    found = bench.work(scope, uids(*names))
    for row in found.values():
        bench.commit(scope, row, "d-")
    bench.sending(scope, *((row.key, scope.routes[1].id) for row in found.values()))
    return {uid.decode(): row.key for uid, row in found.items()}


def told(bench: Bench, scope: MailboxScope) -> list[ProblemRow]:
    return list(bench.ledger.problems(scope.run.job_id))


def test_what_is_sending_is_uncertain_after_a_crash(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    keys = send(bench, scope, "a", "b")
    relay = scope.routes[1].id
    assert bench.ledger.uncertain.record(scope.run, [relay], "it ended") == 2
    assert bench.delivery_states(scope) == {b"a": "DU", b"b": "DU"}
    assert bench.troubles() == {(key, relay): ("it ended", 1, None) for key in keys.values()}
    assert bench.ledger.uncertain.record(scope.run, [relay], "it ended") == 0
    assert [row.uncertain for row in told(bench, scope)] == [1, 1]


def test_of_some_only(bench: Bench, scope: MailboxScope) -> None:
    keys = send(bench, scope, "a", "b")
    assert bench.ledger.uncertain.record(scope.run, [scope.routes[1].id], "no reply", {keys["b"]}) == 1
    assert bench.delivery_states(scope) == {b"a": "DS", b"b": "DU"}
    assert bench.ledger.uncertain.record(scope.run, [scope.routes[0].id], "another destination") == 0


def test_sending_is_no_problem_and_clears_none(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "dl")
    before = bench.troubles()
    at.later(hours=1)
    bench.sending(scope, (row.key, scope.routes[1].id))
    assert bench.troubles() == before


def test_it_is_sent_again_at_once_and_then_ever_later(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    for pause in (timedelta(), *DELIVERY[: MAX_UNCERTAIN - 1]):
        bench.ledger.uncertain.record(scope.run, [relay], "no reply")
        assert bench.ledger.uncertain.resolve(scope.run, ()) == Resolved(resent=1, held=0)
        assert bench.delivery_states(scope) == {b"a": "DP"}
        assert bench.troubles()[key, relay][2] == at.now + pause
        at.now += pause
        assert [row.key for row in bench.ledger.backfill(scope.run, FIRST, 10)] == [key]
        bench.sending(scope, (key, relay))
    bench.ledger.uncertain.record(scope.run, [relay], "no reply")
    assert bench.ledger.uncertain.resolve(scope.run, ()) == Resolved(resent=0, held=1)
    assert bench.delivery_states(scope) == {b"a": "DH"}
    assert [row.uncertain for row in told(bench, scope)] == [MAX_UNCERTAIN + 1]


def test_it_is_held_for_a_person_where_that_is_the_policy(bench: Bench, at: Clock) -> None:
    scope = bench.job("ss")
    row = bench.work(scope, uids("a"))[b"a"]
    one, two = (route.id for route in scope.routes)
    bench.sending(scope, (row.key, one), (row.key, two))
    bench.ledger.uncertain.record(scope.run, [one, two], "no reply")
    assert bench.ledger.uncertain.resolve(scope.run, {two}) == Resolved(resent=1, held=1)
    assert bench.delivery_states(scope) == {b"a": "PH"}
    assert bench.troubles()[row.key, two][2] is None
    assert bench.ledger.accounting(scope.run).waiting_person == 0  # something goes on by itself
    assert bench.ledger.uncertain.resolve(scope.run, {two}) == Resolved(resent=0, held=0)


def test_an_outcome_that_is_told_twice_is_recorded_once(bench: Bench, scope: MailboxScope) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    for _ in range(2):
        bench.ledger.commit(scope.run, [], [(relay, Outcome(key, Verdict.UNCERTAIN, reason="no reply"))], [])
    assert [row.uncertain for row in told(bench, scope)] == [1]


def test_what_was_uncertain_is_told_when_it_is_delivered(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    bench.ledger.uncertain.record(scope.run, [relay], "no reply")
    bench.ledger.uncertain.resolve(scope.run, ())
    bench.ledger.commit(scope.run, [], [(relay, Outcome(key, Verdict.DELIVERED))], [])
    assert bench.troubles() == {}
    (row,) = told(bench, scope)
    assert (row.key, row.route_id, row.delivery, row.uncertain, row.reason) == (key, relay, 2, 1, "no reply")
    other = bench.job("s")
    assert told(bench, other) == []
    bench.ledger.decisions.drop([(key, relay)], scope.run.job_id)
    assert told(bench, scope) == []
    assert bench.delivery_states(scope) == {b"a": "DD"}


def test_uncertain_outcomes_follow_a_message_into_a_new_epoch(bench: Bench, scope: MailboxScope) -> None:
    key = send(bench, scope, "a")["a"]
    relay = scope.routes[1].id
    bench.ledger.uncertain.record(scope.run, [relay], "no reply")
    bench.ledger.uncertain.resolve(scope.run, ())
    bench.ledger.commit(scope.run, [], [(relay, Outcome(key, Verdict.DELIVERED))], [])
    with bench.ledger.listing(scope) as listing:
        bumped = listing.bump_epoch(Freeze.RENAMED, "renamed")
    row = bench.work(bumped, uids("x"))[b"x"]
    assert bench.ledger.rebind(bumped, [(row.key, *digest(b"octets"))]) == {row.key: 0b11}
    assert [(one.key, one.uncertain) for one in told(bench, bumped)] == [(row.key, 1)]


def test_s02_refusals_are_taken_back(bench: Bench, scope: MailboxScope) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    relay = scope.routes[1].id
    bench.commit(scope, row, "dr")
    bench.ledger.uncertain.take_back(relay, [row.key])
    assert bench.delivery_states(scope) == {b"a": "DP"}
    assert bench.troubles() == {}
    assert [found.key for found in bench.ledger.backfill(scope.run, FIRST, 10)] == [row.key]
    with pytest.raises(Conflict, match="in another state"):
        bench.ledger.uncertain.take_back(relay, [row.key])


def test_s02_refusals_of_earlier_runs_are_remembered_until_something_is_delivered(
    bench: Bench, scope: MailboxScope, at: Clock
) -> None:
    found = bench.work(scope, uids("a", "b", "c", "d"))
    relay = scope.routes[1].id
    for uid, verdict in zip((b"a", b"b", b"c", b"d"), "rdrr", strict=True):
        at.later(minutes=1)
        bench.commit(scope, found[uid], f"d{verdict}", code=f"550 {uid.decode()}" if verdict == "r" else "")
    assert bench.ledger.uncertain.refused_lately(relay, 10) == ["550 d", "550 c"]
    assert bench.ledger.uncertain.refused_lately(relay, 1) == ["550 d"]
    assert bench.ledger.uncertain.refused_lately(scope.routes[0].id, 10) == []
    bench.ledger.decisions.retry([(found[b"c"].key, relay)])
    assert len(bench.ledger.uncertain.refused_lately(relay, 10)) == 1


def test_routes_that_leave_deliveries_uncertain(bench: Bench, scope: MailboxScope) -> None:
    """Not what can be asked, whether it is an account or an archive; also those that are not in use any more."""
    other = bench.job("qs", account=scope.run.account_id)
    stranger = bench.job("s")
    bench.change(routes, other.routes[1].id, enabled=False)
    find = bench.ledger.uncertain.routes
    assert find(account_id=scope.run.account_id) == [scope.routes[1].id, other.routes[1].id]
    assert find(job_id=other.run.job_id) == [other.routes[1].id]
    assert find(job_id=stranger.run.job_id) == [stranger.routes[0].id]
