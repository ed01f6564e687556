"""An mbox archive as a source while syncd writes to it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.mbox import MboxArchive
from syncd.formats.mbox import files, locks
from syncd.formats.mbox.home import JOURNAL_FILE
from syncd.formats.mbox.journal import Appending, Glimpse, Journal, read_only
from syncd.sources.base import SourceSession
from syncd.sources.mbox import MboxSource
from tests.contract.destination_kit import delivered, message
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import fetched, mailboxes, opened, some

FILE = "INBOX.mbox"
MAIL = some(2)
TORN = b"From - Thu Mar  1 09:05:07 2018\nSubject: torn\n\nhalf a mes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    archive = MboxArchive(tmp_path / "mails")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(key, octets) for key, octets in enumerate(MAIL)])
    archive.close()
    return tmp_path / "mails"


def begin(path: Path) -> None:
    """A batch is noted in the journal, and a part of its octets is in the file."""
    journal, file = Journal(path / JOURNAL_FILE), path / FILE
    facts = file.stat()
    journal.begin(Appending(FILE.encode(), facts.st_ino, facts.st_size, ()))
    journal.close()
    with file.open("ab") as mbox:
        mbox.write(TORN)


def end(path: Path) -> None:
    """The batch is whole."""
    with (path / FILE).open("ab") as mbox:
        mbox.write(b"sage\n\n")
    journal = Journal(path / JOURNAL_FILE)
    journal.end(FILE.encode())
    journal.close()


def read(session: SourceSession) -> list[object]:
    [mailbox] = mailboxes(session)
    return list(fetched(session.open(mailbox)).values())


def test_a_batch_that_begins_after_the_mailboxes_were_listed_is_not_read(path: Path) -> None:
    """Half a message was given as the last one after its writer was killed."""
    with opened(MboxSource(path, path)) as session:
        [mailbox] = mailboxes(session)
        begin(path)
        assert list(fetched(session.open(mailbox)).values()) == MAIL


def test_a_batch_that_begins_after_the_wait_for_the_lock_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = locks.wait_until_whole

    def waited(descriptor: int, name: str) -> None:
        wait(descriptor, name)
        monkeypatch.setattr(locks, "wait_until_whole", wait)
        begin(path)

    monkeypatch.setattr(locks, "wait_until_whole", waited)
    with opened(MboxSource(path, path)) as session:
        assert read(session) == MAIL


def test_a_batch_that_ends_before_the_journal_is_read_is_read_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(path)

    def ended(journal: Path) -> Glimpse:
        monkeypatch.setattr(files, "read_only", read_only)
        end(path)
        return read_only(journal)

    with opened(MboxSource(path, path)) as session:
        monkeypatch.setattr(files, "read_only", ended)
        assert read(session) == [*MAIL, b"Subject: torn\r\n\r\nhalf a message\r\n"]


def test_a_file_that_a_crash_left_has_no_token(path: Path) -> None:
    """The batch may be whole: the next writer leaves the file as it is, and its messages count from then on."""
    begin(path)
    os.utime(path / FILE, (0, 0))
    with opened(MboxSource(path, path)) as session:
        assert [mailbox.contents for mailbox in mailboxes(session)] == [b""]
        end(path)
        os.utime(path / FILE, (0, 0))
        assert all(mailbox.contents for mailbox in mailboxes(session))


def test_flags_and_date_are_those_of_the_file_that_was_read(tmp_path: Path) -> None:
    """A mail program changed the file after it was listed: the message came with the flags of before."""
    file = tmp_path / "Inbox"
    begins = b"From a@example.org Thu Mar  1 09:05:07 2018\n"
    gone, kept = begins + b"Subject: gone\n\n1\n\n", begins + b"Subject: kept\n%b\n2\n\n"
    file.write_bytes(gone + kept % b"")
    with opened(MboxSource(tmp_path, tmp_path)) as session:
        box = session.open(mailboxes(session)[0])
        last = listed(box)[-1:]
        file.write_bytes(kept % b"Status: RO\n")
        [answer] = box.fetch(wanted(last), Plenty())
    assert answer is not None
    assert answer.body is not None
    answer.body.close()
    assert (answer.flags, str(answer.internal_date)) == (("\\Seen",), "2018-03-01 09:05:07+00:00")
