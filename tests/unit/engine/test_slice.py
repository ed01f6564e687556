"""The end of a slice: nothing more is begun, nothing is cut, and the next slice goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from syncd import clock
from syncd.db.ledger import of_account
from syncd.db.rows import Cause, Suspension
from syncd.engine.context import Slice
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import RemovalPolicy
from syncd.errors import ConnectionLost
from syncd.mail.mailbox import Mailbox
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.support.engine import Engine, Make, mail, source
from tests.unit.engine.conftest import Time

AT_ONCE = RemovalPolicy(timedelta(0), confirmed=True)
SENT = Mailbox(b"Sent", ("Sent",))
OTHERS = {b"other%d" % n: b"Subject: other %d\r\n\r\ntext\r\n" % n for n in range(1, 3)}


def until(done: Callable[[], bool]) -> Slice:
    """A slice that is over when something was done."""
    return Slice(stop=done)


def slices(engine: Engine, ends: Callable[[], Slice], most: int = 20) -> list[RunReport]:
    """One slice after the other until none is left; `ends` makes each."""
    reports: list[RunReport] = []
    while len(reports) < most and (not reports or reports[-1].more):
        engine.slice = ends()
        reports.append(engine.run())
    return reports


def test_without_an_end_it_is_never_over(at: Time):
    whole = Slice()
    at(days=10_000)
    assert not whole.over


def test_it_ends_at_its_deadline_or_when_it_is_stopped(at: Time):
    stopped = False
    part = Slice.lasting(480, lambda: stopped)
    at(seconds=479)
    assert not part.over
    stopped = True
    assert part.over
    stopped = False
    at(seconds=1)
    assert part.over


def test_a_slice_that_is_over_before_it_begins_contacts_nobody(make: Make):
    engine = make(3, {"home": MemoryArchive()}, slice=Slice(stop=lambda: True))
    report = engine.run()
    assert (report.more, report.not_before, report.exit_code) == (True, None, ExitCode.DONE)
    assert source(engine).connects == 0


def test_the_end_stands_between_two_messages_and_in_a_session_that_ends_well(make: Make):
    home = MemoryArchive()
    engine = make(10, {"home": home})
    there = source(engine)
    engine.slice = until(lambda: len(there.fetched) >= 4)
    report = engine.run()
    assert (report.more, report.exit_code, report.errors) == (True, ExitCode.DONE, [])
    assert (report.fetched, home.copies, there.sessions[0].ended) == (4, 4, "finished")


def test_slices_together_do_the_whole_work_once(make: Make):
    home = MemoryArchive()
    engine = make(10, {"home": home})
    there = source(engine)

    def three_more() -> Slice:
        before = len(there.fetched)
        return until(lambda: len(there.fetched) >= before + 3)

    reports = slices(engine, three_more)
    assert [report.fetched for report in reports] == [3, 3, 3, 1]
    assert [report.more for report in reports] == [True, True, True, False]
    assert sorted(there.fetched) == list(mail(10))
    assert reports[-1].exit_code is ExitCode.DONE


def test_a_slice_that_ends_with_its_work_leaves_nothing(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    there = source(engine)
    engine.slice = until(lambda: len(there.fetched) >= 3)
    assert not engine.run().more


def test_mailboxes_that_it_does_not_come_to_are_for_the_next_one(make: Make):
    home = MemoryArchive()
    engine = make(2, {"home": home})
    there = source(engine)
    there.others[SENT] = dict(OTHERS)
    engine.slice = until(lambda: len(there.fetched) >= 2)
    report = engine.run()
    assert (report.more, there.opened, home.copies) == (True, [b"INBOX"], 2)
    engine.slice = Slice()
    report = engine.run()
    assert (report.more, home.copies) == (False, 4)


def test_messages_that_failed_before_wait_for_a_slice_that_has_time(make: Make, at: Time):
    engine = make(3, {"home": MemoryArchive()})
    there = source(engine)
    there.broken = {mail(3)[b"uid002"]}
    engine.run()
    at(days=1)
    there.mail[b"uid004"] = mail(4)[b"uid004"]
    engine.slice = until(lambda: there.fetched[-1] == b"uid004")
    report = engine.run()
    assert (report.more, report.fetched, report.exit_code) == (True, 1, ExitCode.DONE)


def test_what_is_read_back_from_an_archive_stops_between_two_messages(make: Make):
    home, relay = MemoryArchive(), Relay()
    engine = make(5, {"home": home, "new": relay})

    def two_more() -> Slice:
        before = len(relay.begun)
        return until(lambda: len(relay.begun) >= before + 2)

    reports = slices(engine, two_more)
    assert [sum(report.delivered.get("new", 0) for report in reports[:n]) for n in (1, 2, 3)] == [2, 4, 5]
    assert [report.more for report in reports] == [True, True, False]
    assert set(relay.copies.values()) == {1}
    assert engine.uncertain("new").total() == 0


def test_what_was_fetched_for_a_destination_without_an_archive_is_delivered(make: Make):
    relay = Relay()
    engine = make(5, {"new": relay})
    there = source(engine)
    engine.slice = until(lambda: len(there.fetched) >= 3)
    report = engine.run()
    assert (report.more, sum(relay.copies.values()), there.sessions[0].ended) == (True, 3, "finished")


def test_nothing_is_removed_by_a_slice_that_is_over(make: Make):
    engine = make(3, {"home": MemoryArchive()}, removal=AT_ONCE)
    there = source(engine)
    engine.slice = until(lambda: bool(there.sessions and there.sessions[0].ended))
    report = engine.run()
    assert (report.more, report.removed, there.connects) == (True, 0, 1)
    engine.slice = Slice()
    report = engine.run()
    assert (report.more, report.removed) == (False, 3)


def test_what_was_marked_for_removal_goes_when_the_slice_ends_between_two_mailboxes(make: Make):
    engine = make(2, {"home": MemoryArchive()}, removal=AT_ONCE)
    there = source(engine)
    there.others[SENT] = dict(OTHERS)
    engine.slice = until(lambda: len(there.sessions) > 1 and bool(there.sessions[1].doomed))
    report = engine.run()
    assert (report.more, report.removed, there.sessions[1].ended) == (True, 2, "finished")
    engine.slice = Slice()
    assert engine.run().removed == 2
    assert (there.mail, there.others[SENT]) == ({}, {})


def test_an_error_ends_the_run_though_its_slice_was_over(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    there = source(engine)

    def breaks() -> None:
        raise ConnectionLost("the server has gone")

    there.on_finish = breaks
    engine.slice = until(lambda: len(there.fetched) >= 1)
    report = engine.run()
    assert (report.more, report.exit_code) == (False, ExitCode.TEMPORARY)


@pytest.mark.parametrize("early", [0, 1])
def test_a_refused_account_stays_suspended_until_a_message_comes(make: Make, early: int):
    """A slice that ends before it asked for a message has learnt nothing of the account."""
    engine = make(3, {"home": MemoryArchive()})
    there = source(engine)
    subject = of_account(engine.account.id)
    engine.ledger.suspensions.put(subject, Suspension(clock.now(), "refused", Cause.REFUSED, 1))
    engine.slice = until(lambda: len(there.fetched) >= early and bool(there.listed))
    assert engine.run().more
    assert bool(engine.ledger.suspensions.find([subject])) is (early == 0)
