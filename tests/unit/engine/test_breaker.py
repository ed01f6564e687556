from __future__ import annotations

from collections.abc import Collection

import pytest

from syncd.engine.breaker import LIMIT, SMALL, Breaker
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict


def refused(*keys: int, code: str = "550 5.7.60") -> list[Outcome]:
    return [Outcome(Key(key), Verdict.REJECTED, reason=f"{code} no {key}", code=code) for key in keys]


def accepted(key: int) -> list[Outcome]:
    return [Outcome(Key(key), Verdict.DELIVERED)]


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
        breaker.see(refused(key, code=f"55{key} 5.0.0"))
    assert breaker.tripped is None


def test_refusals_of_other_kinds_in_between_do_not_hide_it():
    breaker = Breaker(3)
    breaker.see(refused(1, 2) + refused(3, code="552 5.3.4") + refused(4))
    assert breaker.tripped is not None
    assert breaker.tripped.keys == (1, 2, 4)


def test_what_we_decided_ourselves_does_not_count():
    breaker = Breaker(1)
    breaker.see([Outcome(Key(1), Verdict.REJECTED, reason="has more octets than the server takes")])
    assert breaker.tripped is None


def test_deferrals_neither_count_nor_speak_for_it():
    breaker = Breaker(2)
    breaker.see([*refused(1), Outcome(Key(2), Verdict.DEFERRED, reason="450"), *refused(3)])
    assert breaker.tripped is not None


def test_refusals_of_earlier_runs_count_by_their_code():
    """The code was searched in their sentences, where "550" stands in many."""
    asked: list[list[Key]] = []

    def past(keys: Collection[Key]) -> list[str]:
        asked.append(list(keys))
        return ["550 5.7.60", "550", "550 5.7.60"]

    breaker = Breaker(4, past)
    breaker.see(refused(1))
    assert breaker.tripped is None
    breaker.see(refused(2))
    assert breaker.tripped is not None
    assert (breaker.tripped.keys, breaker.tripped.number) == ((1, 2), 4)
    assert asked == [[Key(1)]]  # once
    other = Breaker(4, past)
    other.see(refused(1, 2, code="550"))
    assert other.tripped is None


def test_what_is_accepted_makes_earlier_refusals_void():
    breaker = Breaker(3, lambda _: ["550 5.7.60"] * 9)
    breaker.see(accepted(1) + refused(2, 3))
    assert breaker.tripped is None


def test_it_can_be_switched_off():
    breaker = Breaker(0)
    breaker.see(refused(*range(100)))
    assert breaker.tripped is None


def deferred(*keys: int, code: str = "451 4.3.0") -> list[Outcome]:
    return [Outcome(Key(key), Verdict.DEFERRED, reason=f"{code} later {key}", code=code) for key in keys]


def test_temporary_refusals_of_everything_trip_it_too():
    breaker = Breaker(3)
    breaker.see(deferred(1, 2, 3))
    assert breaker.tripped is not None
    assert (breaker.tripped.keys, breaker.tripped.reason) == ((1, 2, 3), "451 4.3.0 later 3")


def test_temporary_refusals_after_a_message_was_accepted_are_about_messages():
    breaker = Breaker(3)
    breaker.see(accepted(1) + deferred(2, 3, 4, 5))
    breaker.finish()
    assert breaker.tripped is None


@pytest.mark.parametrize("outcomes", [refused(1, 2, 3), deferred(1, 2, 3)])
def test_a_small_queue_is_judged_at_its_end(outcomes: list[Outcome]):
    breaker = Breaker()
    breaker.see(outcomes)
    assert breaker.tripped is None
    breaker.finish()
    assert breaker.tripped is not None
    assert (breaker.tripped.keys, breaker.tripped.number) == ((1, 2, 3), SMALL)


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        refused(1, 2),
        refused(1, 2, 3) + deferred(4),
        refused(1, 2) + refused(3, code="550 5.7.1"),
        refused(1, 2, 3) + accepted(4),
        accepted(1) + refused(2, 3, 4),
        refused(1, 2, 3, code=""),
        deferred(1, 2, 3, code=""),
    ],
)
def test_a_small_queue_that_is_not_refused_alike_and_as_a_whole_is_about_messages(outcomes: list[Outcome]):
    breaker = Breaker()
    breaker.see(outcomes)
    breaker.finish()
    assert breaker.tripped is None


def test_switched_off_it_does_not_judge_at_the_end_either():
    breaker = Breaker(0)
    breaker.see(refused(1, 2, 3))
    breaker.finish()
    assert breaker.tripped is None


def test_ten_in_a_row_and_three_in_all():
    assert (LIMIT, SMALL) == (10, 3)
