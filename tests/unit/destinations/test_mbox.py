"""Mbox files that other programs use as well: locks, what a crash left between their writes, messages that moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from syncd import clock
from syncd.destinations.mbox import MboxArchive
from syncd.durable import Moment, Step
from syncd.errors import FormatDamaged, Locked
from syncd.formats.mbox import locks
from syncd.formats.mbox.home import JOURNAL_FILE
from syncd.formats.mbox.view import MboxView
from syncd.mail.message import Key, Message
from tests.contract.destination_kit import (
    CRLF_MAIL,
    Crash,
    batch,
    check,
    delivered,
    message,
    octets,
    outcomes_of,
    watching,
)

OTHERS = b"From anna@example.org Thu Mar  1 09:05:07 2018\nSubject: of another program\n\ntext\n\n"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[MboxArchive]:
    made = MboxArchive(tmp_path / "mail", "home")
    made.create(uuid4())
    made.open()
    yield made
    made.close()


@pytest.fixture
def inbox(archive: MboxArchive) -> Path:
    delivered(archive, [message(1, CRLF_MAIL)])
    return archive.path / "INBOX.mbox"


def subjects(archive: MboxArchive) -> list[str]:
    view = MboxView(archive.path)
    try:
        return [entry.subject for entry in view.entries()]
    finally:
        view.close()


def killed_at(archive: MboxArchive, kind: Step, moment: Moment) -> None:
    """Deliver two more messages up to a step."""

    def die(_number: int, step: Step, at: Moment) -> None:
        if (step, at) == (kind, moment):
            raise Crash

    with watching(die), pytest.raises(Crash):
        outcomes_of(archive, more())


def more() -> list[Message]:
    return [message(2, b"Subject: two\r\n\r\n" + b"x" * 500 + b"\r\n"), message(3, b"Subject: three\r\n\r\n")]


def test_a_reader_sees_nothing_of_a_batch_that_was_cut_short(archive: MboxArchive, inbox: Path) -> None:
    before = inbox.stat().st_size
    killed_at(archive, Step.MBOX_SYNC, "before")
    assert inbox.stat().st_size > before
    assert subjects(archive) == ["one"]
    delivered(archive, more())
    assert subjects(archive) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tail: tail[:10],
        lambda tail: tail[:300],
        lambda tail: tail[:-1],
        lambda tail: tail[:300] + bytes(700),
        lambda tail: bytes(len(tail)),
        lambda tail: tail + bytes(9),
    ],
)
def test_what_a_power_cut_leaves_is_cut_off(archive: MboxArchive, inbox: Path, spoil: Callable[[bytes], bytes]) -> None:
    before = inbox.read_bytes()
    killed_at(archive, Step.MBOX_SYNC, "before")
    tail = inbox.read_bytes()[len(before) :]
    inbox.write_bytes(before + spoil(tail))
    delivered(archive, [message(4, b"Subject: four\r\n\r\n")])
    assert subjects(archive) == ["one", "four"]
    delivered(archive, more())
    assert subjects(archive) == ["one", "four", "two", "three"]


def test_an_older_journal_takes_nothing_away_that_was_stored(archive: MboxArchive, inbox: Path) -> None:
    """A power cut may bring it back, or a person."""
    journal = archive.path / JOURNAL_FILE
    older: list[bytes] = []

    def keep(_number: int, step: Step, at: Moment) -> None:
        if (step, at) == (Step.MBOX_SYNC, "after"):
            older.append(journal.read_bytes())

    with watching(keep):
        delivered(archive, more())
    archive.close()
    journal.write_bytes(older[0])
    archive.open()
    delivered(archive, [message(4, b"Subject: four\r\n\r\n")])
    assert subjects(archive) == ["one", "two", "three", "four"]
    delivered(archive, more())
    assert subjects(archive) == ["one", "two", "three", "four"]


def test_mail_that_another_program_added_behind_a_torn_message_stays(archive: MboxArchive, inbox: Path) -> None:
    before = inbox.read_bytes()
    killed_at(archive, Step.MBOX_SYNC, "before")
    inbox.write_bytes(inbox.read_bytes()[: len(before) + 300] + b"\n\n" + OTHERS)
    delivered(archive, more())
    assert inbox.read_bytes().count(OTHERS) == 1
    assert subjects(archive) == ["one", "two", "of another program", "two", "three"]


def test_mail_in_the_line_where_a_torn_message_ends_is_not_cut_off(archive: MboxArchive, inbox: Path) -> None:
    """A program that does not look for a line end before it adds a message writes right behind the torn octets."""
    before = inbox.read_bytes()
    killed_at(archive, Step.MBOX_SYNC, "before")
    inbox.write_bytes(inbox.read_bytes()[: len(before) + 300] + OTHERS)
    delivered(archive, more())
    assert inbox.read_bytes().count(OTHERS) == 1


def test_whole_messages_count_where_another_program_has_written_since(archive: MboxArchive, inbox: Path) -> None:
    killed_at(archive, Step.MBOX_SYNC, "after")
    text = inbox.read_bytes()
    inbox.write_bytes(text[text.index(b"From MAILER-DAEMON", 5) :] + OTHERS)  # the first message was deleted
    delivered(archive, more())
    assert subjects(archive) == ["two", "three", "of another program"]


def test_a_file_that_was_replaced_is_not_cut(archive: MboxArchive, inbox: Path) -> None:
    killed_at(archive, Step.MBOX_SYNC, "after")
    text = inbox.read_bytes()
    inbox.unlink()
    inbox.write_bytes(text)
    delivered(archive, more())
    assert subjects(archive) == ["one", "two", "three"]


def test_notes_that_a_mail_program_moved_do_no_harm(archive: MboxArchive, inbox: Path) -> None:
    receipts = delivered(archive, more())
    text = inbox.read_bytes().replace(b"Status: O\nSubject: two\n", b"Subject: two\nX-UID: 7\nStatus: RO\n")
    inbox.write_bytes(text.replace(b"Status: O\nSubject: three\n", b"Subject: three\nX-Status: A\nStatus: RO\n"))
    check(archive, receipts, more())
    assert archive.read(receipts[Key(3)]).flags == ("\\Answered", "\\Seen")
    check(archive, delivered(archive, more()), more())
    assert subjects(archive) == ["one", "two", "three"]


def test_a_message_that_was_deleted_comes_again_if_it_is_delivered_again(archive: MboxArchive, inbox: Path) -> None:
    receipts = delivered(archive, more())
    inbox.write_bytes(inbox.read_bytes().partition(b"From MAILER-DAEMON")[0])
    with pytest.raises(FormatDamaged, match="does not hold"):
        archive.read(receipts[Key(2)])
    delivered(archive, more())
    inbox.unlink()
    delivered(archive, [message(1, CRLF_MAIL), *more()])
    assert subjects(archive) == ["one", "two", "three"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_a_file_of_another_program_gets_the_empty_line_that_it_lacks(archive: MboxArchive, end: bytes) -> None:
    (archive.path / "INBOX.mbox").write_bytes(OTHERS.rstrip() + end)
    messages = batch()
    check(archive, delivered(archive, messages), messages)
    assert subjects(archive)[0] == "of another program"
    assert len(subjects(archive)) == len(messages) + 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


@pytest.mark.usefixtures("impatient")
def test_locks_of_other_programs_are_heeded(archive: MboxArchive, inbox: Path) -> None:
    lock = inbox.with_name("INBOX.mbox.lock")
    lock.write_bytes(b"4711\n")
    with pytest.raises(Locked, match=r"INBOX.mbox.lock"):
        outcomes_of(archive, more())
    lock.unlink()
    other = os.open(inbox, os.O_RDWR)
    assert locks.try_lock(other)
    with pytest.raises(Locked, match="locked for 10 s"):
        outcomes_of(archive, more())
    os.close(other)
    delivered(archive, more())
    assert not lock.exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("content", "age_s"), [(b"syncd\n", 0), (b"4711\n", 3_600)])
def test_a_lock_that_a_crash_left_is_taken_away(
    archive: MboxArchive, inbox: Path, content: bytes, age_s: float
) -> None:
    lock = inbox.with_name("INBOX.mbox.lock")
    lock.write_bytes(content)
    then = clock.now().timestamp() - age_s
    os.utime(lock, (then, then))
    delivered(archive, more())
    assert not lock.exists()


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_another_program_took_over_just_now_is_left_to_it(
    archive: MboxArchive, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the old one, too, and was quicker: it has made its own since we looked."""
    lock = inbox.with_name("INBOX.mbox.lock")
    lock.write_bytes(b"syncd\n")
    rename = Path.rename

    def overtaken(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        lock.unlink()
        lock.write_bytes(b"4711\n")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    with pytest.raises(Locked, match=r"INBOX.mbox.lock"):
        outcomes_of(archive, more())
    assert lock.read_bytes() == b"4711\n"
    assert not inbox.with_name(locks.ASIDE).exists()


def test_a_lock_of_ours_that_was_taken_over_is_not_removed(archive: MboxArchive, inbox: Path) -> None:
    lock = inbox.with_name("INBOX.mbox.lock")
    descriptor = os.open(inbox, os.O_RDWR)
    with locks.locked(descriptor, str(inbox)):
        lock.unlink()
        lock.write_bytes(b"4711\n")
    os.close(descriptor)
    assert lock.read_bytes() == b"4711\n"
    lock.unlink()
    delivered(archive, more())


def test_a_lost_journal_is_made_again(archive: MboxArchive, inbox: Path) -> None:
    receipts = delivered(archive, more())
    archive.close()
    (archive.path / ".syncd-mbox.sqlite").unlink()
    for m in more():
        assert octets(archive.read(receipts[m.key]).body) == octets(m.body)
    archive.open()
    delivered(archive, [message(5, b"Subject: five\r\n\r\n")])
    assert subjects(archive) == ["one", "two", "three", "five"]
    assert inbox.exists()
