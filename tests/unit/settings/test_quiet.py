"""Quiet hours, and the time since which a job is late."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from syncd.settings.quiet import late_since, parse_quiet_hours, quiet_until

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
HOUR = timedelta(hours=1)


def on(zone: str, text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("22:00-06:00", "22:00-06:00"), (" 9:05 - 17:30", "09:05-17:30"), ("00:00-23:59", "00:00-23:59")],
)
def test_what_can_be_read(text: str, shown: str) -> None:
    assert str(parse_quiet_hours(text)) == shown


@pytest.mark.parametrize("text", ["", "22-06", "22:00", "24:00-06:00", "22:00-06:60", "22:00-06:00 UTC", 22, None, []])
def test_what_cannot_be_read(text: object) -> None:
    with pytest.raises(ValueError, match="is not a time of the day from HH:MM to HH:MM"):
        parse_quiet_hours(text)


def test_a_day_without_quiet_hours_or_of_nothing_else() -> None:
    with pytest.raises(ValueError, match="enabled = false"):
        parse_quiet_hours("06:00-06:00")


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("22:00-06:00", "2026-06-01T21:59", None),
        ("22:00-06:00", "2026-06-01T22:00", "2026-06-02T06:00"),
        ("22:00-06:00", "2026-06-02T05:59", "2026-06-02T06:00"),
        ("22:00-06:00", "2026-06-02T06:00", None),
        ("09:00-17:00", "2026-06-01T12:00", "2026-06-01T17:00"),
        ("09:00-17:00", "2026-06-01T08:00", None),
        ("00:00-00:01", "2026-06-01T00:00", "2026-06-01T00:01"),
        ("", "2026-06-01T23:00", None),
    ],
)
def test_ordinary_days(quiet: str, now: str, until: str | None) -> None:
    assert quiet_until(quiet, BERLIN, on(BERLIN, now)) == (None if until is None else on(BERLIN, until))


@pytest.mark.parametrize(
    ("zone", "quiet", "begin", "hours"),
    [
        (BERLIN, "22:00-06:00", on(BERLIN, "2026-03-28T22:00"), 7),
        (BERLIN, "22:00-06:00", on(BERLIN, "2026-10-24T22:00"), 9),
        (BERLIN, "22:00-02:30", on(BERLIN, "2026-10-24T22:00"), 4.5),  # ends at the first 02:30
        (BERLIN, "02:30-04:00", on(BERLIN, "2026-10-25T02:30"), 2.5),  # begins at the first 02:30
        (BERLIN, "22:00-02:30", on(BERLIN, "2026-03-28T22:00"), 4.5),  # ends at 03:30
        (BERLIN, "02:30-04:00", on(BERLIN, "2026-03-29T03:30"), 0.5),  # begins at 03:30
        (NEW_YORK, "23:00-01:30", on(NEW_YORK, "2026-10-31T23:00"), 2.5),
        (NEW_YORK, "23:00-05:00", on(NEW_YORK, "2026-03-07T23:00"), 5),
        (LORD_HOWE, "22:00-06:00", on(LORD_HOWE, "2026-10-03T22:00"), 7.5),
        (LORD_HOWE, "22:00-06:00", on(LORD_HOWE, "2026-04-04T22:00"), 8.5),
    ],
)
def test_the_nights_in_which_clocks_change(zone: str, quiet: str, begin: datetime, hours: float) -> None:
    """Each night has one stretch of quiet hours, without a gap and without a second beginning."""
    end = begin + hours * HOUR
    minutes = [begin + timedelta(minutes=n) for n in range(-120, int(hours * 60) + 120)]
    found = {at for at in minutes if quiet_until(quiet, zone, at) is not None}
    assert found == {at for at in minutes if begin <= at < end}
    assert {quiet_until(quiet, zone, at) for at in found} == {end}


def test_quiet_hours_that_fall_into_the_gap_do_not_come() -> None:
    minutes = [on(BERLIN, "2026-03-29T00:00") + timedelta(minutes=n) for n in range(360)]
    assert {quiet_until("02:00-03:00", BERLIN, at) for at in minutes} == {None}


@pytest.mark.parametrize(
    ("success", "hours", "quiet", "late"),
    [
        ("2026-06-01T12:00", 6, "", "2026-06-01T18:00"),
        ("2026-06-01T12:00", 6, "22:00-06:00", "2026-06-01T18:00"),
        ("2026-06-01T16:00", 6, "22:00-06:00", "2026-06-01T22:00"),
        ("2026-06-01T21:00", 6, "22:00-06:00", "2026-06-02T11:00"),
        ("2026-06-01T23:00", 6, "22:00-06:00", "2026-06-02T12:00"),  # by hand, in quiet hours
        ("2026-06-01T21:00", 40, "22:00-06:00", "2026-06-04T13:00"),  # three nights
        ("2026-03-28T21:00", 6, "22:00-06:00", "2026-03-29T11:00"),
        ("2026-03-28T04:00", 23, "02:00-03:00", "2026-03-29T04:00"),  # the quiet hour did not come
    ],
)
def test_a_job_is_late_when_its_time_is_over(success: str, hours: int, quiet: str, late: str) -> None:
    at = on(BERLIN, late)
    for now, expected in ((at - timedelta(seconds=1), None), (at, at), (at + 100 * HOUR, at)):
        assert late_since(on(BERLIN, success), hours * HOUR, quiet, BERLIN, now) == expected


def test_a_success_in_the_future_is_not_late() -> None:
    """A clock was set back."""
    now = on(BERLIN, "2026-06-01T12:00")
    assert late_since(now + HOUR, timedelta(seconds=1), "22:00-06:00", BERLIN, now) is None
