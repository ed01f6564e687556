"""A Maildir as a source: folders, which files are messages, their names, and readers that move them meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.errors import ArchiveMissing, MailboxRefused, Scope
from syncd.formats.maildir.folder import Folder
from syncd.formats.maildir.home import find_home
from syncd.formats.maildir.layout import Layout
from syncd.mail.body import HEADER_CAP_OCTETS
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import OpenMailbox, SourceSession
from syncd.sources.maildir import MaildirSource
from tests.contract.destination_kit import SENT, delivered, message, octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import at, each, fetched, inbox, mailboxes, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    MaildirArchive(tmp_path / "mails").create(uuid4())
    return tmp_path / "mails"


@pytest.fixture
def session(path: Path) -> Iterator[SourceSession]:
    with opened(MaildirSource(path, path)) as session:
        yield session


def put(path: Path, name: str | bytes, content: bytes, at: int = 0) -> Path:
    file = path / os.fsdecode(name)
    for directory in ("tmp", "new", "cur"):
        (file.parent.parent / directory).mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (at, at))
    return file


@pytest.fixture
def box(session: SourceSession) -> OpenMailbox:
    return inbox(session)


def uids(box: OpenMailbox) -> list[bytes]:
    return [row.uid for row in listed(box)]


def test_every_file_in_new_and_cur_is_a_message_oldest_first(path: Path, session: SourceSession) -> None:
    put(path, "cur/3.host:2,S", b"three\n", at=30)
    put(path, "new/1.host", b"one\n", at=10)
    put(path, ".Sent/cur/2.host,S=4:2,", b"two\n", at=20)
    put(path, ".Sent.2019/new/1.host", b"old\n", at=5)
    assert [uids(box) for box in each(session)] == [[b"1.host", b"3.host"], [b"2.host,S=4"], [b"1.host"]]
    got = [list(fetched(box).values()) for box in each(session)]
    assert got == [[b"one\r\n", b"three\r\n"], [b"two\r\n"], [b"old\r\n"]]


def test_a_mailbox_is_a_folder(path: Path, session: SourceSession) -> None:
    for name in (b".Sent", b".Sent.2019", b".Entw=C3=BCrfe", b".a=2Eb.=2F", b".=FF", b".\xfe", b".INBOX.x", b".a..b"):
        put(path, name + b"/cur/1", b"x\n")
    found = {mailbox.name: mailbox.path for mailbox in mailboxes(session)}
    assert found == {
        b"INBOX": ("INBOX",),
        b".Sent": ("Sent",),
        b".Sent.2019": ("Sent", "2019"),
        b".Entw=C3=BCrfe": ("Entwürfe",),
        b".a=2Eb.=2F": ("a.b", "/"),
        b".=FF": ("\udcff",),
        b".\xfe": ("\udcfe",),
        b".INBOX.x": ("INBOX", "x"),
        b".a..b": ("a", "", "b"),
    }
    assert all(len(listed(box)) == (box.mailbox.name != b"INBOX") for box in each(session))


def test_a_folder_that_was_deleted_is_refused_and_the_next_one_is_read(path: Path, session: SourceSession) -> None:
    for name in (".A", ".B"):
        put(path, f"{name}/cur/1", b"x\n")
    _, first, second = mailboxes(session)
    shutil.rmtree(path / ".A")
    with pytest.raises(MailboxRefused, match="the mailbox “A” is not there any more") as caught:
        session.open(first)
    assert caught.value.scope is Scope.MAILBOX
    assert len(listed(session.open(second))) == 1


def test_what_is_no_message_is_left_alone(path: Path, session: SourceSession) -> None:
    put(path, "new/1.host", b"one\n")
    put(path, "tmp/2.host", b"half a mess")
    put(path, "new/.hidden", b"x")
    (path / "cur" / "directory").mkdir()
    (path / "cur" / "link").symlink_to(path / "new" / "1.host")
    (path / ".linked").symlink_to(path)
    (path / ".nothing").mkdir()
    assert [uids(box) for box in each(session)] == [[b"1.host"]]


def test_a_folder_that_is_a_link_is_no_mailbox(path: Path, session: SourceSession, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "cur/1.host", b"not yours\n")
    (path / ".Linked").symlink_to(tmp_path / "elsewhere")
    put(path, ".Real/new/2.host", b"real\n")
    shutil.rmtree(path / ".Real/cur")
    (path / ".Real/cur").symlink_to(tmp_path / "elsewhere/cur")
    (path / ".Hollow").mkdir()
    (path / ".Hollow/cur").symlink_to(tmp_path / "elsewhere/cur")
    assert [mailbox.name for mailbox in mailboxes(session)] == [b"INBOX", b".Real"]
    assert [uids(box) for box in each(session)] == [[], [b"2.host"]]
    for name in (b".Linked", b".Hollow", b"../elsewhere"):
        with pytest.raises(MailboxRefused):
            session.open(Mailbox(name, ("x",)))


def test_a_folder_without_tmp_is_read(path: Path, session: SourceSession) -> None:
    put(path, ".Sent/cur/1.host", b"x\n")
    shutil.rmtree(path / ".Sent/tmp")
    shutil.rmtree(path / ".Sent/new")
    assert [uids(box) for box in each(session)] == [[], [b"1.host"]]


@pytest.mark.parametrize("name", ["cur", "new"])
def test_a_root_whose_mail_is_behind_a_link_is_an_error(path: Path, tmp_path: Path, name: str) -> None:
    """No link is followed, and mail that is not read is not passed over in silence."""
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with opened(MaildirSource(path, path)) as session, pytest.raises(MailboxRefused, match="is not a folder"):
        uids(inbox(session))


@pytest.mark.parametrize("stranger", [os.mkfifo, lambda file: file.symlink_to("/etc/hostname")])
def test_a_stranger_that_takes_the_place_of_a_listed_file_fails_alone(
    path: Path, box: OpenMailbox, stranger: Callable[[Path], object]
) -> None:
    """A FIFO was waited for, without end."""
    put(path, "cur/1.host", b"one\n", at=1)
    put(path, "cur/2.host", b"two\n", at=2)
    rows = listed(box)
    (path / "cur/1.host").unlink()
    stranger(path / "cur/1.host")
    first, second = box.fetch(wanted(rows), Plenty())
    assert first is not None
    assert second is not None
    assert "it is " in str(first.error)
    assert second.body is not None
    assert octets(second.body) == b"two\r\n"


def test_names_may_be_any_octets(path: Path, box: OpenMailbox) -> None:
    names = [b"\xff\xfe", b"\xc3\xa4 b", b"x:2,y", b":2,S", b"a\nb"]
    for when, name in enumerate(names):
        put(path, b"cur/" + name + b":2,S", b"%d\n" % when, when)
    assert uids(box) == [b"\xff\xfe", b"\xc3\xa4 b", b"x:2,y", b":2,S", b"a\nb"]
    assert [answer for answer in fetched(box).values() if not isinstance(answer, bytes)] == []


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\n"),
        (b"a\rb\n", b"a\rb\n"),
        (b"no end", b"no end"),
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"x\n" * 200_000, b"x\r\n" * 200_000),
        (b"x\n" * 200_000 + b"\r", b"x\n" * 200_000 + b"\r"),
    ],
)
def test_line_ends(path: Path, box: OpenMailbox, kept: bytes, given: bytes) -> None:
    put(path, "new/1", kept)
    rows = listed(box)
    assert fetched(box) == {1: given}
    assert dict(box.headers(wanted(rows))) == {1: given[:HEADER_CAP_OCTETS]}
    assert rows[0].octets == len(kept)


def test_a_verbatim_maildir_is_given_as_it_is(tmp_path: Path) -> None:
    archive = MaildirArchive(tmp_path / "mails", verbatim=True)
    archive.create(uuid4())
    put(tmp_path / "mails", "new/1", b"a\nb\n")
    with opened(MaildirSource(tmp_path / "mails", tmp_path)) as session:
        assert fetched(inbox(session)) == {1: b"a\nb\n"}


def test_flags_and_date_come_with_the_message(path: Path, box: OpenMailbox) -> None:
    put(path, "cur/1.host:2,FRS", b"x\n", at=1_600_000_000)
    put(path, "new/2.host", b"x\n", at=1_600_000_001)
    first, second = [answer for answer in box.fetch(wanted(listed(box)), Plenty()) if answer]
    assert first.flags == ("\\Answered", "\\Flagged", "\\Seen")
    assert first.internal_date == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
    assert second.flags == ()


def test_another_separator(tmp_path: Path) -> None:
    path = tmp_path / "mails"
    MaildirArchive(path, separator=";").create(uuid4())
    put(path, "cur/1.host;2,S", b"x\n")
    with opened(MaildirSource(path, path)) as session:
        box = inbox(session)
        [row] = listed(box)
        [answer] = box.fetch(wanted([row]), Plenty())
        assert (row.uid, answer and answer.flags) == (b"1.host", ("\\Seen",))


def test_what_syncd_filed_comes_back(path: Path, session: SourceSession) -> None:
    archive = MaildirArchive(path)
    archive.open()
    delivered(archive, [message(1, b"a\r\n"), message(2, b"b\r\n", SENT, ("\\Seen",)), message(3, b"\rc\r\n")])
    archive.close()
    found = {box.mailbox.path: sorted(map(str, fetched(box).values())) for box in each(session)}
    assert found == {("INBOX",): sorted(map(str, [b"a\r\n", b"\rc\r\n"])), SENT.path: [str(b"b\r\n")]}


def test_flags_that_readers_set_change_neither_uid_nor_order(path: Path, box: OpenMailbox) -> None:
    files = [put(path, f"new/{key}.host", b"x\n") for key in range(50)]
    first = listed(box)
    for key, file in enumerate(files):
        if key % 3:
            file.rename(path / "cur" / f"{file.name}:2,{'FS' if key % 2 else ''}")
    assert listed(box) == first


def test_a_file_that_a_reader_moves_between_listing_and_reading_is_found(path: Path, box: OpenMailbox) -> None:
    files = [put(path, f"new/{key}.host", b"%d\n" % key, at=key) for key in range(9)]
    rows = listed(box)
    for file in files[3:6]:
        file.rename(path / "cur" / f"{file.name}:2,S")
    answers = [answer for answer in box.fetch(wanted(rows), Plenty()) if answer]
    assert [octets(answer.body) for answer in answers if answer.body] == [b"%d\r\n" % key for key in range(9)]
    assert [answer.flags for answer in answers] == [("\\Seen",) if key in range(3, 6) else () for key in range(9)]


def test_a_file_that_is_deleted_meanwhile_fails_alone(path: Path, session: SourceSession) -> None:
    files = [put(path, f".Sent/new/{key}.host", b"%d\n" % key, at=key) for key in range(5)]
    box = at(session, ("Sent",))
    rows = listed(box)
    for file in files[1:3]:
        file.unlink()
    assert [start is None for _, start in box.headers(wanted(rows))] == [False, True, True, False, False]
    answers = [answer for answer in box.fetch(wanted(rows), Plenty()) if answer]
    assert [answer.body is None for answer in answers] == [False, True, True, False, False]
    for answer in answers[1:3]:
        assert "there any more" in str(answer.error) or "no longer there" in str(answer.error)


def test_a_file_that_shows_under_two_names_is_one_message(
    path: Path, box: OpenMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, "cur/1.host:2,S", b"x\n")
    names = ["new/1.host", "new/2.host", "cur/1.host:2,", "cur/1.host:2,S"]
    monkeypatch.setattr(Folder, "names", lambda _: iter(names))
    assert uids(box) == [b"1.host"]
    assert fetched(box) == {1: b"x\r\n"}


def test_an_archive_that_vanishes_is_not_taken_for_deleted_mail(path: Path, box: OpenMailbox) -> None:
    put(path, "new/1.host", b"x\n")
    rows = listed(box)
    path.rename(path.with_name("unmounted"))
    (path.with_name("unmounted") / "new" / "1.host").unlink()
    with pytest.raises(ArchiveMissing):
        list(box.fetch(wanted(rows), Plenty()))


def test_another_archive_in_its_place_is_not_read_on(path: Path, box: OpenMailbox) -> None:
    file = put(path, "new/1.host", b"x\n")
    rows = listed(box)
    file.unlink()
    (path / ".syncd-archive.json").unlink()
    MaildirArchive(path).create(uuid4())
    with pytest.raises(ArchiveMissing, match="is another archive"):
        list(box.fetch(wanted(rows), Plenty()))


def test_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveMissing):
        MaildirSource(tmp_path, tmp_path).connect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layout", "below"), [(Layout.PLUS_PLUS, ".Entw&APw-rfe.2019"), (Layout.NESTED, "Entw&APw-rfe/2019")]
)
def test_a_maildir_of_another_program_is_read_and_not_written_to(tmp_path: Path, layout: Layout, below: str) -> None:
    root = tmp_path / "Maildir"
    put(root, "cur/1.host:2,FS", b"Subject: 1\n\n")
    put(root, f"{below}/new/2.host", b"Subject: 2\r\n\r\n")
    before = sorted(root.rglob("*"))
    with opened(MaildirSource(root, tmp_path / "spool", layout)) as session:
        found = {box.mailbox.path: fetched(box) for box in each(session)}
        assert found[("INBOX",)] == {1: b"Subject: 1\r\n\r\n"}
        assert found[("Entwürfe", "2019")] == {1: b"Subject: 2\r\n\r\n"}
    assert sorted(root.rglob("*")) == before
    assert find_home(root, layout).uuid == find_home(root).uuid
