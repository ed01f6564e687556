"""Backfill from archives: within the room there is, with what they know, and from archives that are damaged."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from unittest.mock import Mock

import pytest

from syncd.db import restored
from syncd.db.database import FILE_NAME, Database
from syncd.db.ledger import Ledger
from syncd.db.rows import Freeze
from syncd.destinations.maildir import MaildirArchive
from syncd.engine.budget import Budget
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import RemovalPolicy
from syncd.errors import ConnectionLost, LedgerError, StorageError
from syncd.mail.mailbox import INBOX, Mailbox
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.support.engine import Engine, Make, mail, source
from tests.unit.engine.conftest import Time


def within(seconds: float, engine: Engine) -> RunReport | None:
    """The report of a run; None when it hangs."""
    run, reports = engine.prepare(), []
    thread = threading.Thread(target=lambda: reports.append(engine.finish(run)), daemon=True)
    thread.start()
    thread.join(seconds)
    run.cancel()
    thread.join()
    return reports[0] if reports[0].exit_code is not ExitCode.INTERRUPTED else None


def test_a_job_that_backfills_does_not_hold_room_while_it_waits_for_more(make: Make):
    """Four jobs at once, each with a batch begun and no room to end it, waited for each other for ever."""
    budget = Budget(12 << 10)
    budget.room().take(1 << 10)  # another job, which waits for us; beside it and our share there is one message's room
    relay = Relay()
    engine = make(20, {"home": MemoryArchive(), "new": relay}, budget=budget)
    report = within(20, engine)
    assert report is not None
    assert (report.exit_code, report.backfilled) == (ExitCode.DONE, 20)
    assert relay.copies == dict.fromkeys(mail(20), 1)
    assert budget.free == 10 << 10


# --- a new ledger beside an archive that has seen a renaming ------------------------------------------------


def renamed(engine: Engine) -> None:
    there = source(engine)
    there.mail = {b"new" + uid: data for uid, data in there.mail.items()}


@pytest.mark.parametrize("since", [0, 2], ids=["nothing since", "mail since"])
def test_p06_a_new_laptop_recognises_what_was_renamed_before(make: Make, tmp_path: Path, since: int):
    """What came under the old names was not known under the new ones: stored and sent once more."""
    home, relay = MemoryArchive(), Relay()
    first = make(5, {"home": home, "new": relay})
    first.run()
    renamed(first)
    first.run()
    source(first).mail |= {b"late%d" % n: b"Subject: late %d\r\n\r\n" % n for n in range(since)}
    first.run()
    first.run()
    assert sum(relay.copies.values()) == 5 + since
    with Database.open(None, tmp_path / "another") as database:
        second = Engine(database, first.source, {"home": home, "new": relay})
        for _ in range(3):
            report = second.run()
        assert report.exit_code is ExitCode.WAITING  # whether the lost ledger sent them is for a person to say
        assert set(source(first).mail) <= set(second.states("new")["HELD"])
        assert second.states("home").keys() == {"DELIVERED"}
        assert sum(relay.copies.values()) == 5 + since
        assert home.copies == 5 + since


@pytest.mark.parametrize("tops", [True, False])
def test_p16_a_new_laptop_sends_nothing_again_where_sizes_are_listed_wrong(make: Make, tmp_path: Path, tops: bool):  # noqa: FBT001
    """What an archive tells has the size that came; a server that counts line ends otherwise lists others."""
    home, relay = MemoryArchive(), Relay()
    engine = make(9, {"home": home, "relay": relay})
    source(engine).lies = {uid: len(octets) - 5 for uid, octets in mail(9).items()}
    assert engine.run().exit_code is ExitCode.DONE
    with Database.open(None, tmp_path / "laptop") as database:
        again = Engine(database, engine.source, {"home": home, "relay": relay})
        source(engine).tops = tops
        source(engine).fetched.clear()
        reports = [again.run() for _ in range(3)]
        states = again.states("relay")
    assert [report.exit_code for report in reports] == [ExitCode.WAITING] * 3
    assert relay.copies == dict.fromkeys(mail(9), 1), "nothing was sent again"
    assert home.copies == 9
    assert len(source(engine).fetched) == (0 if tops else 9), "once at most"
    assert {state: len(set(uids)) for state, uids in states.items()} == {"HELD": 9}


def test_a_new_laptop_sends_nothing_again_that_a_maildir_has(make: Make, tmp_path: Path, at: Time):
    """A Maildir tells of a message only when it is to be filed again: then all of it had gone out once more."""
    relay = Relay()
    first = make(5, {"home": MaildirArchive(tmp_path / "mail"), "new": relay})
    assert first.run().exit_code is ExitCode.DONE
    at.now = datetime.now(UTC) + timedelta(minutes=1)  # when the other laptop begins; files have the disk's time
    with Database.open(None, tmp_path / "laptop") as database:
        again = Engine(database, first.source, {"home": MaildirArchive(tmp_path / "mail"), "new": relay})
        source(again).mail |= {b"late": b"Subject: late\r\n\r\n"}
        reports = [again.run() for _ in range(2)]
        states = again.states("new")
    assert [report.exit_code for report in reports] == [ExitCode.WAITING] * 2
    assert relay.copies == dict.fromkeys([*mail(5), b"late"], 1)
    assert (states["DELIVERED"], sorted(states["HELD"])) == ([b"late"], sorted(mail(5)))
    assert sum("before this ledger was there" in str(event) for event in again.events) == 1


def test_what_a_broken_off_run_filed_in_a_maildir_is_sent_on(make: Make, tmp_path: Path):
    relay = Relay()
    engine = make(5, {"home": MaildirArchive(tmp_path / "mail"), "new": relay})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Ledger, "commit", Mock(side_effect=LedgerError("the disk is gone")))
        assert engine.run().exit_code is ExitCode.TEMPORARY
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 5
    assert relay.copies == {}
    assert engine.run().exit_code is ExitCode.DONE
    assert relay.copies == dict.fromkeys(mail(5), 1)


# --- an older copy of the ledger that was put back ---------------------------------------------------------


def test_f54_what_was_sent_since_the_copy_was_made_is_not_sent_again(make: Make, tmp_path: Path):
    """The older ledger had seen listings, so it passed for the present one: all that came since went out once more."""
    home, relay = MemoryArchive(), Relay(["accept", "defer"])
    first = make(2, {"home": home, "new": relay})
    first.run()
    state = tmp_path / "copy"
    state.mkdir()
    with sqlite3.connect(tmp_path / FILE_NAME) as ledger, sqlite3.connect(state / FILE_NAME) as copy:
        ledger.backup(copy)
    relay.script.clear()
    first.ledger.decisions.retry([(row.key, row.route_id) for row in first.ledger.problems()])
    there = source(first)
    there.mail |= {b"late": b"Subject: late\r\n\r\n"}
    first.run()
    first.run()
    assert relay.copies == {b"uid001": 1, b"uid002": 1, b"late": 1}
    with Database.open(None, state) as database:
        restored.note(state, first.scope.run_id)
        assert restored.recognise(database, state)
        second = Engine(database, there, {"home": home, "new": relay})
        assert second.frozen() == {INBOX: Freeze.RESTORED}
        there.mail |= {b"new": b"Subject: new\r\n\r\n"}
        for _ in range(3):
            report = second.run()
            assert not restored.recognise(database, state)
        assert report.exit_code is ExitCode.WAITING
        assert second.states("new") == {"DELIVERED": [b"uid001", b"new"], "HELD": [b"uid002", b"late"]}
        assert relay.copies == {b"uid001": 1, b"uid002": 1, b"late": 1, b"new": 1}


@pytest.mark.parametrize("noted", ["", "0", "one", "9" * 30, "\udcff", "3", "4"])
def test_f54_only_a_later_run_tells_of_an_older_copy(make: Make, tmp_path: Path, noted: str):
    engine = make(1, {"home": MemoryArchive()})
    assert not restored.recognise(engine.database, tmp_path)  # new: there is nothing it could have forgotten
    for _ in range(3):
        engine.run()
    (tmp_path / restored.FILE).write_bytes(noted.encode(errors="surrogateescape"))
    assert restored.recognise(engine.database, tmp_path) is (noted == "4")


# --- what an archive cannot give back ----------------------------------------------------------------------


def half_served(make: Make) -> tuple[Engine, Relay, MemoryArchive]:
    """Three messages in an archive, of which the second is damaged there; the relay has none yet."""
    home, relay = MemoryArchive(), Relay()
    engine = make(3, {"home": home, "new": relay})
    relay.failure = ConnectionLost("new: not now")
    assert engine.run().exit_code is ExitCode.TEMPORARY
    relay.failure = None
    home.damaged.add(mail(3)[b"uid002"])
    return engine, relay, home


def problems(engine: Engine) -> list[tuple[bytes, str | None, bool]]:
    return [(row.uid, row.destination, row.retry_at is None) for row in engine.ledger.problems()]


def test_f34_what_the_archive_cannot_give_back_is_fetched_again(make: Make):
    """It was skipped in every run, for ever."""
    engine, relay, _ = half_served(make)
    report = engine.run()
    assert (report.exit_code, sorted(relay.copies)) == (ExitCode.TEMPORARY, [b"uid001", b"uid003"])
    source(engine).fetched.clear()
    report = engine.run()
    assert source(engine).fetched == [b"uid002"]
    assert relay.copies == dict.fromkeys(mail(3), 1)
    assert report.exit_code is ExitCode.WAITING
    assert problems(engine) == [(b"uid002", "home", True)]
    assert (engine.run().exit_code, relay.copies[b"uid002"]) == (ExitCode.WAITING, 1)


def test_f34_what_is_nowhere_else_waits_for_a_person(make: Make):
    engine, relay, home = half_served(make)
    del source(engine).mail[b"uid002"]
    for _ in range(3):
        report = engine.run()
    assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 1)
    assert problems(engine) == [(b"uid002", "home", True)]
    (row,) = engine.ledger.problems()
    home.damaged.clear()  # its disk was mended
    engine.ledger.decisions.retry([(row.key, row.route_id)])
    assert (engine.run().exit_code, relay.copies[b"uid002"]) == (ExitCode.DONE, 1)
    assert problems(engine) == []


def test_f34_a_person_gives_it_up(make: Make):
    engine, relay, _ = half_served(make)
    del source(engine).mail[b"uid002"]
    for _ in range(3):
        engine.run()
    (row,) = engine.ledger.problems()
    engine.ledger.decisions.drop([(row.key, row.route_id)], engine.row.id)
    assert engine.states("home") == {"DELIVERED": [b"uid001", b"uid003"], "DROPPED": [b"uid002"]}
    for _ in range(2):
        assert (engine.run().exit_code, problems(engine)) == (ExitCode.DONE, [])
    assert b"uid002" not in relay.copies


def test_f34_another_archive_has_it(make: Make):
    home, spare, relay = MemoryArchive(), MemoryArchive(), Relay()
    engine = make(3, {"home": home, "spare": spare, "new": relay})
    home.damaged.add(mail(3)[b"uid002"])
    report = engine.run()
    assert (report.exit_code, relay.copies) == (ExitCode.WAITING, dict.fromkeys(mail(3), 1))
    assert problems(engine) == [(b"uid002", "home", True)]


def test_f34_what_is_damaged_is_not_removed_at_its_source(make: Make):
    engine, relay, _ = half_served(make)
    engine.run()
    engine.removal = RemovalPolicy(timedelta(0), confirmed=True)
    report = engine.run()
    assert (report.exit_code, report.removed, relay.copies[b"uid002"]) == (ExitCode.WAITING, 2, 1)
    assert list(source(engine).mail) == [b"uid002"]


def test_a_run_whose_destination_fails_leaves_nobody_waiting_for_its_room(make: Make):
    """What it had fetched, and what its reader waited for, was held until its end, or for good."""
    budget = Budget(1000)
    home = MemoryArchive()
    home.failures = [StorageError("the disk is full")]
    engine = make(200, {"home": home}, budget=budget)
    report = within(20, engine)
    assert report is not None
    assert report.exit_code is ExitCode.TEMPORARY
    assert (budget.free, list(budget.waiting)) == (1000, [])


# --- flags, dates, mailboxes -------------------------------------------------------------------------------


class Curious(Relay):
    """Remembers the messages that came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[Message] = []

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        self.came += batch
        yield from super().deliver(batch, upcoming)


def test_a_backfill_keeps_flags_and_dates(make: Make):
    """They were lost: the archive gave octets alone."""
    date = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    relay = Curious()
    engine = make(2, {"home": MemoryArchive(), "new": relay})
    source(engine).facts = {b"uid001": (("\\Seen", "\\Flagged"), date)}
    assert engine.run().backfilled == 2
    assert [(m.ref.uid, m.flags, m.internal_date) for m in relay.came] == [
        (b"uid001", ("\\Seen", "\\Flagged"), date),
        (b"uid002", (), None),
    ]


def test_a_backfill_keeps_mailboxes_apart(make: Make):
    relay = Curious()
    engine = make(0, {"home": MemoryArchive(), "new": relay})
    there = source(engine)
    sent = Mailbox(b"Sent", ("Sent",), use="\\Sent", subscribed=False)
    relay.failure = ConnectionLost("not now")
    for n in range(1, 5):  # the keys of two mailboxes in turn
        there.mail[b"in%d" % n] = b"Subject: in %d\r\n\r\n" % n
        there.others.setdefault(sent, {})[b"sent%d" % n] = b"Subject: sent %d\r\n\r\n" % n
        engine.run()
    relay.failure = None
    relay.batches.clear()
    report = engine.run()
    assert (report.exit_code, report.fetched, report.backfilled) == (ExitCode.DONE, 0, 8)
    assert relay.batches == [4, 4]
    assert {
        (m.ref.origin.path, m.ref.origin.mailbox, m.ref.origin.use, m.ref.origin.subscribed) for m in relay.came
    } == {
        (("INBOX",), INBOX, "", True),
        (("Sent",), b"Sent", "\\Sent", False),
    }
