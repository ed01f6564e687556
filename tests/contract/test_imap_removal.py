r"""Removal over IMAP, seen from a run: exactly the messages that are due, in a way that touches no other message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.db.database import Database
from syncd.db.rows import Freeze
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import RemovalPolicy
from tests.contract.imap_kit import source
from tests.contract.source_kit import some
from tests.fakes.archive import MemoryArchive
from tests.fakes.imap import BARE, EXTENDED, GMAIL, FakeImap
from tests.fakes.imap_store import row
from tests.fakes.imap_words import Word, flat
from tests.support.engine import Engine

AT_ONCE = RemovalPolicy(timedelta(0), confirmed=True)
CHANGES = {"UID STORE", "UID EXPUNGE", "EXPUNGE", "UID MOVE", "CLOSE", "SELECT"}
Make = Callable[..., Engine]


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


@pytest.fixture
def make(server: FakeImap, tmp_path: Path) -> Iterator[Make]:
    with Database.open(None, tmp_path) as database:

        def made(**options: Any) -> Engine:
            account = source(server, spool=tmp_path, **options)
            return Engine(database, account, {"home": MemoryArchive()}, removal=AT_ONCE)

        yield made


def changes(server: FakeImap) -> list[str]:
    return [command for command, verb in zip(server.commands, server.verbs(), strict=True) if verb in CHANGES]


def uids(server: FakeImap, name: str = "INBOX") -> list[int]:
    return [mail.uid for mail in server.box(name).mail]


def test_exactly_the_messages_are_removed_in_each_mailbox(server: FakeImap, make: Make):
    server.box("INBOX").add(*some(3))
    server.box("Sent").add(*some(2, 10))
    server.box("Sent").expunge(1)
    engine = make()
    report = engine.run()
    assert (report.exit_code, report.removed, report.removal_unknown) == (ExitCode.DONE, 4, 0), report.errors
    assert changes(server) == [
        "SELECT INBOX",
        "UID STORE 1:3 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1:3",
        "SELECT Sent",
        "UID STORE 2 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 2",
    ]
    assert not uids(server)
    assert not uids(server, "Sent")
    again = engine.run()
    assert (again.exit_code, again.fetched, again.removed) == (ExitCode.DONE, 0, 0)


def test_t6_what_another_program_has_marked_stays(server: FakeImap, make: Make):
    """A plain EXPUNGE, or CLOSE, would remove it."""
    server.box("INBOX").add(*some(2))
    engine = make()
    server.on["UID EXPUNGE"] = lambda _: server.box("INBOX").add(some(1, 9)[0], flags=[b"\\Deleted"])
    assert engine.run().removed == 2
    assert [mail.uid for mail in server.box("INBOX").mail if b"\\Deleted" in mail.flags] == [3]


def test_a_message_that_only_looks_like_ours_stays(server: FakeImap, make: Make):
    """As many octets under a known UID, and another header: the mailbox was made again with the UIDVALIDITY it had."""
    server.box("INBOX").add(*some(4))
    second = server.box("INBOX").mail[1]

    def another(_: list[Any]) -> None:
        second.octets = second.octets.replace(b"Subject: test", b"Subject: zest")

    server.on["SELECT"] = another
    engine = make()
    assert engine.run().removed == 3
    assert uids(server) == [2]
    assert (engine.run().fetched, uids(server)) == (1, [])


def test_i52_a_mailbox_that_is_numbered_anew_is_frozen(server: FakeImap, make: Make):
    server.box("INBOX").add(*some(3))
    engine = make()
    engine.removal = RemovalPolicy(timedelta(0), confirmed=False)
    engine.run()
    server.box("INBOX").renew(77)
    engine.removal = AT_ONCE
    assert engine.run().removed == 0
    assert engine.frozen() == {b"INBOX": Freeze.VALIDITY}
    assert len(uids(server)) == 3


def test_uidvalidity_changes_while_messages_are_removed(server: FakeImap, make: Make):
    server.box("INBOX").add(*some(3))
    server.before["UID FETCH 1:3 (UID BODY.PEEK[HEADER])"] = b"* OK [UIDVALIDITY 9] from the start again\r\n"
    engine = make()
    report = engine.run()
    assert report.removed == 0
    assert any("numbers its messages from the start again" in note for note in engine.notes())
    assert "UID STORE" not in server.verbs()


# --- without UIDPLUS -------------------------------------------------------------------------------------------------


def test_t6_without_uidplus_nothing_is_removed_unless_the_owner_says_so(server: FakeImap, make: Make):
    server.inside = BARE
    server.box("INBOX").add(*some(2))
    report = make().run()
    assert (report.exit_code, report.removed) == (ExitCode.FAILED, 0)
    assert "expunge_without_uidplus = true" in report.errors[0]
    assert not changes(server)


def test_t6_without_uidplus_all_that_is_marked_is_ours(server: FakeImap, make: Make):
    server.inside = BARE
    server.box("INBOX").add(*some(2))
    assert make(expunge_without_uidplus=True).run().removed == 2
    assert changes(server) == ["SELECT INBOX", "UID STORE 1:2 +FLAGS.SILENT (\\Deleted)", "EXPUNGE"]


def test_t6_without_uidplus_a_mark_of_another_program_stops_it(server: FakeImap, make: Make):
    server.inside = BARE
    box = server.box("INBOX")
    box.add(*some(2))
    engine = make(expunge_without_uidplus=True)
    server.on["SELECT"] = lambda _: None if box.next > 3 else box.add(some(1, 9)[0], flags=[b"\\Deleted"])
    report = engine.run()
    assert report.removed == 0
    assert any("1 other messages in it are marked as deleted" in note for note in engine.notes())
    assert changes(server) == ["SELECT INBOX"]
    box.expunge(3)
    assert engine.run().removed == 2


def test_t6_without_uidplus_a_mark_that_comes_meanwhile_stops_it_and_ours_are_taken_back(server: FakeImap, make: Make):
    server.inside = BARE
    box = server.box("INBOX")
    box.add(*some(2))
    server.on["UID STORE"] = lambda _: None if len(box.mail) > 2 else box.add(some(1, 9)[0], flags=[b"\\Deleted"])
    assert make(expunge_without_uidplus=True).run().removed == 0
    assert [b"\\Deleted" in mail.flags for mail in box.mail] == [False, False, True]
    assert "EXPUNGE" not in server.verbs()


# --- Gmail -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [b"", b"* SEARCH\r\n", b"* SEARCH 1\r\n"], ids=["nothing", "none", "not all"])
def test_without_uidplus_a_search_that_does_not_show_our_own_marks_is_not_believed(
    server: FakeImap, make: Make, found: bytes
):
    """It may not show those of others either, and EXPUNGE would remove them."""
    server.inside = BARE
    server.box("INBOX").add(*some(2))
    server.on["SELECT"] = lambda _: server.box("INBOX").add(some(1, 9)[0], flags=[b"\\Deleted"])
    server.on["UID SEARCH"] = lambda _: found + b"<tag> OK\r\n"
    report = make(expunge_without_uidplus=True).run()
    assert report.removed == 0
    assert "may hide those of others" in report.errors[0]
    assert uids(server) == [1, 2, 3]
    assert "EXPUNGE" not in server.verbs()


@pytest.fixture
def gmail(server: FakeImap) -> FakeImap:
    server.inside = (*GMAIL, "MOVE")
    server.boxes.clear()
    server.box("[Gmail]/All Mail", attributes=[b"\\All"]).add(*some(3))
    server.box("[Gmail]/Trash", attributes=[b"\\Trash"])
    server.box("INBOX").add(*some(3))
    return server


def test_i163_gmail_moves_to_the_trash(gmail: FakeImap, make: Make):
    assert make().run().removed == 3
    assert changes(gmail) == ['SELECT "[Gmail]/All Mail"', 'UID MOVE 1:3 "[Gmail]/Trash"']
    assert len(uids(gmail, "[Gmail]/Trash")) == 3


def test_what_gmail_shows_under_another_label_as_well_stays(gmail: FakeImap, make: Make):
    """Whoever reads the other label's mailbox may not have it yet."""
    del gmail.boxes[b"[Gmail]/All Mail"]
    gmail.box("Work")
    inbox = gmail.box("INBOX")
    inbox.mail[1].labels = [b"\\Important", b"Work"]
    inbox.mail[2].labels = [b"\\Important", b"\\Starred", b"\\Inbox"]
    engine = make()
    report = engine.run()
    assert (report.removed, report.exit_code) == (2, ExitCode.WAITING), report.errors
    assert uids(gmail) == [2]
    assert changes(gmail) == ["SELECT INBOX", 'UID MOVE 1,3 "[Gmail]/Trash"']
    assert any("has other labels" in note for note in engine.notes())


@pytest.mark.parametrize("lacks", ["MOVE", "trash"])
def test_i163_gmail_without_a_way_to_the_trash_removes_nothing(gmail: FakeImap, make: Make, lacks: str):
    if lacks == "MOVE":
        gmail.inside = GMAIL
    else:
        del gmail.boxes[b"[Gmail]/Trash"]
    report = make().run()
    assert (report.exit_code, report.removed) == (ExitCode.FAILED, 0)
    assert "MOVE to" in report.errors[0]
    assert not changes(gmail)


@pytest.mark.parametrize("rows", [b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n", b"* 1 FETCH (UID 1)\r\n", b""])
def test_what_gmail_says_nothing_of_stays(gmail: FakeImap, make: Make, rows: bytes):
    """Its user reads the message just then, so a row without its labels comes first; or no row with labels comes."""
    del gmail.boxes[b"[Gmail]/All Mail"]
    gmail.box("Work")
    inbox = gmail.box("INBOX")
    inbox.expunge(2)
    inbox.expunge(3)
    inbox.mail[0].labels = [b"Work"]

    def labels(words: list[Word]) -> bytes | None:
        if flat(words[1]) != [b"UID", b"X-GM-LABELS"]:
            return None
        return rows + (row(1, inbox.mail[0], words[1]) if b"FLAGS" in rows else b"") + b"<tag> OK\r\n"

    gmail.on["UID FETCH"] = labels
    assert make().run().removed == 0
    assert uids(gmail) == [1]
    assert "UID MOVE" not in gmail.verbs()


# --- servers that say no, or yes and do not mean it ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"<tag> OK [READ-ONLY] opened\r\n", "for reading only"),
        (b"* OK [UIDNOTSTICKY] x\r\n<tag> OK [READ-WRITE] opened\r\n", "do not last"),
        (b"<tag> NO not now\r\n", "does not open"),
    ],
)
def test_a_mailbox_that_nothing_can_be_removed_from_is_noted_and_the_next_one_follows(
    server: FakeImap, make: Make, reply: bytes, told: str
):
    server.box("INBOX").add(*some(2))
    server.box("Sent").add(*some(2, 5))
    server.replies["SELECT INBOX"] = reply
    engine = make()
    report = engine.run()
    assert (report.removed, len(uids(server))) == (2, 2)
    assert any(told in note for note in engine.notes())
    del server.replies["SELECT INBOX"]
    assert engine.run().removed == 2


@pytest.mark.parametrize("verb", ["UID STORE", "UID EXPUNGE"])
def test_a_no_is_tried_again_by_the_next_run(server: FakeImap, make: Make, verb: str):
    server.box("INBOX").add(*some(2))
    server.replies[verb] = b"<tag> NO not now\r\n"
    engine = make()
    assert engine.run().removed == 0
    assert len(uids(server)) == 2
    del server.replies[verb]
    assert engine.run().removed == 2


def test_a_server_that_says_ok_and_removes_nothing_is_not_believed(server: FakeImap, make: Make):
    server.box("INBOX").add(*some(3))
    server.replies["UID EXPUNGE"] = lambda: expunged(server, 2)
    engine = make()
    assert engine.run().removed == 1
    assert any("still shows 2" in note for note in engine.notes())
    del server.replies["UID EXPUNGE"]
    assert engine.run().removed == 2


def expunged(server: FakeImap, uid: int) -> bytes:
    server.box("INBOX").expunge(uid)
    return b"<tag> OK done\r\n"


@pytest.mark.parametrize("verb", ["UID STORE", "UID EXPUNGE"])
def test_f59_a_lost_reply_is_found_out_by_the_next_listing(server: FakeImap, make: Make, verb: str):
    server.box("INBOX").add(*some(2))
    server.loses_reply_to.add(verb)
    engine = make()
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.TEMPORARY, 0)
    server.loses_reply_to.clear()
    report = engine.run()
    assert (report.exit_code, report.removed) == (ExitCode.DONE, 2 if verb == "UID STORE" else 0)
    assert not uids(server)
    assert engine.run().exit_code is ExitCode.DONE
    assert engine.frozen() == {}


def test_a_page_is_committed_before_the_next_one(server: FakeImap, make: Make, monkeypatch: pytest.MonkeyPatch):
    """The second page is not removed: the first is, and the ledger knows."""
    monkeypatch.setattr("syncd.engine.removal.PAGE_ROWS", 2)
    server.box("INBOX").add(*some(4))
    server.replies["UID EXPUNGE 3:4"] = b"<tag> NO not now\r\n"
    engine = make()
    assert engine.run().removed == 2
    assert uids(server) == [3, 4]
    server.inside = EXTENDED
    del server.replies["UID EXPUNGE 3:4"]
    assert engine.run().removed == 2
