"""Removal at the source: only what came whole, and not while its listing looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from syncd.db.rows import Freeze
from syncd.engine.budget import RunRoom
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import RemovalPolicy
from syncd.errors import MailboxRefused
from syncd.mail.mailbox import INBOX, Mailbox
from tests.fakes.archive import MemoryArchive
from tests.support.engine import Engine, Make, mail, source
from tests.support.ledger import START
from tests.unit.engine.conftest import Time

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
    engine.ledger.mailboxes.thaw(engine.account.id)
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
    assert waited == [60.0]
    assert any("60 s until the next sign-in" in note for note in engine.notes())


def test_p27_a_pause_that_is_too_long_is_told_and_is_no_failure(make: Make):
    engine = make(2)
    source(engine).pause_s = 3600.0
    report = engine.run()
    assert (report.exit_code, report.fetched, report.to_remove, report.removed) == (ExitCode.DONE, 2, 2, 0)
    assert source(engine).connects == 1
    assert any("not removed" in note for note in engine.notes())


def test_p27_nobody_waits_who_has_nothing_to_remove(make: Make):
    engine = make(0)
    source(engine).pause_s = 60.0
    assert engine.run().exit_code is ExitCode.DONE


# --- clocks ------------------------------------------------------------------------------------------------


class Days:
    """Runs of a job that removes after thirty days."""

    def __init__(self, engine: Engine, at: Time) -> None:
        self._at = at
        self._engine = engine
        engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)

    def set(self, now: datetime) -> None:
        self._at.now = now

    def removed(self, after: timedelta = timedelta()) -> int:
        self._at.now += after
        return self._engine.run().removed


def test_mail_is_removed_when_it_has_its_age(make: Make, at: Time):
    days = Days(make(3), at)
    assert [days.removed(timedelta(days=10)) for _ in range(5)] == [0, 0, 0, 0, 3]


def test_a_job_that_runs_once_a_month_removes_like_the_others(make: Make, at: Time):
    days = Days(make(3), at)
    assert [days.removed(timedelta(days=31)) for _ in range(2)] == [0, 3]


@pytest.mark.parametrize("leap", [timedelta(days=365), timedelta(days=45)])
def test_f69_a_clock_that_is_set_ahead_makes_nothing_old(make: Make, at: Time, leap: timedelta):
    engine = make(3)
    days = Days(engine, at)
    assert days.removed() == 0
    assert days.removed(leap) == 0
    assert any("3 messages kept for 30 days more" in note for note in engine.notes())
    assert days.removed(timedelta(days=20)) == 0
    assert days.removed(timedelta(days=11)) == 3


@pytest.mark.parametrize("began", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), START - timedelta(days=365)])
def test_f69_what_came_while_the_clock_was_behind_is_not_old_when_it_is_right(make: Make, at: Time, began: datetime):
    """A machine without a battery: five minutes later its mail was 56 years old, and was removed."""
    days = Days(make(3), at)
    days.set(began)
    assert days.removed() == 0
    days.set(START)
    assert [days.removed(), days.removed(timedelta(days=29)), days.removed(timedelta(days=2))] == [0, 0, 3]


def test_f69_a_clock_that_is_set_back_keeps_mail_and_then_goes_on(make: Make, at: Time):
    days = Days(make(3), at)
    assert days.removed() == 0
    days.set(START - timedelta(days=365))
    assert [days.removed(), days.removed(timedelta(days=10))] == [0, 0]
    days.set(START + timedelta(days=25))
    assert days.removed() == 0
    assert days.removed(timedelta(days=31)) == 3


def test_f69_a_year_ahead_for_one_run_is_forgotten_when_the_clock_is_right_again(make: Make, at: Time):
    days = Days(make(3), at)
    assert days.removed() == 0
    days.set(START + timedelta(days=365))
    assert days.removed() == 0
    days.set(START + timedelta(days=1))
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
    engine.ledger.mailboxes.thaw(engine.account.id)
    assert engine.run().removed == 1
    assert (engine.run().exit_code, list(engine.ledger.problems())) == (ExitCode.DONE, [])


def test_inv2_a_frozen_message_counts_in_each_run_until_it_is_lifted(make: Make):
    engine = make(2)
    source(engine).lies = {b"uid001": 500_000}
    for _ in range(3):
        report = engine.run()
        assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 1)
    engine.ledger.mailboxes.thaw(engine.account.id)
    engine.removal = None
    assert engine.run().exit_code is ExitCode.DONE


def test_a_person_who_lifts_the_freeze_of_an_empty_maildrop_believes_it(make: Make):
    """Every run froze it again, whatever the person said."""
    engine = make(3)
    engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)
    engine.run()
    source(engine).mail = {}
    for _ in range(2):
        engine.run()
        assert engine.frozen() == {INBOX: Freeze.EMPTY}
    unfreeze(engine)
    for _ in range(3):
        assert engine.run().exit_code is ExitCode.DONE
        assert engine.frozen() == {}
        engine.lifted = {}
    source(engine).mail = mail(5)  # all of it is back, and more
    assert (engine.run().fetched, engine.frozen()) == (2, {})


def test_lifting_another_freeze_does_not_believe_an_empty_maildrop(make: Make):
    engine = make(3)
    engine.removal = RemovalPolicy(timedelta(days=30), confirmed=True)
    engine.run()
    (scope,) = engine.ledger.mailboxes.find(engine.scope).values()
    engine.ledger.mailboxes.freeze(scope, Freeze.RENAMED, "something else")
    source(engine).mail = {}
    unfreeze(engine)
    engine.run()
    assert engine.frozen() == {INBOX: Freeze.EMPTY}


def test_a_person_who_lifts_the_freeze_of_other_sizes_believes_them(make: Make):
    engine = make(2)
    source(engine).lies = dict.fromkeys(mail(2), 500_000)
    assert engine.run().exit_code is ExitCode.WAITING
    unfreeze(engine)
    assert (engine.run().removed, source(engine).mail) == (2, {})


def unfreeze(engine: Engine) -> None:
    """What `syncd run JOB --unfreeze` does before the run."""
    engine.lifted = {it.mailbox_id: it.why for it in engine.ledger.mailboxes.frozen(engine.account.id)}
    engine.ledger.mailboxes.thaw(engine.account.id)
    assert engine.removal is not None
    engine.removal = replace(engine.removal, lifted=True)


def test_p05_another_message_under_a_known_id_is_not_removed_and_is_fetched(make: Make):
    """It was frozen for a person, who could only have it frozen again; nobody fetched it."""
    engine = make(2)
    there, engine.removal = source(engine), None
    there.tops = True
    engine.run()
    other = there.mail[b"uid001"].replace(b"mail 1", b"mail 7")
    there.mail[b"uid001"] = other
    engine.removal = AT_ONCE
    report = engine.run()
    assert (report.removed, list(there.mail.values())) == (1, [other])
    assert any("another message" in note for note in engine.notes())
    report = engine.run()
    assert (report.exit_code, report.fetched, report.removed) == (ExitCode.DONE, 1, 1)
    home = engine.destinations["home"]
    assert isinstance(home, MemoryArchive)
    assert (home.copies, there.mail) == (3, {})
    for _ in range(3):
        assert (engine.run().exit_code, list(engine.ledger.problems())) == (ExitCode.DONE, [])


# --- a listing that looks wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(("then", "why"), [({}, Freeze.EMPTY), ({b"new1": b"\r\n"}, Freeze.RENAMED)])
def test_p37_f17_a_strange_listing_in_the_session_of_removal_freezes(make: Make, then: dict[bytes, bytes], why: Freeze):
    """It was recorded as a fact: everything was missing, and gone one listing later."""
    engine = make(3)
    there = source(engine)

    def changed() -> None:
        if len(there.sessions) == 1:
            there.mail = then

    there.on_finish = changed
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.STOPPED, 0)
    assert {Freeze.EMPTY: "is empty", Freeze.RENAMED: "no unique-id"}[why] in report.errors[0]
    assert engine.frozen() == {INBOX: why}
    there.mail = mail(3)
    there.on_finish = lambda: None
    assert engine.run().exit_code is ExitCode.STOPPED
    engine.ledger.mailboxes.thaw(engine.account.id)
    assert engine.run().removed == 3


# --- several mailboxes -------------------------------------------------------------------------------------

SENT = Mailbox(b"Sent", ("Sent",))


def two_mailboxes(make: Make) -> Engine:
    """Everything of INBOX and Sent is delivered, and due for removal."""
    engine = make(2)
    source(engine).others = {SENT: {b"s%d" % n: b"Subject: sent %d\r\n\r\n" % n for n in range(3)}}
    engine.removal = None
    engine.run()
    engine.removal = AT_ONCE
    return engine


def yes(asked: list[int]) -> Callable[[int], bool]:
    """A person who agrees, and what they were asked."""

    def confirm(number: int) -> bool:
        asked.append(number)
        return True

    return confirm


def test_one_session_removes_from_every_mailbox(make: Make):
    engine = two_mailboxes(make)
    there = source(engine)
    asked: list[int] = []
    engine.removal = RemovalPolicy(timedelta(0), confirmed=False, confirm=yes(asked))
    report = engine.run()
    assert (report.exit_code, report.to_remove, report.removed, asked) == (ExitCode.DONE, 5, 5, [5])
    assert (there.mail, there.others[SENT]) == ({}, {})
    assert [session.ended for session in there.sessions] == ["finished"] * 3


def test_a_frozen_mailbox_is_passed_over_and_named_when_the_others_are_done(make: Make):
    engine = two_mailboxes(make)
    sent = next(it for it in engine.ledger.mailboxes.find(engine.scope).values() if it.mailbox.name == b"Sent")
    engine.ledger.mailboxes.freeze(sent, Freeze.EMPTY, "it was empty")
    asked: list[int] = []
    engine.removal = RemovalPolicy(timedelta(0), confirmed=False, confirm=yes(asked))
    report = engine.run()
    assert (report.exit_code, report.to_remove, report.removed, asked) == (ExitCode.STOPPED, 5, 2, [2])
    assert report.errors[0].startswith("3 messages due for removal")
    assert "Sent: it was empty" in report.errors[0]
    assert len(source(engine).others[SENT]) == 3


def test_a_mailbox_that_looks_wrong_does_not_keep_the_others(make: Make):
    engine = two_mailboxes(make)
    there = source(engine)

    def emptied() -> None:
        there.others[SENT] = {}

    there.on_finish = emptied
    report = engine.run()
    assert (report.exit_code, report.removed, there.mail) == (ExitCode.STOPPED, 2, {})
    assert engine.frozen() == {b"Sent": Freeze.EMPTY}


def test_a_mailbox_that_cannot_be_opened_is_noted_and_the_others_are_done(make: Make):
    engine = two_mailboxes(make)
    there = source(engine)

    def lock() -> None:
        there.closed = {INBOX: MailboxRefused("in use")}

    there.on_finish = lock
    report = engine.run()
    assert (report.exit_code, report.removed, report.errors) == (ExitCode.TEMPORARY, 3, ["INBOX: in use"])
    assert (len(there.mail), there.others[SENT]) == (2, {})


# --- a server that shows no headers -------------------------------------------------------------------------


def delivered(make: Make, count: int) -> Engine:
    """Makes an engine whose messages were delivered by an earlier run, which was not to remove them."""
    engine = make(count)
    engine.removal = None
    engine.run()
    engine.removal = AT_ONCE
    source(engine).fetched.clear()
    return engine


def test_what_this_run_fetched_is_removed_as_listed(make: Make):
    engine = make(3)
    engine.run()
    assert source(engine).fetched == [b"uid001", b"uid002", b"uid003"]


def test_what_an_earlier_run_fetched_is_compared_first(make: Make):
    engine = delivered(make, 3)
    assert engine.run().removed == 3
    assert source(engine).fetched == [b"uid001", b"uid002", b"uid003"]


def test_another_message_of_the_same_id_and_size_is_fetched_and_not_removed(make: Make):
    """Another server behind the same address, or a counter that began again: only the octets tell."""
    engine = delivered(make, 3)
    first = source(engine).mail[b"uid002"]
    source(engine).mail[b"uid002"] = other = first.replace(b"text", b"next")
    report = engine.run()
    assert report.removed == 2
    assert source(engine).mail == {b"uid002": other}
    assert engine.run().fetched == 1
    home = engine.destinations["home"]
    assert isinstance(home, MemoryArchive)
    assert sorted(bytes(b"".join(m.body.chunks())) for m in home.messages) == sorted([*mail(3).values(), other])
    assert source(engine).mail == {}


def test_a_message_that_cannot_be_compared_is_left(make: Make):
    engine = delivered(make, 2)
    source(engine).broken.add(source(engine).mail[b"uid001"])
    report = engine.run()
    assert report.removed == 1
    assert list(source(engine).mail) == [b"uid001"]
    assert any("1 message not removed" in note for note in engine.notes())


def test_headers_are_enough_where_the_server_shows_them(make: Make):
    engine = delivered(make, 3)
    source(engine).tops = True
    assert engine.run().removed == 3
    assert source(engine).fetched == []
