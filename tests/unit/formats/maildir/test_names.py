from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from syncd.formats.maildir import names as maildir
from syncd.mail.message import MessageRef, Origin

ORIGIN = Origin(UUID(int=1), "road", b"INBOX", 1)
REF = MessageRef(ORIGIN, b"uid", 1)


def test_a_stem_is_for_ever():
    """Archives hold it: a change of the hash would store every message again."""
    assert maildir.stem(REF) == "d74b2abfb1fd4401fe2bf86f"


@pytest.mark.parametrize(
    "other",
    [
        REF._replace(uid=b"uie"),
        REF._replace(occurrence=2),
        REF._replace(origin=ORIGIN._replace(epoch=2)),
        REF._replace(origin=ORIGIN._replace(mailbox=b"INBO"), uid=b"Xuid"),
        REF._replace(origin=ORIGIN._replace(account=UUID(int=2))),
        REF._replace(origin=ORIGIN._replace(epoch=11), occurrence=1),
        REF._replace(origin=ORIGIN._replace(epoch=1), occurrence=11),
    ],
)
def test_every_part_of_the_identity_counts(other: MessageRef):
    assert maildir.stem(other) != maildir.stem(REF)


def test_the_name_of_an_account_does_not_count():
    assert maildir.stem(REF._replace(origin=ORIGIN._replace(account_name="renamed"))) == maildir.stem(REF)


@pytest.mark.parametrize("after", ["", ":2,", ":2,FS", ",S=120,W=130:2,Sab", "!2,S"])
def test_a_stem_is_found_in_what_readers_made_of_a_name(after: str):
    stem = maildir.stem(REF)
    assert maildir.stem_of(stem + ".syncd" + after) == stem


@pytest.mark.parametrize("name", ["1700000000.M1P2.host:2,S", "", "a" * 24, "Z" * 24 + ".syncd", "a" * 23 + ".syncd"])
def test_other_names_have_no_stem(name: str):
    assert maildir.stem_of(name) is None


def test_flags_become_letters_in_ascii_order():
    assert maildir.letters(["\\Seen", "\\flagged", "$Forwarded", "\\Recent", "$Junk", "\\SEEN"]) == "FPS"


def test_a_message_without_flags_is_new():
    assert maildir.file_name("s", ()) == "new/s.syncd"
    assert maildir.file_name("s", ["$Junk"]) == "new/s.syncd"
    assert maildir.file_name("s", ["\\Seen", "\\Deleted"], "!") == "cur/s.syncd!2,ST"


def test_flags_of_a_name():
    assert maildir.flags_of("1.S.F:2,FSab") == ("\\Flagged", "\\Seen")
    assert maildir.flags_of("1.S.F") == ()
    assert maildir.flags_of("1!2,R", "!") == ("\\Answered",)


def test_likely_names_are_all_that_six_flags_make():
    names = list(maildir.likely_names("s"))
    assert names[:3] == ["new/s.syncd", "cur/s.syncd:2,", "cur/s.syncd:2,D"]
    assert len(names) == len(set(names)) == 65
    assert "cur/s.syncd:2,DFPRST" in names


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1577836800),
        (datetime(1890, 1, 1, tzinfo=UTC), 0),
        (datetime(9999, 1, 1, tzinfo=UTC), 2147483647),
    ],
)
def test_a_date_is_clamped_to_what_file_systems_keep(date: datetime, seconds: int):
    assert maildir.file_time(date) == seconds


@pytest.mark.parametrize(
    ("mailbox", "folder"),
    [
        (b"INBOX", ""),
        (b"inbox", ""),
        (b"Sent Items", ".Sent Items"),
        (b"Archive/2019", ".Archive.2019"),
        (b"a.b", ".a=2Eb"),
        (b"../../etc", ".=2E=2E.=2E=2E.etc"),
        (b"/etc//passwd/", ".=2Fetc=2F.passwd=2F"),
        (b"Entw&APw-rfe", ".Entw&APw-rfe"),
        (b"\x00\n:\xff", ".=00=0A=3A=FF"),
        (b"trailing ", ".trailing=20"),
        (b"syncd-lock", ".=73yncd-lock"),
        (b"", ".=~e3b0c44298fc1c149afbf4c8"),
    ],
)
def test_folders_of_mailboxes(mailbox: bytes, folder: str):
    assert maildir.folder(mailbox) == folder


def test_a_long_mailbox_name_fits_a_file_name():
    names = {maildir.folder(b"\xff" * 300 + b"%d" % number) for number in range(20)}
    assert len(names) == 20
    assert all(len(name) <= 200 for name in names)
