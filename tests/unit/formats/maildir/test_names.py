from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from syncd.formats.maildir import names as maildir
from syncd.mail.mailbox import Epoch
from syncd.mail.message import MessageRef, Origin, Uid

ORIGIN = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
REF = MessageRef(ORIGIN, Uid(b"uid"), 1)


def test_a_stem_is_for_ever():
    """Archives hold it: a change of the hash would store every message again."""
    assert maildir.stem(REF) == "d74b2abfb1fd4401fe2bf86f"


@pytest.mark.parametrize(
    "other",
    [
        REF._replace(uid=Uid(b"uie")),
        REF._replace(occurrence=2),
        REF._replace(origin=ORIGIN._replace(epoch=Epoch(2))),
        REF._replace(origin=ORIGIN._replace(mailbox=b"INBO"), uid=Uid(b"Xuid")),
        REF._replace(origin=ORIGIN._replace(account=UUID(int=2))),
        REF._replace(origin=ORIGIN._replace(epoch=Epoch(11)), occurrence=1),
        REF._replace(origin=ORIGIN._replace(epoch=Epoch(1)), occurrence=11),
    ],
)
def test_every_part_of_the_identity_counts(other: MessageRef):
    assert maildir.stem(other) != maildir.stem(REF)


@pytest.mark.parametrize(
    "same", [{"account_name": "renamed"}, {"path": ("Mine",)}, {"use": "\\Sent"}, {"subscribed": False}]
)
def test_facts_about_a_mailbox_do_not_count(same: dict[str, Any]):
    assert maildir.stem(REF._replace(origin=ORIGIN._replace(**same))) == maildir.stem(REF)


@pytest.mark.parametrize("after", ["", ":2,", ":2,FS", ",S=120,W=130:2,Sab", "!2,S"])
def test_a_stem_is_found_in_what_readers_made_of_a_name(after: str):
    stem = maildir.stem(REF)
    assert maildir.stem_of(stem + ".syncd" + after) == stem


@pytest.mark.parametrize("name", ["1700000000.M1P2.host:2,S", "", "a" * 24, "Z" * 24 + ".syncd", "a" * 23 + ".syncd"])
def test_other_names_have_no_stem(name: str):
    assert maildir.stem_of(name) is None


def test_keywords_of_the_folder_are_letters_too():
    assert maildir.file_name("s", ["\\Seen", "$Work", "$Junk"], keywords={"$work": "c"}) == "cur/s.syncd:2,Sc"
    assert maildir.flags_of("s.syncd:2,Sca", keywords={"c": "$Work"}) == ("\\Seen", "$Work")


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
