"""Keywords, facts and subscriptions: what the files say, and how they are replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import clock
from syncd.errors import Locked
from syncd.formats.maildir import notes
from syncd.formats.maildir.folder import Folder, make_folder
from syncd.formats.maildir.notes import Facts


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    make_folder(tmp_path)
    with Folder(tmp_path) as opened:
        yield opened


# --- keywords ------------------------------------------------------------------------------------------


def test_keywords_have_the_letters_that_the_file_says():
    octets = b"0 $Work\n2 Later\nx y\n3\n26 beyond\n"
    assert notes.keywords(octets) == {"a": "$Work", "c": "Later"}
    assert notes.letters(octets) == {"$work": "a", "later": "c"}


def test_a_new_keyword_gets_the_first_free_letter_and_the_others_keep_theirs():
    octets = notes.with_keywords(b"1 $Work", ["$WORK", "\\Seen", "new", "newer"])
    assert octets == b"1 $Work\n0 new\n2 newer\n"
    assert notes.with_keywords(octets, ["NEW", "$work"]) == octets


def test_twenty_six_keywords_have_letters_and_more_have_none():
    octets = notes.with_keywords(b"", [f"k{number:02}" for number in range(30)])
    assert len(notes.keywords(octets)) == 26
    assert not notes.is_lacking(notes.letters(octets), ["another"])
    assert notes.is_lacking({}, ["another"])


@pytest.mark.parametrize("flag", ["two words", "line\nend", "\x00", "", "\\Odd", "\u2028"])
def test_what_is_no_word_of_a_line_has_no_letter(flag: str):
    assert notes.with_keywords(b"", [flag]) == b""
    assert not notes.is_lacking({}, [flag])


def test_octets_of_a_keyword_come_back():
    octets = notes.with_keywords(b"", ["caf\udce9", "Ärger"])
    assert notes.keywords(octets) == {"a": "caf\udce9", "b": "Ärger"}


# --- facts and subscriptions ------------------------------------------------------------------------------


def test_facts_come_back():
    facts = Facts(("a" * 300, "\udcff", "Ä"), "\\Sent")
    assert notes.facts_of(notes.facts_octets(facts)) == facts


@pytest.mark.parametrize(
    "octets",
    [None, b"", b"{}", b"[1]", b"\xff", b'{"path": [], "use": ""}', b'{"path": [1], "use": ""}', b'{"path": ["a"]}'],
)
def test_nonsense_is_no_facts(octets: bytes | None):
    assert notes.facts_of(octets) is None


def test_subscriptions_are_lines_and_each_mailbox_has_one():
    assert notes.subscriptions(None) is None
    assert notes.subscriptions(b"") == frozenset()
    octets = notes.with_subscriptions(b"INBOX\nSent", [b"Sent", b"Lists.2026"])
    assert octets == b"INBOX\nSent\nLists.2026\n"
    assert notes.subscriptions(octets) == {b"INBOX", b"Sent", b"Lists.2026"}


# --- on disk ---------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(folder: Folder, tmp_path: Path):
    assert notes.read(folder, "notes") is None
    assert notes.change(folder, "notes", lambda now: (now or b"") + b"one\n") == b"one\n"
    assert notes.change(folder, "notes", lambda now: (now or b"") + b"two\n") == b"one\ntwo\n"
    assert (notes.read(folder, "notes"), (tmp_path / "notes").stat().st_mode & 0o777) == (b"one\ntwo\n", 0o600)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cur", "new", "notes", "tmp"]


def test_a_lock_that_a_crash_of_ours_left_is_taken_over(folder: Folder, tmp_path: Path):
    (tmp_path / "notes.lock").write_bytes(b"syncd\n")
    (tmp_path / "tmp/syncd.notes").write_bytes(b"half")
    assert notes.change(folder, "notes", lambda _: b"x") == b"x"


def test_a_lock_of_another_program_is_waited_for(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = tmp_path / "notes.lock"
    lock.write_bytes(b"dovecot's new file")
    os.utime(lock, (clock.now().timestamp(),) * 2)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            lock.unlink()

    monkeypatch.setattr(clock, "sleep", sleep)
    assert notes.change(folder, "notes", lambda _: b"x") == b"x"
    assert len(waits) == 3


def test_a_lock_that_nobody_gives_back_ends_the_batch_until_it_is_old(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clock, "sleep", lambda _: None)
    lock = tmp_path / "notes.lock"
    lock.write_bytes(b"dovecot's new file")
    os.utime(lock, (clock.now().timestamp(),) * 2)
    with pytest.raises(Locked, match=r"notes\.lock"):
        notes.change(folder, "notes", lambda _: b"x")
    os.utime(lock, (clock.now().timestamp() - 1_000,) * 2)
    assert notes.change(folder, "notes", lambda _: b"x") == b"x"
