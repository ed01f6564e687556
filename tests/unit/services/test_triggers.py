"""When jobs come due: both nights in which clocks change, cron's own rules, phase, jitter, and what was missed."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.services.triggers import due_between, next_due
from syncd.settings.schedules import Schedule, parse_schedule

MINUTE = timedelta(minutes=1)


def dues(schedule: str, zone: str, after: datetime, until: datetime, jitter_s: float = 0) -> list[datetime]:
    """Every due time later than `after` and not later than `until`, one after the other."""
    found = [next_due(schedule, zone, "job", jitter_s, after)]
    while found[-1] <= until:
        found.append(next_due(schedule, zone, "job", jitter_s, found[-1]))
    return found[:-1]


def on(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
NIGHTS = [  # zone, day, schedule, what the clock shows at each due time up to 05:00
    # Berlin, clocks go forward: 01:59 is followed by 03:00
    (BERLIN, "2026-03-29", "30 2 * * *", "03:30+02"),
    (BERLIN, "2026-03-29", "at 02:30", "03:30+02"),
    (BERLIN, "2026-03-29", "at 02:30, 03:00, 03:30", "03:00+02 03:30+02"),
    (BERLIN, "2026-03-29", "0 2 * * *", "03:00+02"),
    (BERLIN, "2026-03-29", "0 1-4 * * *", "01:00+01 03:00+02 04:00+02"),
    (BERLIN, "2026-03-29", "*/30 * * * *", "00:30+01 01:00+01 01:30+01 03:00+02 03:30+02 04:00+02 04:30+02 05:00+02"),
    (BERLIN, "2026-03-29", "*/30 2 * * *", ""),
    (BERLIN, "2026-03-29", "@hourly", "01:00+01 03:00+02 04:00+02 05:00+02"),
    # Berlin, clocks go back: 02:59 is followed by 02:00
    (BERLIN, "2026-10-25", "30 2 * * *", "02:30+02"),
    (BERLIN, "2026-10-25", "at 02:00, 03:00", "02:00+02 03:00+01"),
    (BERLIN, "2026-10-25", "0 1-4 * * *", "01:00+02 02:00+02 03:00+01 04:00+01"),
    (BERLIN, "2026-10-25", "*/30 2 * * *", "02:00+02 02:30+02 02:00+01 02:30+01"),
    (BERLIN, "2026-10-25", "0 * * * *", "01:00+02 02:00+02 02:00+01 03:00+01 04:00+01 05:00+01"),
    # New York: 01:59 is followed by 03:00; 01:59 by 01:00
    (NEW_YORK, "2026-03-08", "at 02:15", "03:15-04"),
    (NEW_YORK, "2026-03-08", "*/20 1-3 * * *", "01:00-05 01:20-05 01:40-05 03:00-04 03:20-04 03:40-04"),
    (NEW_YORK, "2026-11-01", "at 01:15", "01:15-04"),
    (NEW_YORK, "2026-11-01", "15 1 * * sun", "01:15-04"),
    (NEW_YORK, "2026-11-01", "*/30 1 * * *", "01:00-04 01:30-04 01:00-05 01:30-05"),
    # Lord Howe changes by half an hour: 01:59 is followed by 02:30; 01:59 by 01:30
    (LORD_HOWE, "2026-10-04", "at 02:15", "02:45+11"),
    (LORD_HOWE, "2026-10-04", "at 02:00, 02:30", "02:30+11"),
    (LORD_HOWE, "2026-10-04", "*/15 1-2 * * *", "01:00+10:30 01:15+10:30 01:30+10:30 01:45+10:30 02:30+11 02:45+11"),
    (LORD_HOWE, "2026-04-05", "at 01:45", "01:45+11"),
    (LORD_HOWE, "2026-04-05", "*/15 1 * * *", "01:00+11 01:15+11 01:30+11 01:45+11 01:30+10:30 01:45+10:30"),
    (LORD_HOWE, "2026-04-05", "45 * * * *", "00:45+11 01:45+11 01:45+10:30 02:45+10:30 03:45+10:30 04:45+10:30"),
    # a gap before midnight: a time of one day comes on the next, together with one of that day
    ("America/Scoresbysund", "2026-03-28", "at 01:00, 23:30", "01:00-02"),
    ("America/Scoresbysund", "2026-03-29", "at 00:30, 23:30", "00:30-01"),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "day", "schedule", "shown"), NIGHTS)
def test_the_nights_in_which_clocks_change(zone: str, day: str, schedule: str, shown: str) -> None:
    after, until = on(zone, f"{day}T00:10"), on(zone, f"{day}T05:00")
    found = dues(schedule, zone, after, until)
    local = [at.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")[11:].removesuffix(":00") for at in found]
    assert " ".join(local) == shown
    assert due_between(schedule, zone, "job", 0, after=after, until=until) == len(found)
    assert all(at.tzinfo is UTC for at in found)


@pytest.mark.parametrize(
    ("schedule", "days"),
    [
        ("0 3 * * 0", "01 08 15 22"),  # February 2026 begins with a Sunday
        ("0 3 * * 7", "01 08 15 22"),
        ("0 3 * * 1", "02 09 16 23"),
        ("0 3 * * sat,MON", "02 07 09 14 16 21 23 28"),
        ("0 3 13 * fri", "06 13 20 27"),
        ("0 3 14 * fri", "06 13 14 20 27"),
        ("0 3 */10 * fri", ""),
        ("0 3 */2 * fri", "13 27"),
        ("0 3 31,28 * *", "28"),
        ("0 3 30 feb mon", "02 09 16 23"),
        ("@weekly", "01 08 15 22"),
        ("@monthly", "01"),
    ],
)
def test_days_are_those_of_cron(schedule: str, days: str) -> None:
    after, until = on(BERLIN, "2026-01-31T23:59"), on(BERLIN, "2026-02-28T23:59")
    found = dues(schedule, BERLIN, after, until)
    assert " ".join(f"{at.astimezone(ZoneInfo(BERLIN)):%d}" for at in found) == days
    assert due_between(schedule, BERLIN, "job", 0, after=after, until=until) == len(found)


def test_a_leap_day_is_found_across_a_century() -> None:
    assert next_due("0 0 29 2 *", "UTC", "job", 0, datetime(2096, 3, 1, tzinfo=UTC)) == datetime(
        2104, 2, 29, tzinfo=UTC
    )


def test_a_due_time_is_later_than_the_last_one() -> None:
    at = datetime(2026, 6, 1, 3, tzinfo=UTC)
    assert next_due("0 3 * * *", "UTC", "job", 0, at - timedelta(microseconds=1)) == at
    assert next_due("0 3 * * *", "UTC", "job", 0, at) == at + timedelta(days=1)
    every = next_due("every 7 minutes", "UTC", "job", 0, at)
    assert next_due("every 7 minutes", "UTC", "job", 0, every - timedelta(microseconds=1)) == every
    assert next_due("every 7 minutes", "UTC", "job", 0, every) == every + 7 * MINUTE


def test_intervals_of_many_jobs_are_spread_and_stay_where_they_are() -> None:
    at = datetime(2026, 6, 1, tzinfo=UTC)
    firsts = [next_due("every 15 minutes", "UTC", f"job-{n}", 0, at) for n in range(300)]
    assert max(firsts) <= at + 15 * MINUTE
    assert len(set(firsts)) > 290
    assert {int((first - at) / MINUTE) for first in firsts} == set(range(15))
    assert firsts[7] + timedelta(days=365) == next_due("every 15 minutes", "UTC", "job-7", 0, at + timedelta(days=365))


def test_phase_and_jitter_never_change() -> None:
    """These values are in databases: another version that finds others would run jobs twice, or leave times out."""
    at = datetime(2026, 6, 1, tzinfo=UTC)
    assert next_due("every day", "UTC", "home\0road", 0, at).isoformat() == "2026-06-01T15:40:14.532000+00:00"
    assert next_due("at 03:00", "UTC", "home\0road", 600, at).isoformat() == "2026-06-01T03:00:57.991000+00:00"


def test_what_was_missed_in_years_is_counted_without_going_through_it() -> None:
    after, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    assert due_between("* * * * *", BERLIN, "job", 30, after=after, until=until) in {5_260_319, 5_260_320, 5_260_321}
    assert due_between("at 02:30", BERLIN, "job", 0, after=after, until=until) == 3653
    assert due_between("every second", BERLIN, "job", 0, after=after, until=until) == 3653 * 86_400
    assert due_between("at 02:30", BERLIN, "job", 0, after=until, until=until) == 0
    assert due_between("at 02:30", BERLIN, "job", 0, after=until, until=after) == 0


def test_apscheduler_is_loaded_only_when_a_time_of_the_day_is_asked_for() -> None:
    program = (
        "import sys, datetime\nfrom syncd.services.triggers import next_due\n"
        "now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)\n"
        "next_due('every minute', 'UTC', 'j', 5, now)\nprint('apscheduler' in sys.modules)\n"
        "next_due('@daily', 'UTC', 'j', 5, now)\nprint('apscheduler' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- properties ----------------------------------------------------------------------------------------

ZONES = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "America/Scoresbysund", "Pacific/Apia", "UTC"])
CHANGES = st.sampled_from(
    [
        *("2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00", "2026-10-03T15:30"),
        *("2026-04-04T15:00", "2011-12-30T10:00", "2026-07-01T00:00"),
    ]
).map(lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC))
MINUTES = st.integers(-400, 400) | st.integers(800, 1600)
NEAR = st.builds(
    lambda change, minutes, rest: change + minutes * MINUTE + rest * timedelta(microseconds=1),
    CHANGES,
    MINUTES,
    st.sampled_from([0, 0, 1, 59_999_999]),
)
FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "*", "10-20/5", "0,45", "59"]),
    st.sampled_from(["*", "2", "1-3", "*/2", "0", "23", "1,2"]),
    st.sampled_from(["*", "*", "29", "1-8", "*/2"]),
    st.just("*"),
    st.sampled_from(["*", "*", "sun", "1-5"]),
).map(" ".join)
SCHEDULES = st.one_of(
    FIELDS, st.sampled_from(["at 02:30", "at 02:00, 02:30, 03:00, 01:45", "at 00:15, 23:45", "@hourly"])
)


def shows(schedule: Schedule, wall: datetime) -> bool:
    days = schedule.days
    one, other = wall.day in days.days, wall.isoweekday() % 7 in days.weekdays
    on_day = wall.month in days.months and ((one or other) if days.either else (one and other))
    return on_day and wall.hour * 60 + wall.minute in schedule.times


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, ZONES, NEAR)
def test_due_times_are_those_that_the_clock_shows(text: str, zone: str, after: datetime) -> None:
    """Found minute by minute. A time of the day that comes twice is due at first; one in a gap is due after it."""
    schedule, info, until = parse_schedule(text), ZoneInfo(zone), after + timedelta(hours=6)
    begin = after.replace(second=0, microsecond=0) - timedelta(hours=25)  # before a gap of a day
    expected: set[datetime] = set()
    seen: set[datetime] = set()
    last = begin.astimezone(info).replace(tzinfo=None) - MINUTE
    for minute in range(31 * 60 + 2):
        at = begin + minute * MINUTE
        wall = at.astimezone(info).replace(tzinfo=None)
        left_out = range(int((wall - last) / MINUTE) - 1)  # in a gap
        if not schedule.continuous:
            expected |= {at + n * MINUTE for n in left_out if shows(schedule, last + (n + 1) * MINUTE)}
        if shows(schedule, wall) and (schedule.continuous or wall not in seen):
            expected.add(at)
        seen.add(wall)
        last = wall
    assert dues(text, zone, after, until) == sorted(at for at in expected if after < at <= until)


@settings(max_examples=60, deadline=None)
@given(st.one_of(SCHEDULES, st.sampled_from(["every 20 minutes", "every 7 hours"])), ZONES, NEAR, st.integers(1, 600),
       st.sampled_from([0, 40, 1200, 86_400]))  # fmt: skip
def test_what_is_counted_are_the_due_times(text: str, zone: str, after: datetime, minutes: int, jitter_s: int) -> None:
    until = after + minutes * MINUTE
    found = dues(text, zone, after, until, jitter_s=jitter_s)
    assert due_between(text, zone, "job", jitter_s, after=after, until=until) == len(found)
    assert all(one < other for one, other in pairwise(found))


@settings(max_examples=40, deadline=None)
@given(SCHEDULES, ZONES, NEAR, st.sampled_from([1, 90, 3600, 86_400]), st.floats(0, 1, exclude_max=True))
def test_a_due_time_is_the_same_whenever_it_is_asked_for(
    text: str, zone: str, after: datetime, jitter_s: int, part: float
) -> None:
    one = next_due(text, zone, "job", jitter_s, after)
    other = next_due(text, zone, "job", jitter_s, one)
    assert next_due(text, zone, "job", jitter_s, one + part * (other - one - timedelta(microseconds=1))) == other
    without = next_due(text, zone, "job", 0, one - timedelta(seconds=jitter_s))
    assert without <= one, "jitter puts a due time off, and by no more than it may"
