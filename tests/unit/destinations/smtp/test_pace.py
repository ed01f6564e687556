from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd import clock
from syncd.destinations.smtp.pace import MAX_PAUSE_S, History, Limit, Pace
from syncd.errors import Retry, Throttled

START = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
DAY = 86_400


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    hand = Hand()
    monkeypatch.setattr(clock, "now", lambda: hand.now)
    return hand


def test_without_limits_nobody_waits(hand: Hand):
    pace = Pace(())
    assert [pace.take() for _ in range(1000)] == [0.0] * 1000


def test_a_window_slides(hand: Hand):
    pace = Pace([Limit(3, 60)])
    for _ in range(3):
        assert pace.take() == 0
        hand.move(10)
    assert pace.take() == pytest.approx(30)
    assert pace.take() == pytest.approx(30), "asking takes nothing"
    hand.move(30)
    assert pace.take() == 0
    assert pace.take() == pytest.approx(10)


def test_a_long_wait_suspends(hand: Hand):
    pace = Pace([Limit(2, DAY), Limit(100, 60)])
    assert (pace.take(), pace.take()) == (0, 0)
    hand.move(3600)
    with pytest.raises(Throttled, match=r"the job's limit of 2 messages in 86,400 s is used up") as caught:
        pace.take()
    assert caught.value.until == START + timedelta(days=1)
    assert caught.value.retry is Retry.LATER
    hand.move(DAY - 3600)
    assert pace.take() == 0


def test_what_may_still_be_waited_for_is_told_not_raised(hand: Hand):
    pace = Pace([Limit(1, int(MAX_PAUSE_S))])
    assert (pace.take(), pace.take()) == (0, MAX_PAUSE_S)


def test_a_caller_with_less_patience_is_told_when_to_come_back(hand: Hand):
    pace = Pace([Limit(1, 20)])
    pace.patience_s = 5
    assert pace.take() == 0
    with pytest.raises(Throttled) as caught:
        pace.take()
    assert caught.value.until == START + timedelta(seconds=20)


def test_what_earlier_runs_sent_counts_and_is_asked_for_once(hand: Hand):
    asked: list[float] = []
    sent = [START.timestamp() - seconds for seconds in (30, 20)]

    def past(since: float) -> list[float]:
        asked.append(since)
        return sent

    pace = Pace(limits := [Limit(2, 40), Limit(10, DAY)], History(limits, past))
    assert asked == []
    assert pace.take() == pytest.approx(10)
    hand.move(10)
    assert pace.take() == 0
    assert asked == [START.timestamp() - DAY]


def test_without_limits_nobody_asks_for_the_past(hand: Hand):
    def past(_: float) -> list[float]:
        raise AssertionError

    assert Pace((), History((), past)).take() == 0


def test_more_past_than_the_window_holds(hand: Hand):
    sent = [START.timestamp() - 60 + second for second in range(50)]
    pace = Pace([Limit(2, 60)], History([Limit(2, 60)], lambda _: sent))
    assert pace.take() == pytest.approx(48)


def test_each_job_keeps_to_its_own_limits_and_counts_what_the_others_sent(hand: Hand):
    strict, lax = [Limit(2, 60)], [Limit(5, 60)]
    history = History([*strict, *lax], lambda _: [START.timestamp() - 20])
    careful, hasty, free = Pace(strict, history), Pace(lax, history), Pace((), history)
    assert hasty.take() == 0
    assert careful.take() == pytest.approx(40), "one of an earlier run, one of the other job"
    assert [hasty.take(), free.take(), hasty.take()] == [0, 0, 0]
    assert hasty.take() == pytest.approx(40)
    assert free.take() == 0
    hand.move(60)
    assert [careful.take(), careful.take()] == [0, 0]
    assert careful.take() > 0
    assert hasty.take() == 0


def test_what_is_sent_without_limits_is_not_counted_twice(hand: Hand):
    """By the time that it matters, the ledger has it too."""
    ledger: list[float] = []
    history = History([Limit(3, 60)], lambda _: list(ledger))
    free, careful = Pace((), history), Pace([Limit(3, 60)], history)
    assert free.take() == 0
    ledger.append(START.timestamp())
    assert [careful.take(), careful.take()] == [0, 0]
    assert careful.take() > 0


def test_what_did_not_leave_uses_up_no_place(hand: Hand):
    pace = Pace([Limit(1, 60)])
    for _ in range(3):
        assert pace.take() == 0
        pace.give_back()
    assert pace.take() == 0
    assert pace.take() > 0
    Pace(()).give_back()
