from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from syncd import clock, durable
from syncd.destinations.maildir import MaildirArchive
from syncd.durable import Moment, Step
from syncd.errors import ConfigError, FormatDamaged, Locked, StorageError, Unusable
from syncd.formats.maildir import names as maildir
from syncd.formats.maildir.folder import make_folder
from syncd.formats.maildir.home import IDENTITY_FILE
from syncd.formats.maildir.notes import SUBSCRIPTIONS, Facts, facts_of
from syncd.formats.probe import Abilities
from syncd.formats.writer_lock import LOCK_FILE
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Receipt, Uid
from syncd.mail.outcome import Verdict

INBOX = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
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


def at(*path: str) -> Origin:
    return INBOX._replace(mailbox="/".join(path).encode(), path=path)


def message(uid: bytes = b"u", data: bytes = MAIL, flags: tuple[str, ...] = (), origin: Origin = INBOX) -> Message:
    return Message(Key(1), MessageRef(origin, Uid(uid), 1), Body.of(data), flags, path=origin.path)


def deliver(archive: MaildirArchive, *messages: Message) -> Receipt:
    """Deliver; the receipt of the last."""
    (outcomes,) = archive.deliver(messages)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * len(messages)
    receipt = outcomes[-1].receipt
    assert receipt is not None
    return receipt


def files(path: Path) -> list[str]:
    """What is in the archive besides our own two files, and the subscriptions."""
    names = (str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name not in {IDENTITY_FILE, LOCK_FILE, SUBSCRIPTIONS})


def name_of(m: Message) -> str:
    return maildir.stem(m.ref) + ".syncd"


def read(archive: MaildirArchive, receipt: Receipt) -> bytes:
    return b"".join(archive.read(receipt).body.chunks())


def reopened(path: Path) -> MaildirArchive:
    again = MaildirArchive(path)
    again.open()
    return again


def test_a_message_is_a_file_that_mail_readers_know(archive: MaildirArchive, path: Path):
    seen, sent = (
        message(b"v", flags=("\\Seen",)),
        message(origin=at("Sent", "2019")),
    )
    deliver(archive, message(), seen, sent)
    expected = {
        ".Sent.2019/maildirfolder",
        f".Sent.2019/new/{name_of(sent)}",
        f"new/{name_of(message())}",
        f"cur/{name_of(seen)}:2,S",
    }
    assert set(files(path)) == expected
    assert (path / "new" / name_of(message())).read_bytes() == MAIL.replace(b"\r\n", b"\n")


def test_the_path_decides_the_folder_and_the_identity_the_name(archive: MaildirArchive, path: Path):
    one, other = message(), message(origin=INBOX._replace(mailbox=b"&AOQ-", path=("ä",)))
    one.path = other.path = ("Mine", "a.b")
    (outcomes,) = archive.deliver([one, other])
    hints = {outcome.receipt.hint for outcome in outcomes if outcome.receipt}
    assert hints == {f".Mine.a=2Eb/{maildir.stem(each.ref)}" for each in (one, other)}
    expected = {f".Mine.a=2Eb/new/{name_of(each)}" for each in (one, other)}
    assert set(files(path)) == {".Mine.a=2Eb/maildirfolder", *expected}


@pytest.mark.parametrize(
    ("name", "flags"), [("new/{}", ()), ("cur/{}:2,FS", ("\\Flagged", "\\Seen")), ("cur/{}:2,a", ())]
)
def test_flags_are_those_of_the_name_now(archive: MaildirArchive, path: Path, name: str, flags: tuple[str, ...]):
    m = message(flags=("\\Answered",))
    m.internal_date = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    receipt = deliver(archive, m)
    (path / f"cur/{name_of(m)}:2,R").rename(path / name.format(name_of(m)))
    read = archive.read(receipt, m.ref)
    assert (read.flags, read.internal_date) == (flags, m.internal_date)
    read.body.close()


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
        bad.key = Key(2)
        (group,) = archive.deliver([bad, good])
        outcomes = {outcome.key: outcome for outcome in group}
        assert outcomes[Key(1)].verdict is Verdict.DELIVERED
        assert outcomes[Key(2)].verdict is Verdict.REJECTED
        assert outcomes[Key(2)].reason == (
            f"other octets are in the Maildir under this message's name ({there}): move that file away and retry"
        )
    archive.close()
    assert (path / there).read_bytes() == b"edited by a person\n"
    assert len(files(path)) == 2


@pytest.mark.parametrize("stranger", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/hostname")])
@pytest.mark.parametrize("found", ["new/{}", "cur/{}:2,S", "cur/{}:2,Sab"])
def test_a_stranger_under_its_name_costs_this_message_alone(path: Path, found: str, stranger: Callable[[Path], object]):
    """A FIFO was waited for, without end."""
    there = found.format(name_of(message()))
    stranger(path / there)
    archive = reopened(path)
    good, bad = message(b"good"), message()
    bad.key = Key(2)
    (group,) = archive.deliver([bad, good])
    outcomes = {outcome.key: outcome for outcome in group}
    archive.close()
    assert outcomes[Key(1)].verdict is Verdict.DELIVERED
    assert outcomes[Key(2)].verdict is Verdict.REJECTED
    assert "something that is no message (it is " in outcomes[Key(2)].reason
    with pytest.raises(FormatDamaged, match="is no message: it is "):
        archive.read(Receipt(bad.body.sha256, maildir.stem(bad.ref)))


@pytest.mark.parametrize("name", [LOCK_FILE, IDENTITY_FILE])
@pytest.mark.parametrize("stranger", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/hostname")])
def test_a_stranger_in_place_of_our_own_file_is_named(path: Path, name: str, stranger: Callable[[Path], object]):
    archive = reopened(path)
    (path / name).unlink(missing_ok=True)
    stranger(path / name)
    with pytest.raises(Unusable, match=f"{name}: it is "):
        list(archive.deliver([message()]))
    archive.close()


def test_an_archive_may_be_reached_by_a_link(path: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(path)
    archive = reopened(tmp_path / "link")
    assert read(archive, deliver(archive, message())) == MAIL
    archive.close()


def test_a_folder_that_is_a_link_is_never_written_to(archive: MaildirArchive, path: Path, tmp_path: Path):
    MaildirArchive(tmp_path / "elsewhere").create(UUID(int=8))
    (path / ".Sent").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unusable, match=r"\.Sent is not a folder, or is a link to one"):
        list(archive.deliver([message(origin=at("Sent"))]))
    assert files(tmp_path / "elsewhere") == []


def test_without_hard_links_everything_is_stored_and_found_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    def link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    messages = [message(b"%d" % number, flags=("\\Seen",) * (number % 2)) for number in range(20)]
    for _ in range(2):
        archive = reopened(path)
        deliver(archive, *messages)
        archive.close()
    assert len(files(path)) == 20


def test_a_file_system_that_cannot_lock_is_named_before_there_is_mail(path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(Unusable, match=f"the file system of {path} does not lock files"):
        MaildirArchive(path).open()


@pytest.mark.parametrize(
    ("key", "value"), [("separator", ""), ("separator", "/../"), ("separator", "2"), ("line_ends", "x")]
)
def test_an_odd_description_is_damage(path: Path, key: str, value: str):
    content = json.loads((path / IDENTITY_FILE).read_text())
    (path / IDENTITY_FILE).write_text(json.dumps(content | {key: value}))
    with pytest.raises(FormatDamaged, match=f"says {key} = "):
        MaildirArchive(path).open()


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
    sent = message(origin=at("Sent"))
    outcomes = archive.deliver([sent, message()])
    assert [outcome.verdict for outcome in next(outcomes)] == [Verdict.DELIVERED]
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        next(outcomes)
    assert files(path) == [".Sent/maildirfolder", f"new/{name_of(message())}"]


def test_a_lock_that_is_taken_is_waited_for_and_then_reported(
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
    messages = [message(origin=at("box", str(number))) for number in range(300)]
    deliver(archive, *messages)
    assert sum(1 for _ in path.glob(".box.*/new/*")) == 300


# --- mailboxes ---------------------------------------------------------------------------------------------


def test_paths_are_one_mailbox_where_the_file_system_takes_their_folders_for_one(
    archive: MaildirArchive, monkeypatch: pytest.MonkeyPatch
):
    assert archive.mailbox_key(("Work",)) != archive.mailbox_key(("work",))
    monkeypatch.setattr("syncd.destinations.maildir.probe", lambda *_: Abilities(links=True, dates=True, cases=False))
    archive.close()
    archive.open()
    assert archive.mailbox_key(("Work",)) == archive.mailbox_key(("work",))


def test_a_mailbox_is_subscribed_to_when_it_is_new_and_never_again(archive: MaildirArchive, path: Path):
    lists, sent = at("Lists"), at("Sent")._replace(subscribed=False)
    archive.note_mailboxes([lists, sent])
    assert (path / SUBSCRIPTIONS).read_bytes() == b"Lists\n"
    (path / SUBSCRIPTIONS).write_bytes(b"Sent\n")  # by a mail program
    archive.close()
    archive.open()
    archive.note_mailboxes([lists, sent])
    assert list(archive.deliver([message(origin=lists)]))
    assert (path / SUBSCRIPTIONS).read_bytes() == b"Sent\n"


def test_mail_of_another_program_stays_subscribed_to(path: Path):
    """Without a file of subscriptions every mailbox counts as subscribed to; the first line must not end that."""
    there = path.with_name("there")
    make_folder(there)
    make_folder(there, ".Old")
    archive = MaildirArchive(there)
    archive.create(UUID(int=8))
    assert not (there / SUBSCRIPTIONS).exists()
    archive.open()
    archive.note_mailboxes([at("New")])
    archive.close()
    assert (there / SUBSCRIPTIONS).read_bytes() == b"INBOX\nOld\nNew\n"


def test_keywords_that_a_mail_program_named_keep_their_letters(archive: MaildirArchive, path: Path):
    (path / "dovecot-keywords").write_bytes(b"1 $Later\n")
    assert list(archive.deliver([message(flags=("$LATER", "new"))]))
    assert (path / "dovecot-keywords").read_bytes() == b"1 $Later\n0 new\n"
    assert [name for name in files(path) if name.startswith("cur/")] == [f"cur/{name_of(message())}:2,ab"]
    receipt = Receipt(message().body.sha256, maildir.stem(message().ref))
    assert archive.read(receipt).flags == ("$Later", "new")


def test_a_path_that_the_folder_cannot_tell_stands_beside_the_messages(archive: MaildirArchive, path: Path):
    long = INBOX._replace(mailbox=b"long", path=("x" * 300,), use="\\Archive")
    archive.note_mailboxes([long])
    archive.note_mailboxes([long._replace(account=UUID(int=9), use="\\Junk")])  # another account's: the first counts
    [facts] = path.glob(".x*/.syncd-mailbox.json")
    assert facts_of(facts.read_bytes()) == Facts(long.path, "\\Archive")
