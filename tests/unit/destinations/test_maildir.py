from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from syncd import clock, durable
from syncd.destinations.base import Verdict
from syncd.destinations.maildir import IDENTITY_FILE, LOCK_FILE, MaildirArchive
from syncd.durable import Moment, Step
from syncd.errors import ConfigError, FormatDamaged, Locked, StorageError
from syncd.formats.maildir import names as maildir
from syncd.mail.body import Body
from syncd.mail.message import Message, MessageRef, Origin, Receipt

INBOX = Origin(UUID(int=1), "road", b"INBOX", 1)
MAIL = b"Subject: x\r\n\r\nHello\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    MaildirArchive(tmp_path / "mail").create(UUID(int=9))
    return tmp_path / "mail"


@pytest.fixture
def archive(path: Path) -> Iterator[MaildirArchive]:
    archive = MaildirArchive(path, "home")
    archive.open()
    yield archive
    archive.close()


def message(uid: bytes = b"u", data: bytes = MAIL, flags: tuple[str, ...] = (), origin: Origin = INBOX) -> Message:
    return Message(1, MessageRef(origin, uid, 1), Body.of(data), flags)


def deliver(archive: MaildirArchive, *messages: Message) -> Receipt:
    """Deliver; the receipt of the last."""
    (outcomes,) = archive.deliver(messages)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * len(messages)
    receipt = outcomes[-1].receipt
    assert receipt is not None
    return receipt


def files(path: Path) -> list[str]:
    """What is in the archive besides our own two files."""
    names = (str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name not in {IDENTITY_FILE, LOCK_FILE})


def name_of(m: Message) -> str:
    return maildir.stem(m.ref) + ".syncd"


def read(archive: MaildirArchive, receipt: Receipt) -> bytes:
    return b"".join(archive.read(receipt).chunks())


def reopened(path: Path) -> MaildirArchive:
    again = MaildirArchive(path)
    again.open()
    return again


def test_a_message_is_a_file_that_mail_readers_know(archive: MaildirArchive, path: Path):
    seen, sent = message(b"v", flags=("\\Seen",)), message(origin=INBOX._replace(mailbox=b"Sent/2019"))
    deliver(archive, message(), seen, sent)
    expected = {
        ".Sent.2019/maildirfolder",
        f".Sent.2019/new/{name_of(sent)}",
        f"new/{name_of(message())}",
        f"cur/{name_of(seen)}:2,S",
    }
    assert set(files(path)) == expected
    assert (path / "new" / name_of(message())).read_bytes() == MAIL.replace(b"\r\n", b"\n")


def test_verbatim_keeps_line_ends(tmp_path: Path):
    archive = MaildirArchive(tmp_path / "mail", verbatim=True)
    archive.create(UUID(int=9))
    archive.open()
    deliver(archive, message())
    archive.close()
    assert (tmp_path / "mail/new" / name_of(message())).read_bytes() == MAIL


def test_other_line_ends_than_it_was_made_with_are_refused(path: Path):
    archive = MaildirArchive(path, "home", verbatim=True)
    archive.open()
    with pytest.raises(ConfigError, match=r'the Maildir archive "home" .* has line_ends = "lf": set that'):
        list(archive.deliver([message()]))
    archive.close()
    assert files(path) == []


def test_a_message_without_cr_comes_back_without(archive: MaildirArchive):
    assert read(archive, deliver(archive, message(data=b"unix\nlines\n"))) == b"unix\nlines\n"


def test_a_date_is_the_files(archive: MaildirArchive, path: Path):
    dated = message()
    dated.internal_date = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    deliver(archive, dated)
    assert (path / "new" / name_of(dated)).stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("after", [":2,", ":2,S", ":2,DFPRST", ":2,Sab", ",S=20,W=23:2,S"])
def test_a_message_that_a_reader_moved_is_not_delivered_again(path: Path, after: str):
    for _ in range(2):
        archive = reopened(path)
        receipt = deliver(archive, message())
        assert read(archive, receipt) == MAIL
        archive.close()
        moved = path / "cur" / (name_of(message()) + after)
        if not moved.exists():
            (path / "new" / name_of(message())).rename(moved)
    assert files(path) == [f"cur/{name_of(message())}{after}"]


def test_a_message_moved_within_one_run_is_not_delivered_again(archive: MaildirArchive, path: Path):
    deliver(archive, message())
    (path / "new" / name_of(message())).rename(path / "cur" / (name_of(message()) + ":2,S"))
    deliver(archive, message())
    assert files(path) == [f"cur/{name_of(message())}:2,S"]


def test_what_another_writer_delivered_meanwhile_is_seen(archive: MaildirArchive, path: Path):
    deliver(archive, message(b"first"))
    other = reopened(path)
    deliver(other, message(b"second"))
    other.close()
    (path / "new" / name_of(message(b"second"))).rename(path / "cur" / (name_of(message(b"second")) + ":2,S"))
    deliver(archive, message(b"second"))
    assert len(files(path)) == 2


def test_a_message_that_a_person_deleted_is_delivered_again(archive: MaildirArchive, path: Path):
    deliver(archive, message())
    (path / "new" / name_of(message())).unlink()
    deliver(archive, message())
    assert files(path) == [f"new/{name_of(message())}"]


@pytest.mark.parametrize("found", ["new/{}", "cur/{}:2,S", "cur/{}:2,Sab"])
def test_other_octets_under_its_name_are_not_overwritten(path: Path, found: str):
    there = found.format(name_of(message()))
    (path / there).write_bytes(b"edited by a person\n")
    archive = reopened(path)
    for _ in range(2):
        good, bad = message(b"good"), message()
        bad.key = 2
        (group,) = archive.deliver([bad, good])
        outcomes = {outcome.key: outcome for outcome in group}
        assert outcomes[1].verdict is Verdict.DELIVERED
        assert outcomes[2].verdict is Verdict.REJECTED
        assert outcomes[2].reason == (
            f"other octets are in the Maildir under this message's name ({there}): move that file away and retry"
        )
    archive.close()
    assert (path / there).read_bytes() == b"edited by a person\n"
    assert len(files(path)) == 2


def test_a_file_that_moves_whenever_we_look_is_tried_again_later(
    archive: MaildirArchive, path: Path, monkeypatch: pytest.MonkeyPatch
):
    deliver(archive, message())
    (path / "new" / name_of(message())).rename(path / "cur" / (name_of(message()) + ":2,Sx"))
    monkeypatch.setattr("syncd.formats.maildir.folder.Folder.names", lambda _: iter([f"cur/{name_of(message())}:2,Sy"]))
    ((outcome,),) = archive.deliver([message()])
    assert outcome.verdict is Verdict.DEFERRED
    assert files(path) == [f"cur/{name_of(message())}:2,Sx"]


def test_what_is_found_is_made_durable_as_well(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who linked it may have been killed before the fsync of the directory."""
    (path / "cur" / (name_of(message()) + ":2,S")).write_bytes(MAIL.replace(b"\r\n", b"\n"))
    archive = reopened(path)
    deliver(archive, message(b"other"))
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    deliver(archive, message())
    assert synced == ["cur"]
    archive.close()


def test_leftovers_of_a_crash_are_cleared_away(path: Path):
    (path / "tmp/syncd.0123.abc").write_bytes(b"half a mess")
    (path / "tmp/1700000000.M1P2.host").write_bytes(b"of somebody who is writing now")
    archive = reopened(path)
    deliver(archive, message())
    archive.close()
    assert files(path) == [f"new/{name_of(message())}", "tmp/1700000000.M1P2.host"]


def test_after_a_failed_fsync_of_the_directory_nothing_is_acknowledged_and_all_is_written_anew(
    archive: MaildirArchive, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The kernel may call the next fsync a success although the names were lost."""
    deliver(archive, message(b"before"))

    def fail(step: Step, moment: Moment) -> None:
        if step is Step.DIRECTORY_SYNC and moment == "before":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "observer", fail)
    outcomes = archive.deliver([message(b"before"), message(b"new")])
    with pytest.raises(StorageError, match=r'cannot write to the Maildir archive "home" \(.*\): Input/output error'):
        next(outcomes)
    assert files(path) == [f"new/{name_of(message(b'before'))}"]
    monkeypatch.setattr(durable, "observer", None)
    deliver(archive, message(b"before"), message(b"new"))


def test_what_was_filed_before_the_disk_failed_is_acknowledged(
    archive: MaildirArchive, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Mailboxes are filed one after the other: the first is durable, the second is not."""
    real = os.fsync

    def fail(descriptor: int) -> None:
        if ".Sent" in Path(f"/proc/self/fd/{descriptor}").readlink().parts:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    sent = message(origin=INBOX._replace(mailbox=b"Sent"))
    outcomes = archive.deliver([sent, message()])
    assert [outcome.verdict for outcome in next(outcomes)] == [Verdict.DELIVERED]
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        next(outcomes)
    assert files(path) == [".Sent/maildirfolder", f"new/{name_of(message())}"]


def test_a_lock_that_is_held_is_waited_for_and_then_reported(
    archive: MaildirArchive, path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with (path / LOCK_FILE).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Locked, match="for 10 s"):
            list(archive.deliver([message()]))
        monkeypatch.setattr(clock, "sleep", lambda _: fcntl.flock(held, fcntl.LOCK_UN))
        deliver(archive, message())


@pytest.mark.parametrize("hint", ["", "0" * 24, ".Sent/" + "0" * 24, "../" + "0" * 24])
def test_a_message_that_is_not_there_is_damage(archive: MaildirArchive, hint: str):
    with pytest.raises(FormatDamaged, match="is no longer in the Maildir archive"):
        archive.read(Receipt(bytes(32), hint))


def test_mail_that_was_there_before_stays(tmp_path: Path):
    path = tmp_path / "mail"
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    (path / "cur/1700000000.M1P2.host:2,S").write_bytes(b"old\n")
    archive = MaildirArchive(path)
    archive.create(UUID(int=9))
    archive.open()
    deliver(archive, message())
    archive.close()
    assert files(path) == ["cur/1700000000.M1P2.host:2,S", f"new/{name_of(message())}"]


def test_a_batch_may_name_more_mailboxes_than_a_process_may_open_files(archive: MaildirArchive, path: Path):
    messages = [message(origin=INBOX._replace(mailbox=b"box/%d" % number)) for number in range(300)]
    deliver(archive, *messages)
    assert sum(1 for _ in path.glob(".box.*/new/*")) == 300
