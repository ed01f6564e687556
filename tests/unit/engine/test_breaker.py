from __future__ import annotations

from syncd.destinations.base import Outcome, Verdict
from syncd.engine.breaker import LIMIT, Breaker


def refused(*keys: int, kind: str = "550 5.7.60") -> list[Outcome]:
    return [Outcome(key, Verdict.REJECTED, reason=f"{kind} no {key}", refusal=kind) for key in keys]


def accepted(key: int) -> list[Outcome]:
    return [Outcome(key, Verdict.DELIVERED)]


def test_s02_refusals_of_one_kind_in_a_row_trip_it():
    breaker = Breaker(3)
    breaker.see(refused(1, 2))
    assert breaker.tripped is None
    breaker.see(refused(3))
    assert breaker.tripped is not None
    assert (breaker.tripped.keys, breaker.tripped.reason) == ((1, 2, 3), "550 5.7.60 no 3")


def test_s02_what_is_refused_after_it_tripped_belongs_to_it():
    breaker = Breaker(3)
    breaker.see(refused(1, 2, 3, 4, 5))
    assert breaker.tripped is not None
    assert breaker.tripped.keys == (1, 2, 3, 4, 5)


def test_one_that_is_accepted_speaks_for_the_destination():
    breaker = Breaker(3)
    breaker.see(refused(1, 2) + accepted(3) + refused(4, 5))
    assert breaker.tripped is None
    breaker.see(refused(6) + accepted(7))
    assert breaker.tripped is None
    assert breaker.accepted


def test_different_refusals_are_about_messages():
    breaker = Breaker(3)
    for key in range(10):
        breaker.see(refused(key, kind=f"55{key} 5.0.0"))
    assert breaker.tripped is None


def test_refusals_of_other_kinds_in_between_do_not_hide_it():
    breaker = Breaker(3)
    breaker.see(refused(1, 2) + refused(3, kind="552 5.3.4") + refused(4))
    assert breaker.tripped is not None
    assert breaker.tripped.keys == (1, 2, 4)


def test_what_we_decided_ourselves_does_not_count():
    breaker = Breaker(1)
    breaker.see([Outcome(1, Verdict.REJECTED, reason="has more octets than the server takes")])
    assert breaker.tripped is None


def test_deferrals_neither_count_nor_speak_for_it():
    breaker = Breaker(2)
    breaker.see([*refused(1), Outcome(2, Verdict.DEFERRED, reason="450"), *refused(3)])
    assert breaker.tripped is not None


def test_it_can_be_switched_off():
    breaker = Breaker(0)
    breaker.see(refused(*range(100)))
    assert breaker.tripped is None


def test_ten_in_a_row():
    assert LIMIT == 10
