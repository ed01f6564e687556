"""Octets of a day: counted in a window that slides, with what earlier runs moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd import clock
from syncd.mail.allowance import BUCKET_S, Allowance

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BUCKET = timedelta(seconds=BUCKET_S)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The clock of this test: its last value."""
    times = [NOON]
    monkeypatch.setattr(clock, "now", lambda: times[-1])
    return times


def begin(at: datetime) -> int:
    return int(at.timestamp())


def test_octets_pass_until_they_are_used_up_and_again_a_day_later(now: list[datetime]):
    allowance = Allowance(100, "a limit", lambda _: [])
    assert allowance.take(60) is None
    now.append(NOON + timedelta(hours=1))
    assert allowance.take(40) is None
    refused = allowance.take(1)
    assert refused is not None
    assert (refused.until, refused.limit) == (NOON + DAY + BUCKET, "a limit")
    assert "a limit is used up" in str(refused)
    now.append(refused.until)
    assert allowance.take(60) is None
    refused = allowance.take(1)
    assert refused is not None
    assert refused.until == NOON + timedelta(hours=1) + DAY + BUCKET


def test_what_earlier_runs_moved_counts(now: list[datetime]):
    asked: list[float] = []

    def past(since: float) -> list[tuple[int, int]]:
        asked.append(since)
        return [(begin(NOON - timedelta(hours=20)), 70), (begin(NOON - timedelta(hours=2)), 20)]

    allowance = Allowance(100, "a limit", past)
    assert allowance.take(10) is None
    refused = allowance.take(30)
    assert refused is not None
    assert refused.until == NOON + timedelta(hours=4) + BUCKET
    assert asked == [begin(NOON - DAY)], "it is read once"
    del now


def test_a_message_over_the_whole_limit_passes_alone(now: list[datetime]):
    allowance = Allowance(100, "a limit", lambda _: [])
    assert allowance.take(500) is None
    refused = allowance.take(1)
    assert refused is not None
    assert refused.until == NOON + DAY, "the ledger believes no longer suspension"
    now.append(refused.until + BUCKET)
    assert allowance.take(1) is None
    assert allowance.take(500) is not None


def test_octets_of_a_clock_that_was_ahead_do_not_count(now: list[datetime]):
    allowance = Allowance(100, "a limit", lambda _: [])
    now.append(NOON + 400 * DAY)
    assert allowance.take(100) is None
    now.append(NOON)
    assert allowance.take(100) is None
    refused = allowance.take(1)
    assert refused is not None
    assert refused.until == NOON + DAY
