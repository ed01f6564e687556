"""Destinations and accounts that are suspended, and for how long."""

from __future__ import annotations

from datetime import timedelta

from syncd.db.ledger import of_account, of_route
from syncd.db.rows import Cause, Suspension
from tests.support.ledger import Bench, Clock

MINUTE = timedelta(minutes=1)


def test_s22_a_destination_is_suspended_until_then(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    one, two = (of_route(route.id) for route in scope.routes)
    bench.ledger.suspensions.put(two, Suspension(at.now + timedelta(hours=1), "421 too much"))
    bench.ledger.suspensions.put(
        two, second := Suspension(at.now + timedelta(hours=2), "per_day\nis used up", Cause.LIMIT, limit="2000/day")
    )
    assert bench.ledger.suspensions.find([one, two]) == {two: second._replace(reason="per_day\\nis used up")}
    assert len(bench.ledger.decisions.resume(scope.run.job_id)) == 1
    assert bench.ledger.suspensions.find([one, two]) == {}


def test_s21_each_refusal_doubles_the_pause_up_to_a_day(bench: Bench, at: Clock) -> None:
    subject = of_account(7)
    pauses = []
    for _ in range(9):
        suspension = bench.ledger.suspensions.back_off(subject, Cause.SIGN_IN, "535 no")
        pauses.append((suspension.until - at.now) // MINUTE)
        at.now = suspension.until
    assert pauses == [15, 30, 60, 120, 240, 480, 960, 1440, 1440]
    assert bench.ledger.suspensions.back_off(subject, Cause.REFUSED, "550 no").tries == 1, "another trouble"
    bench.ledger.suspensions.lift([subject])
    assert bench.ledger.suspensions.back_off(subject, Cause.SIGN_IN, "535 no").tries == 1


def test_a_person_lifts_what_is_meant(bench: Bench, at: Clock) -> None:
    scope = bench.job("ss", account=bench.account())
    first, second = scope.routes
    for route in scope.routes:
        bench.ledger.suspensions.put(of_route(route.id), Suspension(at.now + MINUTE, "421"))
    bench.ledger.suspensions.put(
        of_account(scope.run.account_id), Suspension(at.now + MINUTE, "-ERR", Cause.SIGN_IN, 1)
    )
    assert bench.ledger.decisions.resume(scope.run.job_id, lambda name, _: name == "nothing") == []
    with_names = bench.ledger.decisions.resume(scope.run.job_id)
    assert len(with_names) == 3
    assert (
        bench.ledger.suspensions.find([of_route(first.id), of_route(second.id), of_account(scope.run.account_id)]) == {}
    )
