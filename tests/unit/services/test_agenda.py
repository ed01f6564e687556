"""The agenda: what follows a due time, and when its run may begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.db.due import Due, Next
from syncd.services.agenda import LONGEST_SPREAD_S, OVERDUE, QUIET_SPREAD_S, due_again, first_due, following, phase_key
from tests.support.service import definition

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def due(schedule: str = "at 12:00", at: datetime | None = NOON, *, job: str = "road", quiet_hours: str = "") -> Due:
    return Due(1, job, "home", schedule, "UTC", 0, quiet_hours, at)


def test_a_job_without_a_schedule_is_never_due() -> None:
    assert first_due("home", NOON, definition("road")) is None
    assert following(due("", None), NOON) == Next(None)
    assert following(due("at 12:00", None), NOON) == Next(None)


def test_the_first_due_time_is_after_now() -> None:
    assert first_due("home", NOON, definition("road", schedule="at 12:00")) == NOON + DAY
    in_berlin = definition("road", schedule="at 12:00", timezone="Europe/Berlin")
    assert first_due("home", NOON, in_berlin) == NOON + DAY - timedelta(hours=1)


def test_a_run_in_time_begins_at_once() -> None:
    assert following(due(), NOON + timedelta(seconds=1)) == Next(NOON + DAY, 0, None)


def test_what_passed_meanwhile_is_counted() -> None:
    late = NOON + 3 * DAY + timedelta(seconds=1)
    follows = following(due(), late)
    assert (follows.due, follows.missed) == (NOON + 4 * DAY, 3)


def test_after_a_time_without_service_runs_are_spread_out() -> None:
    late = NOON + timedelta(hours=1)
    begins = [following(due(job=f"job-{number}"), late, waiting=1000).not_before for number in range(1000)]
    found = [(it - late).total_seconds() for it in begins if it is not None]
    assert len(found) == 1000
    assert 0 <= min(found) < 10
    assert 90 < max(found) <= 100
    assert begins == [following(due(job=f"job-{number}"), late, waiting=1000).not_before for number in range(1000)]
    last = following(due(), late, waiting=10**6).not_before
    assert last is not None
    assert last - late <= timedelta(seconds=LONGEST_SPREAD_S)


@pytest.mark.parametrize(("late", "spread"), [(OVERDUE, False), (OVERDUE + timedelta(seconds=1), True)])
def test_only_what_is_overdue_is_spread_out(late: timedelta, spread: bool) -> None:  # noqa: FBT001
    assert (following(due(), NOON + late).not_before is not None) == spread


def test_in_quiet_hours_a_run_waits_for_their_end_and_its_share_of_the_minute_after() -> None:
    begins, end = following(due(quiet_hours="11:00-13:00"), NOON).not_before, NOON + timedelta(hours=1)
    assert begins is not None
    assert end <= begins < end + timedelta(seconds=QUIET_SPREAD_S)
    assert following(due(quiet_hours="13:00-14:00"), NOON).not_before is None


def test_a_due_time_is_found_again_from_any_moment_before_it() -> None:
    times = {
        due_again(NOON + timedelta(minutes=minute), due("every 15 minutes", NOON + 400 * DAY)) for minute in range(45)
    }
    assert len(times) == 4
    first = first_due("home", NOON, definition("road", schedule="every 15 minutes"))
    assert min(times) == first == due_again(NOON, due("every 15 minutes"))


def test_the_phase_is_of_one_job_of_one_configuration() -> None:
    assert len({phase_key("home", "a"), phase_key("home", "b"), phase_key("work", "a")}) == 3
