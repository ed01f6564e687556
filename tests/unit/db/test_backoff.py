"""When something is tried again: one table, without a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.db.ledger.backoff import DELIVERY, FETCH, FETCH_STEPS, MAX_UNCERTAIN, next_try, resend_after, suspension
from syncd.errors import Retry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_a_message_that_cannot_be_fetched() -> None:
    assert FETCH == (5 * MINUTE, HOUR, DAY, DAY)
    found = [next_try(FETCH, attempts, now=NOW, first_at=NOW) for attempts in range(1, 6)]
    assert found == [NOW + 5 * MINUTE, NOW + HOUR, NOW + DAY, NOW + DAY, None]


def test_what_an_error_says_of_trying_again() -> None:
    first = {retry: next_try(steps, 1, now=NOW, first_at=NOW) for retry, steps in FETCH_STEPS.items()}
    assert first == {Retry.NOW: NOW, Retry.LATER: NOW + 5 * MINUTE, Retry.NEVER: None}
    assert set(FETCH_STEPS) == set(Retry)


def test_s01_s03_deferrals_are_tried_again_for_five_days() -> None:
    """S03: never within five minutes; S01: ever later, for five days, then a person decides."""
    assert DELIVERY[0] == 5 * MINUTE
    assert list(DELIVERY) == sorted(DELIVERY)
    assert 5 * DAY <= sum(DELIVERY, timedelta()) < 6 * DAY
    assert next_try(DELIVERY, len(DELIVERY), now=NOW, first_at=NOW) == NOW + DAY
    assert next_try(DELIVERY, len(DELIVERY) + 1, now=NOW, first_at=NOW) is None


def test_s22_a_time_that_is_named_counts_until_the_steps_would_be_over() -> None:
    named, whole = NOW + 7 * HOUR, sum(DELIVERY, timedelta())
    assert next_try(DELIVERY, 1, now=NOW, first_at=NOW, named=named) == named
    assert next_try(DELIVERY, 1, now=NOW, first_at=NOW - whole, named=named) == named
    assert next_try(DELIVERY, 1, now=NOW, first_at=NOW - whole - MINUTE, named=named) is None


def test_what_was_surely_not_sent_is_tried_at_once_but_not_for_ever() -> None:
    assert next_try(DELIVERY, 3, now=NOW, first_at=NOW, at_once=True) == NOW
    assert next_try(DELIVERY, len(DELIVERY) + 1, now=NOW, first_at=NOW, at_once=True) is None


def test_an_uncertain_delivery_is_sent_again_ever_later_and_then_held() -> None:
    pauses = [resend_after(outcomes) for outcomes in range(1, MAX_UNCERTAIN + 2)]
    assert pauses == [timedelta(), 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, None]


@pytest.mark.parametrize(
    ("tries", "minutes"), [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 480), (7, 960), (8, 1440), (10_000, 1440)]
)
def test_s21_each_refusal_doubles_the_pause_up_to_a_day(tries: int, minutes: int) -> None:
    assert suspension(tries) == minutes * MINUTE
