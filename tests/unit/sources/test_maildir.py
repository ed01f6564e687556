"""A Maildir as a source: which files are messages, what they are called, and readers that move them meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.errors import ArchiveMissing
from syncd.formats.maildir.folder import Folder
from syncd.mail.body import header_hash
from syncd.sources.base import SourceSession
from syncd.sources.maildir import MaildirSource
from tests.contract.destination_kit import SENT, delivered, message, octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import fetched, opened


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


def uids(session: SourceSession) -> list[bytes]:
    return [row.uid for row in listed(session)]


def test_every_file_in_new_and_cur_is_a_message_oldest_first(path: Path, session: SourceSession) -> None:
    put(path, "cur/3.host:2,S", b"three\n", at=30)
    put(path, "new/1.host", b"one\n", at=10)
    put(path, ".Sent/cur/2.host,S=4:2,", b"two\n", at=20)
    put(path, ".Sent.2019/new/1.host", b"old\n", at=5)
    assert uids(session) == [b".Sent.2019/1.host", b"1.host", b".Sent/2.host,S=4", b"3.host"]
    assert list(fetched(session).values()) == [b"old\r\n", b"one\r\n", b"two\r\n", b"three\r\n"]


def test_what_is_no_message_is_left_alone(path: Path, session: SourceSession) -> None:
    put(path, "new/1.host", b"one\n")
    put(path, "tmp/2.host", b"half a mess")
    put(path, "new/.hidden", b"x")
    (path / "cur" / "directory").mkdir()
    (path / "cur" / "link").symlink_to(path / "new" / "1.host")
    (path / ".linked").symlink_to(path)
    (path / ".nothing").mkdir()
    assert uids(session) == [b"1.host"]


def test_names_may_be_any_octets(path: Path, session: SourceSession) -> None:
    names = [b"\xff\xfe", b"\xc3\xa4 b", b"x:2,y", b":2,S", b"a\nb"]
    for at, name in enumerate(names):
        put(path, b"cur/" + name + b":2,S", b"%d\n" % at, at)
    assert uids(session) == [b"\xff\xfe", b"\xc3\xa4 b", b"x:2,y", b":2,S", b"a\nb"]
    assert [answer for answer in fetched(session).values() if not isinstance(answer, bytes)] == []


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
def test_line_ends(path: Path, session: SourceSession, kept: bytes, given: bytes) -> None:
    put(path, "new/1", kept)
    rows = listed(session)
    assert fetched(session) == {1: given}
    assert dict(session.header_hashes(wanted(rows))) == {1: header_hash(given)}
    assert rows[0].octets == len(kept)


def test_a_verbatim_maildir_is_given_as_it_is(tmp_path: Path) -> None:
    archive = MaildirArchive(tmp_path / "mails", verbatim=True)
    archive.create(uuid4())
    put(tmp_path / "mails", "new/1", b"a\nb\n")
    with opened(MaildirSource(tmp_path / "mails", tmp_path)) as session:
        assert fetched(session) == {1: b"a\nb\n"}


def test_flags_and_date_come_with_the_message(path: Path, session: SourceSession) -> None:
    put(path, "cur/1.host:2,FRS", b"x\n", at=1_600_000_000)
    put(path, "new/2.host", b"x\n", at=1_600_000_001)
    first, second = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer]
    assert first.flags == ("\\Flagged", "\\Answered", "\\Seen")
    assert first.internal_date == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
    assert second.flags == ()


def test_another_separator(tmp_path: Path) -> None:
    path = tmp_path / "mails"
    MaildirArchive(path, separator=";").create(uuid4())
    put(path, "cur/1.host;2,S", b"x\n")
    with opened(MaildirSource(path, path)) as session:
        [row] = listed(session)
        [answer] = session.fetch(wanted([row]), Plenty())
        assert (row.uid, answer and answer.flags) == (b"1.host", ("\\Seen",))


def test_what_syncd_filed_comes_back(path: Path, session: SourceSession) -> None:
    archive = MaildirArchive(path)
    archive.open()
    delivered(archive, [message(1, b"a\r\n"), message(2, b"b\r\n", SENT, ("\\Seen",)), message(3, b"\rc\r\n")])
    archive.close()
    assert sorted(map(str, fetched(session).values())) == sorted(map(str, [b"a\r\n", b"b\r\n", b"\rc\r\n"]))
    assert sum(uid.startswith(b".Sent") for uid in uids(session)) == 1


def test_flags_that_readers_set_change_neither_uid_nor_order(path: Path, session: SourceSession) -> None:
    files = [put(path, f"new/{key}.host", b"x\n") for key in range(50)]
    first = listed(session)
    for key, file in enumerate(files):
        if key % 3:
            file.rename(path / "cur" / f"{file.name}:2,{'FS' if key % 2 else ''}")
    assert listed(session) == first


def test_a_file_that_a_reader_moves_between_listing_and_reading_is_found(path: Path, session: SourceSession) -> None:
    files = [put(path, f"new/{key}.host", b"%d\n" % key, at=key) for key in range(9)]
    rows = listed(session)
    for file in files[3:6]:
        file.rename(path / "cur" / f"{file.name}:2,S")
    answers = [answer for answer in session.fetch(wanted(rows), Plenty()) if answer]
    assert [octets(answer.body) for answer in answers if answer.body] == [b"%d\r\n" % key for key in range(9)]


def test_a_file_that_is_deleted_meanwhile_fails_alone(path: Path, session: SourceSession) -> None:
    files = [put(path, f".Sent/new/{key}.host", b"%d\n" % key, at=key) for key in range(5)]
    rows = listed(session)
    for file in files[1:3]:
        file.unlink()
    answers = [answer for answer in session.fetch(wanted(rows), Plenty()) if answer]
    assert [answer.body is None for answer in answers] == [False, True, True, False, False]
    for answer in answers[1:3]:
        assert "there any more" in str(answer.error) or "no longer there" in str(answer.error)


def test_a_file_that_shows_under_two_names_is_one_message(
    path: Path, session: SourceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, "cur/1.host:2,S", b"x\n")
    names = ["new/1.host", "new/2.host", "cur/1.host:2,", "cur/1.host:2,S"]
    monkeypatch.setattr(Folder, "names", lambda _: iter(names))
    assert uids(session) == [b"1.host"]
    assert fetched(session) == {1: b"x\r\n"}


def test_an_archive_that_vanishes_is_not_taken_for_deleted_mail(path: Path, session: SourceSession) -> None:
    put(path, "new/1.host", b"x\n")
    rows = listed(session)
    path.rename(path.with_name("unmounted"))
    (path.with_name("unmounted") / "new" / "1.host").unlink()
    with pytest.raises(ArchiveMissing):
        list(session.fetch(wanted(rows), Plenty()))


def test_another_archive_in_its_place_is_not_read_on(path: Path, session: SourceSession) -> None:
    file = put(path, "new/1.host", b"x\n")
    rows = listed(session)
    file.unlink()
    (path / ".syncd-archive.json").unlink()
    MaildirArchive(path).create(uuid4())
    with pytest.raises(ArchiveMissing, match="is another archive"):
        list(session.fetch(wanted(rows), Plenty()))


def test_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveMissing):
        MaildirSource(tmp_path, tmp_path).connect()
    assert list(tmp_path.iterdir()) == []
