"""Removal at the source: only what came whole, and not while its listing looks wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from syncd import clock
from syncd.engine.budget import RunRoom
from syncd.engine.events import ExitCode, Noted
from syncd.engine.job import RemovalPolicy
from tests.fakes.archive import MemoryArchive
from tests.support.engine import Engine, Make, mail, source
from tests.support.ledger import START

AT_ONCE = RemovalPolicy(timedelta(0), confirmed=True)


@pytest.fixture
def make(make: Make) -> Make:
    """Makes an engine of so many messages that removes what it has delivered."""
    return lambda count, **more: make(count, {"home": MemoryArchive()}, removal=AT_ONCE, **more)


def test_what_was_delivered_is_removed(make: Make):
    engine = make(3)
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.DONE, 3)
    assert source(engine).mail == {}
    assert engine.run().exit_code is ExitCode.DONE


# --- what came shorter than listed -------------------------------------------------------------------------


@pytest.mark.parametrize(("listed", "removed"), [(500_000, 1), (46 + 1024, 2), (60, 2), (30, 2)])
def test_p33_a_message_of_which_parts_may_be_missing_is_not_removed(make: Make, listed: int, removed: int):
    """LIST said 500,000 octets, RETR gave fifty: it was removed."""
    engine = make(2)
    source(engine).lies = {b"uid001": listed}
    assert engine.run().removed == removed
    if removed == 1:
        (told,) = engine.ledger.problems()
        assert (told.uid, told.retry_at) == (b"uid001", None)
        assert "lists 500,000 octets and gave 46" in told.reason
        assert engine.run().removed == 0


def test_p33_five_percent_of_a_large_message_are_no_reason(make: Make):
    engine = make(1)
    source(engine).mail[b"uid001"] += b"x" * 96_000
    source(engine).lies = {b"uid001": 100_000}
    assert engine.run().removed == 1


def test_p33_a_person_who_has_looked_may_have_it_removed(make: Make):
    engine = make(1)
    source(engine).lies = {b"uid001": 500_000}
    engine.run()
    engine.ledger.thaw(engine.account.id)
    engine.removal = RemovalPolicy(timedelta(0), confirmed=True, lifted=True)
    assert engine.run().removed == 1


# --- a server that wants a pause between sign-ins -----------------------------------------------------------


def test_p27_the_second_sign_in_waits_as_long_as_the_server_says(make: Make, monkeypatch: pytest.MonkeyPatch):
    """Removal signed in at once, and was refused in every run."""
    engine = make(2)
    source(engine).pause_s = 60.0
    waited: list[float] = []
    monkeypatch.setattr(RunRoom, "pause", lambda _, seconds: waited.append(seconds))
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.DONE, 2)
    assert [round(seconds) for seconds in waited] == [60]
    assert any("60 s until the next sign-in" in event.text for event in engine.events if isinstance(event, Noted))


def test_p27_a_pause_that_is_too_long_is_told_and_is_no_failure(make: Make):
    engine = make(2)
    source(engine).pause_s = 3600.0
    report = engine.run()
    assert (report.exit_code, report.fetched, report.to_remove, report.removed) == (ExitCode.DONE, 2, 2, 0)
    assert source(engine).connects == 1
    assert any("not removed" in event.text for event in engine.events if isinstance(event, Noted))


def test_p27_nobody_waits_who_has_nothing_to_remove(make: Make):
    engine = make(0)
    source(engine).pause_s = 60.0
    assert engine.run().exit_code is ExitCode.DONE


# --- clocks ------------------------------------------------------------------------------------------------


class Days:
    """A clock that a test sets."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        self._engine = engine
        engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def removed(self, after: timedelta = timedelta()) -> int:
        self.now += after
        return self._engine.run().removed


def test_mail_is_removed_when_it_has_its_age(make: Make, monkeypatch: pytest.MonkeyPatch):
    days = Days(make(3), monkeypatch)
    assert [days.removed(timedelta(days=10)) for _ in range(5)] == [0, 0, 0, 0, 3]


def test_a_job_that_runs_once_a_month_removes_like_the_others(make: Make, monkeypatch: pytest.MonkeyPatch):
    days = Days(make(3), monkeypatch)
    assert [days.removed(timedelta(days=31)) for _ in range(2)] == [0, 3]


@pytest.mark.parametrize("leap", [timedelta(days=365), timedelta(days=45)])
def test_f69_a_clock_that_is_set_ahead_makes_nothing_old(make: Make, monkeypatch: pytest.MonkeyPatch, leap: timedelta):
    engine = make(3)
    days = Days(engine, monkeypatch)
    assert days.removed() == 0
    assert days.removed(leap) == 0
    assert any("3 messages stay for 30 days more" in event.text for event in engine.events if isinstance(event, Noted))
    assert days.removed(timedelta(days=20)) == 0
    assert days.removed(timedelta(days=11)) == 3


@pytest.mark.parametrize("began", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), START - timedelta(days=365)])
def test_f69_what_came_while_the_clock_was_behind_is_not_old_when_it_is_right(
    make: Make, monkeypatch: pytest.MonkeyPatch, began: datetime
):
    """A machine without a battery: five minutes later its mail was 56 years old, and was removed."""
    days = Days(make(3), monkeypatch)
    days.now = began
    assert days.removed() == 0
    days.now = START
    assert [days.removed(), days.removed(timedelta(days=29)), days.removed(timedelta(days=2))] == [0, 0, 3]


def test_f69_a_clock_that_is_set_back_keeps_mail_and_then_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch):
    days = Days(make(3), monkeypatch)
    assert days.removed() == 0
    days.now = START - timedelta(days=365)
    assert [days.removed(), days.removed(timedelta(days=10))] == [0, 0]
    days.now = START + timedelta(days=25)
    assert days.removed() == 0
    assert days.removed(timedelta(days=31)) == 3


def test_f69_a_year_ahead_for_one_run_is_forgotten_when_the_clock_is_right_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    days = Days(make(3), monkeypatch)
    assert days.removed() == 0
    days.now = START + timedelta(days=365)
    assert days.removed() == 0
    days.now = START + timedelta(days=1)
    assert [days.removed(), days.removed(timedelta(days=31))] == [0, 3]


# --- what the server does not remove -----------------------------------------------------------------------


def test_f58_a_refused_removal_is_told_and_waits_for_a_person(make: Make):
    """It was noted on the screen alone, and the run ended with 0."""
    engine = make(3)
    source(engine).refuses = {b"uid002"}
    report = engine.run()
    assert (report.exit_code, report.removed, report.waiting_person) == (ExitCode.WAITING, 2, 1)
    (told,) = engine.ledger.problems()
    assert (told.uid, told.delivery, told.retry_at) == (b"uid002", None, None)
    assert "-ERR no" in told.reason
    assert engine.run().exit_code is ExitCode.WAITING
    source(engine).refuses = set()
    engine.ledger.thaw(engine.account.id)
    assert engine.run().removed == 1
    assert (engine.run().exit_code, list(engine.ledger.problems())) == (ExitCode.DONE, [])


def test_inv2_a_frozen_message_counts_in_each_run_until_it_is_lifted(make: Make):
    engine = make(2)
    source(engine).lies = {b"uid001": 500_000}
    for _ in range(3):
        report = engine.run()
        assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 1)
    engine.ledger.thaw(engine.account.id)
    engine.removal = None
    assert engine.run().exit_code is ExitCode.DONE


def test_a_person_who_lifts_the_freeze_of_an_empty_maildrop_believes_it(make: Make):
    """Every run froze it anew, whatever the person said."""
    engine = make(3)
    engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)
    engine.run()
    source(engine).mail = {}
    for _ in range(2):
        engine.run()
        assert "is empty" in str(engine.ledger.frozen_reason(engine.account.id))
    unfreeze(engine)
    for _ in range(3):
        assert engine.run().exit_code is ExitCode.DONE
        assert engine.ledger.frozen_reason(engine.account.id) is None
        engine.lifted = None
    source(engine).mail = mail(5)  # all of it is back, and more
    assert (engine.run().fetched, engine.ledger.frozen_reason(engine.account.id)) == (2, None)


def test_lifting_another_freeze_does_not_believe_an_empty_maildrop(make: Make):
    engine = make(3)
    engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)
    engine.run()
    engine.ledger.freeze(engine.account.id, "something else")
    source(engine).mail = {}
    unfreeze(engine)
    engine.run()
    assert "is empty" in str(engine.ledger.frozen_reason(engine.account.id))


def test_a_person_who_lifts_the_freeze_of_other_sizes_believes_them(make: Make):
    engine = make(2)
    source(engine).lies = dict.fromkeys(mail(2), 500_000)
    assert engine.run().exit_code is ExitCode.WAITING
    unfreeze(engine)
    assert (engine.run().removed, source(engine).mail) == (2, {})


def unfreeze(engine: Engine) -> None:
    """What `syncd run JOB --unfreeze` does before the run."""
    engine.lifted = engine.ledger.frozen_reason(engine.account.id)
    engine.ledger.thaw(engine.account.id)
    assert engine.removal is not None
    engine.removal = replace(engine.removal, lifted=True)


def test_p05_another_message_under_a_known_id_is_not_removed_and_is_fetched(make: Make):
    """It was frozen for a person, who could only have it frozen anew; nobody fetched it."""
    engine = make(2)
    there, engine.removal = source(engine), None
    there.tops = True
    engine.run()
    other = there.mail[b"uid001"].replace(b"mail 1", b"mail 7")
    there.mail[b"uid001"] = other
    engine.removal = AT_ONCE
    report = engine.run()
    assert (report.removed, list(there.mail.values())) == (1, [other])
    assert any("another message" in event.text for event in engine.events if isinstance(event, Noted))
    report = engine.run()
    assert (report.exit_code, report.fetched, report.removed) == (ExitCode.DONE, 1, 1)
    home = engine.destinations["home"]
    assert isinstance(home, MemoryArchive)
    assert (home.copies, there.mail) == (3, {})
    for _ in range(3):
        assert (engine.run().exit_code, list(engine.ledger.problems())) == (ExitCode.DONE, [])


# --- a listing that looks wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(("then", "why"), [({}, "is empty"), ({b"new1": b"\r\n"}, "no unique-id")])
def test_p37_f17_a_strange_listing_in_the_session_of_removal_freezes(make: Make, then: dict[bytes, bytes], why: str):
    """It was recorded as a fact: everything was missing, and gone one listing later."""
    engine = make(3)
    there = source(engine)

    def changed() -> None:
        if len(there.sessions) == 1:
            there.mail = then

    there.on_finish = changed
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.STOPPED, 0)
    assert why in report.errors[0]
    assert why in str(engine.ledger.frozen_reason(engine.account.id))
    there.mail = mail(3)
    there.on_finish = lambda: None
    assert engine.run().exit_code is ExitCode.STOPPED
    engine.ledger.thaw(engine.account.id)
    assert engine.run().removed == 3
