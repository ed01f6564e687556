"""Schedules as people write them."""

from datetime import timedelta

import pytest

from syncd.settings.schedules import Days, parse_schedule


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("every 15 minutes", 15),
        ("every hour", 60),
        ("every 1 day", 1440),
        ("every minute", 1),
        (" every  2   weeks ", 20160),
    ],
)
def test_intervals(text: str, minutes: int) -> None:
    schedule = parse_schedule(text)
    assert schedule.every == timedelta(minutes=minutes)
    assert schedule.times == ()
    assert str(schedule) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * *",
        "*/15 * * * *",
        "0 8-18/2 * * mon-fri",
        "0,30 6,18 1,15 jan,JUL 0,7",
        "59 23 31 12 7",
    ],
)
def test_cron(text: str) -> None:
    schedule = parse_schedule(text)
    assert str(schedule) == text
    assert schedule.times
    assert schedule.every is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("every", "is not a duration"),
        ("every often", "is not a duration"),
        ("15 minutes", "neither an interval, nor"),
        ("* * * *", "neither an interval, nor"),
        ("* * * * * *", "neither an interval, nor"),
        ("", "neither an interval, nor"),
        (5, "neither an interval, nor"),
        ("60 * * * *", "'60' for the minute, which goes from 0 to 59"),
        ("* 24 * * *", "'24' for the hour"),
        ("* * 0 * *", "'0' for the day of the month, which goes from 1 to 31"),
        ("* * * 13 *", "'13' for the month"),
        ("* * * * 8", "'8' for the day of the week"),
        ("* * * * mo", "'mo' for the day of the week"),
        ("mon * * * *", "'mon' for the minute"),
        ("*/0 * * * *", "the step '0' for the minute, which goes from 1 to 59"),
        ("*/ * * * *", "the step ''"),
        ("30-10 * * * *", "the range '30-10' for the minute, which runs backwards"),
        ("1-2-3 * * * *", "'2-3' for the minute"),
        ("1, * * * *", "'' for the minute"),
        ("-5 * * * *", "'' for the minute"),
        ("٣ * * * *", "'٣' for the minute"),
    ],
)
def test_no_schedules(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("'", ".")):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("text", "times", "days", "continuous"),
    [
        ("30 2 * * *", [150], Days(), False),
        ("0 6,18 * * *", [360, 1080], Days(), False),
        ("*/30 8-9 * * *", [480, 510, 540, 570], Days(), True),
        ("50/5 0 * * *", [50, 55], Days(), False),
        ("0 */12 * * *", [0, 720], Days(), True),
        ("0 3 * * 0", [180], Days(weekdays=frozenset({0})), False),
        ("0 3 * * 7", [180], Days(weekdays=frozenset({0})), False),
        ("0 3 * * fri-7", [180], Days(weekdays=frozenset({5, 6, 0})), False),
        ("0 3 13 * fri", [180], Days(frozenset({13}), weekdays=frozenset({5}), either=True), False),
        ("0 3 */10 * fri", [180], Days(frozenset({1, 11, 21, 31}), weekdays=frozenset({5})), False),
        ("0 3 29 feb *", [180], Days(frozenset({29}), frozenset({2})), False),
        ("@daily", [0], Days(), False),
        ("@Weekly", [0], Days(weekdays=frozenset({0})), False),
        ("@monthly", [0], Days(frozenset({1})), False),
        ("at 02:00", [120], Days(), False),
        ("at 14:30,2:00 , 02:00", [120, 870], Days(), False),
    ],
)
def test_what_is_meant(text: str, times: list[int], days: Days, *, continuous: bool) -> None:
    schedule = parse_schedule(text)
    assert (list(schedule.times), schedule.days, schedule.continuous) == (times, days, continuous)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0 30 2 *", "never comes: none of its months has such a day"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("@reboot", "is not a time; accepted: @yearly"),
        ("at", "has '', which is not a time between 00:00 and 23:59"),
        ("at 24:00", "has '24:00'"),
        ("at 2", "has '2'"),
        ("at 02:60, 3:00", "has '02:60'"),
        ("at " + ", ".join(f"{n // 60}:{n % 60:02}" for n in range(49)), "more than 48 times"),
    ],
)
def test_what_never_comes(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_schedule(text)


def test_a_day_that_one_of_the_months_has() -> None:
    assert parse_schedule("0 0 31 feb,mar *").days.months == {2, 3}
    assert parse_schedule("0 0 30 2 mon").days == Days(months=frozenset({2}), weekdays=frozenset({1}))
