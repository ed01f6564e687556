"""Suspensions, of destinations and sources: whose limit it is, whom it keeps from trying, and for how long."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from syncd.db.ledger import Ledger
from syncd.db.rows import AccountRow, Cause, RouteRow, Suspension
from syncd.engine.budget import RunRoom
from syncd.engine.exit_codes import ExitCode, exit_code
from syncd.engine.job import Job, Route
from syncd.engine.suspension import (
    MAX_PAUSE_S,
    Known,
    Pause,
    begins_behind,
    connect,
    refusal,
    source_refuses,
    suspended,
    throttled,
)
from syncd.errors import AuthRefused, DestinationRefuses, SyncdError, Throttled
from syncd.mail.outcome import Repeat
from syncd.sources.base import SourceInfo
from tests.fakes.relay import Relay
from tests.fakes.source import MemorySource
from tests.support.ledger import START
from tests.unit.engine.conftest import Time

LATER = START + timedelta(hours=1)
ROW = RouteRow(1, 0, "new", "account", account_id=7, repeat=Repeat.UNCERTAIN)


def route(*limits: str) -> Route:
    return Route(ROW, "new", Relay(), None, limits=frozenset(limits))


def job(**more: Any) -> Job:
    account = AccountRow(3, Mock(), "road", "fingerprint")
    return Job("job", 1, account, MemorySource({}), (route(),), 1 << 20, **more)


def ledger(suspension: Suspension | None) -> Mock:
    known = Mock(spec=Ledger)
    known.suspensions = Mock()
    known.suspensions.find.side_effect = lambda subjects: dict.fromkeys(subjects, suspension) if suspension else {}
    return known


# --- whose limit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "cause"), [("2000/day", Cause.LIMIT), ("20/minute", Cause.SERVER), ("", Cause.SERVER)]
)
def test_a_limit_is_the_jobs_own_if_it_is_set_so(limit: str, cause: Cause):
    error = Throttled("a sentence about 2000/day and 20/minute", until=LATER, limit=limit)
    assert throttled(route("2000/day"), error) == Suspension(LATER, str(error), cause, limit=limit)


@pytest.mark.parametrize(("limits", "holds"), [(["2000/day"], True), (["3000/day"], False), ([], False)])
def test_a_limit_that_the_job_does_not_set_any_more_suspends_nothing(limits: list[str], holds: bool):  # noqa: FBT001
    """The limit was searched in the sentence about it."""
    known = Suspension(LATER, "the job's limit of 2000/day and 3000/day is used up", Cause.LIMIT, limit="2000/day")
    assert (suspended(job(), Known(job(), ledger(known)), route(*limits)) is known) is holds


# --- whom it keeps from trying -----------------------------------------------------------------------------


@pytest.mark.parametrize("cause", list(Cause))
def test_a_run_by_hand_tries_what_we_suspended_on_our_own(cause: Cause):
    known = Suspension(LATER, "because", cause, limit="2000/day" if cause is Cause.LIMIT else "")
    ours = cause in {Cause.SIGN_IN, Cause.REFUSED}
    assert suspended(job(), Known(job(), ledger(known)), route("2000/day")) is known
    assert suspended(job(by_hand=True), Known(job(by_hand=True), ledger(known)), route("2000/day")) is (
        None if ours else known
    )


def test_it_is_over_when_its_time_has_come(at: Time):
    known = Suspension(LATER, "because")
    assert suspended(job(), Known(job(), ledger(known)), route()) is known
    at(hours=1)
    assert suspended(job(), Known(job(), ledger(known)), route()) is None


def test_a_source_is_not_connected_to_before_its_time():
    work = job()
    with pytest.raises(AuthRefused) as told:
        connect(work, ledger(Suspension(LATER, "because", Cause.SIGN_IN, tries=2)))
    refused, later = (f"{it.astimezone():%Y-%m-%d %H:%M}" for it in (START + timedelta(minutes=30), LATER))
    assert str(told.value) == (
        f"because; that was the answer at {refused}, and this run did not ask again; suspended until {later},"
        " to try at once: `syncd retry job suspended`"
    )
    assert isinstance(work.source, MemorySource)
    assert work.source.connects == 0


def test_a_dry_run_suspends_nothing_and_does_not_say_so():
    work, book = job(), ledger(None)
    assert isinstance(work.source, MemorySource)
    work.source.failure = AuthRefused("the server says no")
    with pytest.raises(AuthRefused, match=r"the server says no$"):
        connect(work, book, dry_run=True)
    book.suspensions.back_off.assert_not_called()


def test_a_source_that_lets_us_in_is_no_longer_suspended():
    known = ledger(Suspension(LATER, "because", Cause.SIGN_IN))
    connect(job(by_hand=True), known)
    known.suspensions.lift.assert_called_once()


# --- a source that refuses message after message -----------------------------------------------------------


def refuses(messages: tuple[int, ...] = (1, 2)) -> Throttled:
    return Throttled("-ERR quota", until=LATER, messages=messages)


@pytest.mark.parametrize(("tries", "until", "behind"), [(0, START, False), (1, START, True), (2, LATER, True)])
def test_after_two_sessions_the_next_begins_behind_the_messages_and_then_it_rests(
    tries: int,
    until: datetime,
    behind: bool,  # noqa: FBT001
):
    known = Suspension(START, "-ERR quota", Cause.REFUSED, tries) if tries else None
    book = ledger(None)
    error = source_refuses(job(), book, refuses(), known)
    now = Suspension(until, "-ERR quota", Cause.REFUSED, tries + 1)
    book.suspensions.put.assert_called_once_with("account 3", now)
    assert begins_behind(now) is behind
    assert exit_code(error) is ExitCode.TEMPORARY
    assert str(error).startswith("-ERR quota; ")


def test_a_time_that_the_server_named_counts_at_once():
    book = ledger(None)
    source_refuses(job(), book, refuses(()), None)
    book.suspensions.put.assert_called_once_with("account 3", Suspension(LATER, "-ERR quota", Cause.SERVER))


def test_a_source_that_rests_is_tried_by_hand_and_otherwise_passed_over():
    resting = ledger(Suspension(LATER, "-ERR quota", Cause.REFUSED, 3))
    with pytest.raises(
        Throttled, match=r"this run did not ask again; .* to try at once: `syncd retry job suspended`"
    ) as told:
        connect(job(), resting)
    assert exit_code(told.value) is ExitCode.TEMPORARY
    _, known = connect(job(by_hand=True), resting)
    assert known is not None
    resting.suspensions.lift.assert_not_called()


def test_one_that_throttles_the_sign_in_is_suspended():
    work, book = job(), ledger(None)
    assert isinstance(work.source, MemorySource)
    work.source.failure = refuses(())
    with pytest.raises(Throttled, match="it goes on at"):
        connect(work, book)
    book.suspensions.put.assert_called_once()


@pytest.mark.parametrize(
    ("cause", "kind", "says"),
    [
        (Cause.SERVER, Throttled, "it goes on at"),
        (Cause.LIMIT, Throttled, "it goes on at"),
        (Cause.SIGN_IN, AuthRefused, "to try at once: `syncd retry job suspended`"),
        (Cause.REFUSED, DestinationRefuses, "to try at once: `syncd retry job suspended`"),
    ],
)
def test_the_error_that_tells_of_it(cause: Cause, kind: type[SyncdError], says: str):
    error = refusal("job", Suspension(LATER, "because", cause, tries=1))
    assert type(error) is kind
    assert str(error).startswith("because; ")
    assert says in str(error)


# --- between two sign-ins ----------------------------------------------------------------------------------


def test_p27_the_pause_runs_from_the_sign_in(at: Time):
    pause, room = Pause(), Mock(spec=RunRoom)
    pause.begin(at.seconds - 20, SourceInfo("h:110", "none", "", (), pause_s=60))
    assert pause.left_s == 40
    pause.wait(room)
    room.pause.assert_called_once_with(40)
    at(seconds=40)
    pause.wait(room)
    assert (pause.left_s, room.pause.call_count) == (0, 1)


def test_p27_nobody_waits_longer_than_the_limit(at: Time):
    pause, room = Pause(), Mock(spec=RunRoom)
    pause.begin(at.seconds, SourceInfo("h:110", "none", "", (), pause_s=10 * MAX_PAUSE_S))
    pause.wait(room)
    room.pause.assert_called_once_with(MAX_PAUSE_S)
