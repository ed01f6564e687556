"""Several mailboxes in a session: one after the other, skipped by token, each with its own errors and freezes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import select

from syncd.db.models import messages
from syncd.db.rows import Freeze
from syncd.db.states import MessageState
from syncd.engine.events import Planned
from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Rules
from syncd.errors import ConnectionLost, DiskFull, MailboxRefused
from syncd.mail.listing import Fetched, Wanted
from syncd.mail.mailbox import INBOX, Epoch, Mailbox
from syncd.mail.patterns import Selection
from syncd.sources.base import Room
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.fakes.source import MemoryMailbox, MemorySession, MemorySource
from tests.support.engine import Engine, Make, mail, source

SENT = Mailbox(b"Sent", ("Sent",), use="\\Sent")
TRASH = Mailbox(b"Trash", ("Trash",))


def letters(name: str, count: int) -> dict[bytes, bytes]:
    """Uid → octets, other octets for each name; the uids are the same in each mailbox, as in IMAP."""
    return {b"%d" % n: f"Subject: {name} {n}\r\n\r\ntext\r\n".encode() for n in range(1, count + 1)}


def raises(error: Exception) -> None:
    raise error


@dataclass
class Bench:
    """An engine with an archive and a relay, and its source."""

    engine: Engine
    home: MemoryArchive
    relay: Relay

    @property
    def there(self) -> MemorySource:
        return source(self.engine)

    def put(self, mailbox: Mailbox, mails: dict[bytes, bytes]) -> Mailbox:
        """The source has this mailbox now, instead of an earlier one of the same name."""
        for known in [known for known in self.there.others if known.name == mailbox.name]:
            del self.there.others[known]
        self.there.others[mailbox] = mails
        return mailbox

    def run(self) -> list[bytes]:
        """One run that ends well; the mailboxes that it opened."""
        self.there.opened.clear()
        report = self.engine.run()
        assert report.exit_code is ExitCode.DONE, report.errors
        return self.there.opened

    def states(self, name: bytes) -> dict[bytes, str]:
        """Uid → state of the message, of one mailbox."""
        scope = next(
            it for it in self.engine.ledger.mailboxes.find(self.engine.scope).values() if it.mailbox.name == name
        )
        with self.engine.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, messages.c.state).where(messages.c.mailbox_id == scope.mailbox_id)
            )
            return {bytes(uid): MessageState(state).name for uid, state in found}


@pytest.fixture
def bench(make: Make) -> Bench:
    home, relay = MemoryArchive(), Relay()
    return Bench(make(0, {"home": home, "new": relay}), home, relay)


# --- one after the other -----------------------------------------------------------------------------------


def test_mailboxes_are_fetched_one_after_the_other(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT, letters("sent", 3))
    bench.put(TRASH, {})
    report = bench.engine.run()
    assert (report.exit_code, report.fetched, report.backfilled) == (ExitCode.DONE, 5, 5)
    assert (report.mailboxes, report.mailboxes_opened, report.listed, report.new) == (3, 3, 5, 5)
    assert bench.there.opened == [INBOX, b"Sent", b"Trash"]
    assert bench.home.batches == [2, 3]
    stored = [(m.path, m.ref.origin.mailbox, m.ref.origin.use, m.ref.uid) for m in bench.home.messages]
    assert stored == [
        *[(("INBOX",), INBOX, "", b"%d" % n) for n in (1, 2)],
        *[(("Sent",), b"Sent", "\\Sent", b"%d" % n) for n in (1, 2, 3)],
    ]
    assert [session.ended for session in bench.there.sessions] == ["finished"]


def test_what_lies_ahead_is_told_with_each_mailbox(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT, letters("sent", 3))
    bench.run()
    told = [event for event in bench.engine.events if isinstance(event, Planned)]
    assert [(it.listed, it.new, it.messages) for it in told] == [(2, 2, 2), (5, 5, 5)]
    assert [(it.mailboxes, it.mailboxes_opened) for it in told] == [(2, 1), (2, 2)]


def test_an_error_of_one_mailbox_is_noted_and_the_next_mailbox_follows(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT, letters("sent", 3))
    bench.put(TRASH, letters("trash", 1))
    bench.there.closed = {b"Sent": MailboxRefused("the server says: [INUSE] in use by another session")}
    report = bench.engine.run()
    line = "Sent: the server says: [INUSE] in use by another session"
    assert (report.exit_code, report.errors, report.fetched) == (ExitCode.TEMPORARY, [line], 3)
    assert line in bench.engine.notes()
    assert (report.unchanged, bench.engine.frozen()) == (False, {})
    assert [session.ended for session in bench.there.sessions] == ["finished"]
    bench.there.closed = {}
    assert bench.run() == [INBOX, b"Sent", b"Trash"]
    assert bench.home.copies == 6


def test_mailboxes_that_would_become_one_are_refused_and_the_others_are_copied(bench: Bench):
    bench.there.mail = letters("in", 2)
    one, other = Mailbox(b"R&-D", ("R&D",)), Mailbox(b"R&D", ("R&D",))
    for number, mailbox in enumerate((one, other), 1):
        bench.put(mailbox, letters(f"r{number}", 1))
    report = bench.engine.run()
    assert (report.exit_code, report.fetched) == (ExitCode.CONFIG_INVALID, 2)
    (line,) = report.errors  # one for both of them
    assert line.startswith("“R&D” (R&-D) and “R&D” would become one mailbox in home")
    assert bench.there.opened == [INBOX]
    bench.engine.rules = {"home": Rules(names={"R&-D": ("Research",)})}
    assert bench.run() == [INBOX, b"R&-D", b"R&D"]
    assert [m.path for m in bench.home.messages][2:] == [("Research",), ("R&D",)]


def test_archives_record_new_mailboxes_once_and_before_the_ledger_does(bench: Bench):
    bench.there.mail = letters("in", 1)
    empty = [Mailbox(b"Empty %d" % n, (f"Empty {n}",), validity=Epoch(7), messages=0, contents=b"0") for n in (1, 2)]
    for mailbox in (*empty, TRASH, SENT._replace(messages=1)):
        bench.put(mailbox, letters("sent", 1) if mailbox.use else {})
    bench.engine.run()
    assert [(origin.mailbox, origin.epoch, origin.path) for origin in bench.home.noted] == [
        *[(it.name, 7, it.path) for it in empty],
        (b"Sent", 1, ("Sent",)),
        (b"Trash", 1, ("Trash",)),
    ]
    bench.home.noted.clear()
    bench.run()
    assert [origin.mailbox for origin in bench.home.noted] == [b"Trash"], "it has no token, so it is told again"


@pytest.mark.parametrize("mailbox", [Mailbox(b"Empty", ("Empty",), messages=0, contents=b"0"), TRASH])
def test_an_archive_that_cannot_record_a_mailbox_is_told_again(
    bench: Bench, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    bench.there.mail = letters("in", 1)
    bench.run()
    bench.put(mailbox, {})
    with monkeypatch.context() as patch:
        patch.setattr(bench.home, "note_mailboxes", lambda _: raises(DiskFull("no room")))
        report = bench.engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert bench.home.noted == []
    bench.run()
    assert [origin.mailbox for origin in bench.home.noted] == [mailbox.name]
    bench.run()
    assert len(bench.home.noted) == 1


def test_a_dry_run_records_no_mailbox(bench: Bench):
    bench.put(TRASH, {})
    bench.engine.prepare().execute(dry_run=True)
    assert bench.home.noted == []


def test_an_error_of_the_account_ends_the_session(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT, letters("sent", 3))
    bench.put(TRASH, letters("trash", 1))
    bench.there.closed = {b"Sent": ConnectionLost("the server closed the connection")}
    report = bench.engine.run()
    assert (report.exit_code, report.errors) == (ExitCode.TEMPORARY, ["the server closed the connection"])
    assert (bench.there.opened, bench.home.copies) == ([INBOX], 2)
    assert [session.ended for session in bench.there.sessions] == ["closed"]


# --- skipped by token --------------------------------------------------------------------------------------


def test_a_mailbox_whose_token_stands_still_is_not_opened(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT._replace(contents=b"4 3"), letters("sent", 3))
    assert bench.run() == [INBOX, b"Sent"]
    assert bench.run() == [INBOX]
    bench.put(SENT._replace(contents=b"5 4"), letters("sent", 4))
    assert bench.run() == [INBOX, b"Sent"]
    assert bench.run() == [INBOX]
    assert bench.home.copies == 6


def test_a_run_that_skips_every_mailbox_is_unchanged_and_says_how_much_is_there(bench: Bench):
    bench.there.mailbox = bench.there.mailbox._replace(contents=b"1")
    bench.there.mail = letters("in", 2)
    bench.put(SENT._replace(contents=b"1"), letters("sent", 3))
    bench.run()
    bench.there.opened.clear()
    report = bench.engine.run()
    assert (bench.there.opened, report.unchanged, report.exit_code) == ([], True, ExitCode.DONE)
    assert (report.mailboxes, report.mailboxes_opened, report.listed, report.to_fetch) == (2, 0, 5, 0)


def test_a_missing_message_keeps_its_mailbox_open_until_it_is_gone(bench: Bench):
    """The token does not change any more, and the second listing is what shows that the message is gone."""
    bench.put(SENT._replace(contents=b"1"), letters("sent", 3))
    bench.run()
    bench.put(SENT._replace(contents=b"2"), letters("sent", 2))
    seen = []
    for _ in range(3):
        opened = list(bench.run())
        seen.append((b"Sent" in opened, bench.states(b"Sent")[b"3"]))
    assert seen == [(True, "MISSING"), (True, "GONE"), (False, "GONE")]


def test_what_waits_for_a_retry_keeps_its_mailbox_open(bench: Bench):
    mails = letters("sent", 2)
    bench.put(SENT._replace(contents=b"1"), mails)
    bench.there.broken = {mails[b"2"]}
    assert bench.engine.run().exit_code is ExitCode.TEMPORARY
    bench.there.opened.clear()
    bench.engine.run()
    assert bench.there.opened == [INBOX, b"Sent"]


# --- answers -----------------------------------------------------------------------------------------------


def test_answers_may_come_in_any_order(bench: Bench):
    bench.there.backwards = True
    bench.there.mail = mail(9)
    bench.run()
    assert bench.there.fetched == list(reversed(mail(9)))
    assert {message.ref.uid: message.body.sha256 for message in bench.home.messages}.keys() == mail(9).keys()
    for message in bench.home.messages:
        assert message.body.data == mail(9)[message.ref.uid]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (lambda it: [*it, it[0]], "was answered already"),
        (lambda it: [it[0]._replace(key=99), *it[1:]], "was not asked for"),
        (lambda it: it[:-1], "left 1 messages without an answer"),
    ],
    ids=["twice", "not asked for", "missing"],
)
def test_each_wanted_message_is_answered_exactly_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answers: object, why: str
):
    real = MemoryMailbox.fetch

    def fetch(box: MemoryMailbox, wanted: Iterable[Wanted], room: Room, *, alone: bool) -> Iterator[Fetched | None]:
        assert callable(answers)
        yield from answers(list(real(box, wanted, room, alone=alone)))

    monkeypatch.setattr(MemoryMailbox, "fetch", fetch)
    bench.there.mail = mail(3)
    report = bench.engine.run()
    assert report.exit_code is ExitCode.FAILED
    assert why in report.errors[0]
    assert [session.ended for session in bench.there.sessions] == ["closed"]


# --- moved, unlisted ---------------------------------------------------------------------------------------


def test_a_message_that_moved_to_another_mailbox_is_recognised(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT, {})
    bench.run()
    moved = bench.there.mail.pop(b"2")
    bench.put(SENT, {b"1": moved})
    report = bench.engine.run()
    assert (report.exit_code, report.fetched, report.recognised, report.delivered) == (ExitCode.DONE, 1, 1, {})
    assert (bench.home.copies, sum(bench.relay.copies.values())) == (2, 2)
    assert bench.engine.run().fetched == 0


def test_a_mailbox_that_is_not_listed_any_more_is_recorded_as_empty(bench: Bench):
    bench.put(SENT._replace(contents=b"1"), letters("sent", 2))
    bench.run()
    bench.there.others = {}
    seen = []
    for _ in range(3):
        bench.run()
        seen.append(set(bench.states(b"Sent").values()))
    assert seen == [{"MISSING"}, {"GONE"}, {"GONE"}]
    assert bench.engine.frozen() == {}
    assert bench.engine.run().unchanged


def test_mail_of_a_mailbox_that_was_removed_is_recognised_in_a_mailbox_before_it(bench: Bench):
    bench.put(SENT, letters("sent", 2))
    bench.run()
    bench.there.mail = {b"%d" % n: octets for n, octets in enumerate(letters("sent", 2).values(), 7)}
    bench.there.others = {}
    report = bench.engine.run()
    assert (report.fetched, report.recognised, report.delivered) == (2, 2, {})
    assert bench.home.copies == 2


def test_a_mailbox_that_cannot_be_opened_is_not_taken_for_removed(bench: Bench):
    bench.put(SENT, letters("sent", 2))
    bench.run()
    bench.there.closed = {b"Sent": MailboxRefused("no")}
    for _ in range(2):
        bench.engine.run()
    assert set(bench.states(b"Sent").values()) == {"FETCHED"}


# --- UIDVALIDITY, freezes ----------------------------------------------------------------------------------


def test_another_uidvalidity_begins_a_new_epoch_and_freezes_that_mailbox_alone(bench: Bench):
    bench.there.mail = letters("in", 2)
    bench.put(SENT._replace(validity=Epoch(7)), letters("sent", 3))
    bench.run()
    renumbered = dict(zip((b"1", b"2", b"3", b"4"), [*reversed(letters("sent", 3).values()), b"\r\nnew"], strict=True))
    bench.put(SENT._replace(validity=Epoch(3)), renumbered)
    report = bench.engine.run()
    assert (report.fetched, report.recognised, report.delivered) == (4, 3, {"home": 1, "new": 1})
    assert bench.engine.frozen() == {b"Sent": Freeze.VALIDITY}
    assert any("UIDVALIDITY" in note for note in bench.engine.notes())
    assert bench.home.copies == 6
    bench.run()
    assert bench.engine.run().fetched == 0


def test_the_ids_of_an_emptied_mailbox_are_not_renamed(bench: Bench):
    """Trash is emptied and fills again; with the same UIDVALIDITY no id is given twice."""
    bench.put(TRASH._replace(validity=Epoch(7)), letters("trash", 3))
    bench.run()
    bench.put(TRASH._replace(validity=Epoch(7)), {b"4": b"Subject: four\r\n\r\n"})
    bench.engine.run()
    assert bench.engine.frozen() == {b"Trash": Freeze.EMPTY}
    epochs = {it.mailbox.name: it.epoch for it in bench.engine.ledger.mailboxes.find(bench.engine.scope).values()}
    assert epochs[b"Trash"] == 7


def test_a_maildrop_without_uidvalidity_whose_ids_are_all_new_is_renamed(bench: Bench):
    bench.there.mail = letters("in", 3)
    bench.run()
    bench.there.mail = {b"new" + uid: octets for uid, octets in letters("in", 3).items()}
    report = bench.engine.run()
    assert (report.recognised, report.delivered) == (3, {})
    assert bench.engine.frozen() == {INBOX: Freeze.RENAMED}


def test_a_mailbox_that_tells_its_uidvalidity_only_when_it_is_opened_is_no_anomaly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    real = MemorySession.mailboxes

    def mailboxes(session: MemorySession) -> Iterator[list[Mailbox]]:
        for chunk in real(session):
            yield [mailbox._replace(validity=None) for mailbox in chunk]

    monkeypatch.setattr(MemorySession, "mailboxes", mailboxes)
    bench.put(SENT._replace(validity=Epoch(7)), letters("sent", 3))
    for _ in range(2):
        bench.run()
    assert (bench.home.copies, bench.engine.frozen()) == (3, {})
    assert bench.home.messages[0].ref.origin.epoch == 7


# --- the mailboxes that a job reads ------------------------------------------------------------------------


def test_only_chosen_mailboxes_are_read_and_no_other_is_registered(bench: Bench):
    bench.put(SENT, letters("sent", 2))
    bench.put(TRASH, letters("trash", 2))
    bench.engine.selection = Selection(("INBOX", r"\Sent"))
    assert bench.run() == [INBOX, SENT.name]
    known = bench.engine.ledger.mailboxes.find(bench.engine.scope).values()
    assert {it.mailbox.name for it in known} == {INBOX, SENT.name}


def test_a_mailbox_that_a_job_reads_no_longer_is_left_as_it_was(bench: Bench):
    bench.put(SENT, letters("sent", 2))
    bench.put(TRASH, letters("trash", 2))
    bench.run()
    bench.engine.selection = Selection(exclude=("Trash",))
    bench.put(TRASH, letters("trash", 3))
    assert TRASH.name not in bench.run()
    assert bench.states(TRASH.name) == {b"1": "FETCHED", b"2": "FETCHED"}
    bench.engine.selection = Selection()
    bench.run()
    assert bench.states(TRASH.name) == {b"1": "FETCHED", b"2": "FETCHED", b"3": "FETCHED"}


def test_what_waits_in_a_mailbox_that_a_job_reads_no_longer_does_not_count(bench: Bench):
    octets = letters("trash", 2)
    bench.put(TRASH, octets)
    bench.there.broken.add(octets[b"1"])
    assert bench.engine.run().exit_code is ExitCode.TEMPORARY
    bench.engine.selection = Selection(exclude=("Trash",))
    report = bench.engine.run()
    assert (report.exit_code, report.waiting_time) == (ExitCode.DONE, 0)
