"""Files of other programs: where messages begin and end, what is unquoted, what is mail at all."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd import clock
from syncd.errors import FormatDamaged, Locked
from syncd.formats.mbox import locks, scan
from syncd.formats.mbox.files import MboxFile
from syncd.formats.mbox.home import find_home, has, names, path_of
from syncd.formats.mbox.quoting import unquote_once

FROM = b"From - Thu Mar  1 09:05:07 2018\n"


def read(directory: Path, content: bytes) -> list[bytes]:
    """The messages of an mbox with this content, as they travel."""
    path = directory / "some.mbox"
    path.write_bytes(content)
    file = MboxFile(find_home(path), path.name)
    try:
        file.look()
        lines = [line for page in file.pages() for line in page]
        assert file.totals() == (len(lines), sum(line.octets for line in lines))
        return [b"".join(file.read(line)) for line in lines]
    finally:
        file.close()


def crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


def test_messages_end_before_the_empty_line(tmp_path: Path) -> None:
    one, two = b"Subject: 1\n\nbody\n\n\n", b"Subject: 2\n\nbody\n"
    assert read(tmp_path, FROM + one + b"\n" + FROM + two + b"\n") == [crlf(one), crlf(two)]
    assert read(tmp_path, FROM + two + FROM + two) == [crlf(two), crlf(two)]
    assert read(tmp_path, FROM + b"Subject: 1\n\nno line end") == [crlf(b"Subject: 1\n\n") + b"no line end"]


def test_empty_files_and_messages(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == []
    assert read(tmp_path, FROM) == [b""]
    assert read(tmp_path, FROM + b"\n" + FROM + FROM + b"A: b\n\n") == [b"", b"", b"A: b\r\n"]


def test_a_file_with_crlf(tmp_path: Path) -> None:
    one, two = b"Subject: 1\r\n\r\nFrom here\r\n", b"Subject: 2\r\nStatus: RO\r\n\r\n\r\n"
    content = crlf(FROM) + one + b"\r\n" + crlf(FROM) + two + b"\r\n"
    assert read(tmp_path, content) == [one, b"Subject: 2\r\n\r\n\r\n"]


def test_a_bare_lf_becomes_crlf_and_a_bare_cr_stays(tmp_path: Path) -> None:
    assert read(tmp_path, FROM + b"A: b\r\n\nx\ry\r\r\n") == [b"A: b\r\n\r\nx\ry\r\r\n"]


def test_text_that_looks_like_a_from_line_is_text(tmp_path: Path) -> None:
    text = b"A: b\n\n\nFrom here on\nFrom me, 1 Mar 2018\n"
    assert read(tmp_path, FROM + text + b"\n" + FROM + b"A: c\n\n") == [crlf(text), crlf(b"A: c\n")]


@pytest.mark.parametrize("length", [b"5", b"99999999999", b"-1", b"x", b"0"])
def test_a_content_length_is_not_believed_where_no_message_follows(tmp_path: Path, length: bytes) -> None:
    text = b"A: b\nContent-Length: " + length + b"\n\nfour\nlines\nof\ntext\n"
    assert read(tmp_path, FROM + text + b"\n" + FROM + b"A: c\n\n") == [crlf(text), crlf(b"A: c\n")]


def test_from_lines_that_are_not_quoted_count_as_text_up_to_content_length(tmp_path: Path) -> None:
    body = b"forwarded:\n\n" + FROM + b"Subject: inside\n\n>From stays\n"
    text = b"A: b\nContent-Length: %d\n\n%b" % (len(body), body)
    plain = b"A: b\n\n" + body  # the field is a note, as it tells the truth
    other = b"A: c\n\n>From stays here too\n"
    assert read(tmp_path, FROM + text + b"\n" + FROM + other + b"\n") == [crlf(plain), crlf(other)]
    assert read(tmp_path, FROM + text) == [crlf(plain)]


def test_a_message_that_mutt_flagged_has_the_octets_that_it_had(tmp_path: Path) -> None:
    """It got the fields Content-Length and Lines, and was delivered again because of Lines."""
    content = FROM + b"Subject: 1\nStatus: RO\nContent-Length: 5\nLines: 1\n\nbody\n\n"
    assert read(tmp_path, content) == [crlf(b"Subject: 1\n\nbody\n")]


def test_mboxrd_and_mboxo_are_told_apart_by_what_is_around(tmp_path: Path) -> None:
    before = b"A: b\n\nFrom here\n> she wrote\n>From there\n> more\n"
    rd = before.replace(b">From", b">>From").replace(b"\nFrom", b"\n>From")
    assert read(tmp_path, FROM + rd + b"\n") == [crlf(before)]
    deep = b"A: b\n\nFrom here\n>> she wrote\n>>From there\n>> more\n"
    assert read(tmp_path, FROM + deep.replace(b"\nFrom", b"\n>From") + b"\n") == [crlf(deep)]


@pytest.mark.parametrize("octets", range(1, 9))
def test_mboxo_in_pieces(octets: int) -> None:
    text = b">From x\n>> she\n>>From there\n>\n>F\n>Fr>From y\n>From\n" * 3
    pieces = [text[at : at + octets] for at in range(0, len(text), octets)]
    assert b"".join(unquote_once(pieces)) == text.replace(b">From x", b"From x")


def test_the_data_of_uw_imap_is_no_mail(tmp_path: Path) -> None:
    data = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1234 0000000002\nStatus: RO\n\ntext\n"
    assert read(tmp_path, FROM + data + b"\n" + FROM + b"A: c\n\n") == [crlf(b"A: c\n")]


def test_what_comes_before_the_first_message_is_told(tmp_path: Path) -> None:
    path = tmp_path / "some.mbox"
    path.write_bytes(b"no mail\n\n" + FROM + b"A: b\n\n")
    file = MboxFile(find_home(path), path.name)
    file.look()
    assert (file.skipped, file.totals()[0]) == (9, 1)
    path.write_bytes(b"no mail at all\n")
    file.look()
    assert (file.skipped, file.totals()[0]) == (15, 0)
    file.close()


def test_a_message_is_found_where_a_mail_program_moved_it(tmp_path: Path) -> None:
    path = tmp_path / "some.mbox"
    one, two = b"Subject: 1\n\nbody\n", b"Subject: 2\n\nbody\n"
    path.write_bytes(FROM + one + b"\n" + FROM + two + b"\n")
    file = MboxFile(find_home(path), path.name)
    file.look()
    first, second = (line for page in file.pages() for line in page)
    path.write_bytes(FROM + two.replace(b"\n\n", b"\nStatus: RO\n\n") + b"\n")
    assert b"".join(file.read(second)) == crlf(two)
    with pytest.raises(FormatDamaged, match="not in the file any more"):
        list(file.read(first))
    path.unlink()
    with pytest.raises(FormatDamaged, match="not there any more"):
        list(file.read(second))
    file.close()


def test_memory_stays_flat_for_a_message_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "some.mbox"
    with path.open("wb") as file:
        file.write(FROM + b"A: b\n\n")
        file.truncate(40 << 20)
    opened = MboxFile(find_home(path), path.name)
    opened.look()
    [line] = [line for page in opened.pages() for line in page]
    assert line.octets == (40 << 20) - len(FROM)
    assert max(map(len, opened.read(line))) <= scan.BLOCK_OCTETS + 1
    opened.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_thunderbird_writes_from_lines_without_a_date(tmp_path: Path, end: bytes) -> None:
    """Such a file was passed over, or was one message."""
    one = b"Date: Fri, 24 Aug 2018 11:55:47 +0000\n\nFrom \nhere: it is text\nand not a header\n>From \nTo: x\n\n"
    two = b"X-Long: 1\n 2\n\nbody\n"
    content = b"From \n" + one + b"\nFrom \n" + two + b"\n"
    path = tmp_path / "Inbox"
    path.write_bytes(content.replace(b"\n", end))
    assert list(names(find_home(tmp_path), [])) == ["Inbox"]
    expected = [crlf(one.replace(b">From", b"From")), crlf(two)]
    assert read(tmp_path, content.replace(b"\n", end)) == expected
    file = MboxFile(find_home(path), path.name)
    file.look()
    dates = [file.state(line).date for page in file.pages() for line in page]
    file.close()
    assert dates == [datetime(2018, 8, 24, 11, 55, 47, tzinfo=UTC), None]


def test_which_files_are_mailboxes(tmp_path: Path) -> None:
    root = tmp_path / "Mail"
    for name in ("Inbox", "Sent.mbox", "Work.sbd/2019", "Apple.mbox/mbox", "Entw&APw-rfe", "a=2Fb.mbox"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(FROM + b"A: b\n\n")
    (root / "Empty.mbox").touch()
    for name in ("notes.txt", "Inbox.msf", "Sent.mbox.lock", ".hidden", "Work.sbd/.x.mbox"):
        (root / name).write_bytes(b"From me\n" if name == "notes.txt" else FROM)
    (root / "link.mbox").symlink_to(root / "Inbox")
    (root / "out").symlink_to(tmp_path)
    os.mkfifo(root / "fifo.mbox")
    home = find_home(root)
    found = {name: "|".join(path_of(name)) for name in names(home, [])}
    assert found == {
        "Inbox": "INBOX",
        "Sent.mbox": "Sent",
        "Work.sbd/2019": "Work|2019",
        "Apple.mbox/mbox": "Apple",
        "Entw&APw-rfe": "Entwürfe",
        "a=2Fb.mbox": "a/b",
        "Empty.mbox": "Empty",
    }
    assert all(has(home, name) for name in found)
    assert not any(has(home, name) for name in ("link.mbox", "out/Mail/Inbox", "../Mail/Inbox", "fifo.mbox", "none"))


def test_the_last_message_of_a_file_that_grows_meanwhile_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.mbox"
    path.write_bytes(FROM + b"A: b\n\n" + FROM + b"A: c\n\nhal")
    file = MboxFile(find_home(path), path.name)
    first = scan.first

    def grown(window: scan.Window) -> int:
        with path.open("ab") as more:
            more.write(b"f a line\n\n")
        return first(window)

    with monkeypatch.context() as patched:
        patched.setattr(scan, "first", grown)
        file.look()
    assert file.totals()[0] == 1
    file.look()
    assert file.totals()[0] == 2
    file.close()


def test_a_file_that_another_program_keeps_locked_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "some.mbox", [0.0]
    path.write_bytes(FROM + b"A: b\n\n")
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    other, file = os.open(path, os.O_RDWR), MboxFile(find_home(path), path.name)
    assert locks.try_lock(other)
    with pytest.raises(Locked, match="locked for 10 s"):
        file.look()
    os.close(other)
    file.look()
    assert file.totals()[0] == 1
    file.close()


def test_a_file_with_a_dot_lock_of_another_program_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last message may be half written: it was delivered so, and whole in the next run."""
    path, lock, now = tmp_path / "some.mbox", tmp_path / "some.mbox.lock", [0.0]
    path.write_bytes(FROM + b"A: b\n\nhalf a mess")
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    file = MboxFile(find_home(path), path.name)
    lock.write_bytes(b"4711\n")
    with pytest.raises(Locked, match="locked for 10 s"):
        file.look()
    lock.write_bytes(b"syncd\n")  # a crash of ours left it
    file.look()
    lock.write_bytes(b"4711\n")
    os.utime(lock, (0, 0))  # a crash of another program left it
    file.look()
    assert file.totals()[0] == 1
    file.close()
