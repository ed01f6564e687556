"""Of which jobs people are told, when, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syncd.db.notices import Condition, Told
from syncd.db.rows import Paused
from syncd.services.notify import GAP, MAX_NEWS, SHOWN, again_at, compose, decide, marks_of, trouble

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def condition(job_id: int = 1, **facts: Any) -> Condition:
    well = Condition(job_id, "home", f"job{job_id}", None, None, None, None, 0, "", None)
    return well._replace(**facts)


def told(marks: str, ago: timedelta | None = HOUR, *, claimed: timedelta | None = None, job_id: int = 1) -> Told:
    at, until = (None if it is None else it for it in (ago, claimed))
    return Told(job_id, marks, None if at is None else NOW - at, None if until is None else NOW + until, 0)


LATE = condition(late_since=NOW - HOUR, succeeded_at=NOW - 7 * HOUR)
REFUSED = condition(exit_code=4, trouble="pop.example.net:995: the password was refused")


@pytest.mark.parametrize(
    ("facts", "marks"),
    [
        ({}, ()),
        ({"exit_code": 5, "trouble": "no connection"}, ()),
        ({"exit_code": 10}, ()),
        ({"exit_code": 130}, ()),
        ({"exit_code": 1}, ("ended 1",)),
        ({"exit_code": 3}, ("ended 3",)),
        ({"exit_code": 6}, ("ended 6",)),
        ({"exit_code": 7}, ("ended 7",)),
        ({"paused": Paused.PERSON}, ()),
        ({"paused": Paused.SIGN_IN, "exit_code": 4}, ("paused 2", "ended 4")),
        ({"paused": Paused.DEATHS, "exit_code": 1}, ("paused 3", "ended 1")),
        ({"late_since": NOW}, ("late",)),
    ],
)
def test_what_is_wrong_with_a_job(facts: dict[str, Any], marks: tuple[str, ...]):
    assert marks_of(condition(**facts)) == marks
    assert trouble([condition(2), condition(**facts)]) == bool(marks)


def test_a_job_is_told_of_once():
    (news,) = decide([LATE], {}, NOW)
    assert (news.marks, news.before, news.well) == ("late", "", False)
    assert news.begun == ("is late: its last success was 2026-03-01 05:00 UTC",)
    assert decide([LATE], {1: told("late")}, NOW) == []
    assert decide([condition()], {}, NOW) == []


def test_a_job_that_is_well_again_is_told_of_once():
    (news,) = decide([condition()], {1: told("late,ended 4")}, NOW)
    assert news.well
    assert news.over == ("is not late any more", "runs without errors again")
    assert decide([condition()], {1: told("")}, NOW) == []


def test_another_end_is_news_and_not_the_end_of_the_last_one():
    (news,) = decide([condition(exit_code=6, trouble="the password file is missing")], {1: told("ended 4")}, NOW)
    assert news.begun == ("ended with exit code 6 (the configuration is wrong): the password file is missing",)
    assert news.over == ()


def test_a_temporary_failure_is_no_news_and_no_recovery():
    assert decide([condition(exit_code=5, trouble="no connection")], {1: told("ended 4")}, NOW) == []


def test_a_job_that_is_paused_after_being_late_is_not_better():
    paused = condition(paused=Paused.SIGN_IN, exit_code=4, trouble="refused")
    (news,) = decide([paused], {1: told("late,ended 4")}, NOW)
    assert (news.marks, news.over) == ("late,paused 2,ended 4", ())
    assert "syncd resume job1" in news.begun[0]


def test_a_job_that_a_person_paused_is_not_told_of():
    assert decide([condition(paused=Paused.PERSON, exit_code=4)], {}, NOW) == []
    assert decide([condition(paused=Paused.PERSON)], {1: told("late")}, NOW) == []


def test_a_job_that_goes_to_and_fro_is_told_of_once_an_hour():
    known = {1: told("late", ago=HOUR - timedelta(seconds=1))}
    assert decide([condition()], known, NOW) == []
    assert decide([LATE], known, NOW) == []
    assert len(decide([condition()], known, NOW + timedelta(seconds=1))) == 1


def test_a_message_that_another_process_sends_is_left_to_it():
    assert decide([LATE], {1: told("", None, claimed=timedelta(minutes=1))}, NOW) == []
    assert len(decide([LATE], {1: told("", None, claimed=timedelta(minutes=-1))}, NOW)) == 1


def test_one_message_at_a_time_for_all_jobs():
    known = {2: told("late", ago=GAP - timedelta(seconds=1), job_id=2)}
    assert decide([LATE], known, NOW) == []
    assert len(decide([LATE], known, NOW + timedelta(seconds=1))) == 1


def test_a_clock_that_went_back_silences_nobody():
    known = {1: told("ended 4", ago=-timedelta(days=300))}
    assert len(decide([condition()], known, NOW)) == 1


def test_many_jobs_make_one_message_of_bounded_length():
    ill = [condition(number, exit_code=1, trouble="x" * 500) for number in range(2000)]
    news = decide(ill, {}, NOW)
    assert len(news) == MAX_NEWS
    message = compose([*news, *decide([condition(3000)], {3000: told("late", job_id=3000)}, NOW)], NOW)
    assert message.title == "syncd: 500 jobs need attention, 1 job is well again"
    assert message.text.count("\n") == SHOWN + 1 + 1 + 1
    assert "… and 450 more jobs" in message.text
    assert message.text.splitlines()[SHOWN] == 'job "job3000" (home) is not late any more'


def test_the_message_about_one_job():
    message = compose(decide([REFUSED], {}, NOW), NOW)
    assert message.title == 'syncd: job "job1" needs attention'
    assert message.text == (
        'job "job1" (home) ended with exit code 4 (the sign-in was refused):'
        " pop.example.net:995: the password was refused\n\n"
        "As of 2026-03-01 12:00 UTC. To see all jobs: syncd status"
    )
    assert message.document["jobs"] == [
        {
            "job": "job1",
            "configuration": "home",
            "marks": ["ended 4"],
            "well": False,
            "begun": [
                "ended with exit code 4 (the sign-in was refused): pop.example.net:995: the password was refused"
            ],
            "over": [],
        }
    ]
    well = compose(decide([condition()], {1: told("ended 4")}, NOW), NOW)
    assert well.title == 'syncd: job "job1" is well again'


def test_advice_stands_where_there_is_something_to_do():
    (waiting,) = decide([condition(exit_code=3)], {}, NOW)
    (braked,) = decide([condition(exit_code=7, trouble="60 removals at once")], {}, NOW)
    (never,) = decide([condition(late_since=NOW)], {}, NOW)
    assert waiting.begun == ("ended with exit code 3 (some messages wait for you). See: syncd errors job1",)
    assert braked.begun[0].endswith(": 60 removals at once. See: syncd status job1")
    assert never.begun == ("is late: no run has succeeded yet",)


def test_messages_that_did_not_leave_are_tried_again_ever_later():
    waits = [again_at(tries, NOW) - NOW for tries in range(5)]
    assert waits == sorted(waits)
    assert waits[0] == timedelta(minutes=5)
    assert waits[-1] == waits[-2] == timedelta(hours=2)
