"""The demo's own parts: what it takes as mail, and that its comparison would notice."""

from __future__ import annotations

import mailbox
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from tests.demo import compare, letters
from tests.demo.picture import screen
from tests.demo.terminal import Mismatch, Terminal
from tests.support import mail


def test_without_a_place_it_has_the_samples_and_a_few_hundred_more() -> None:
    assert len(list(letters.first(None))) == letters.GENERATED + len(mail.samples())


def test_eml_files_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.eml").write_bytes(b"Subject: 1\n\n")
    (tmp_path / "2.EML").write_bytes(b"Subject: 2\n\n")
    (tmp_path / "notes.txt").write_bytes(b"no mail")
    assert sorted(letters.first(tmp_path)) == [b"Subject: 1\n\n", b"Subject: 2\n\n"]


def test_a_maildir(tmp_path: Path) -> None:
    mailbox.Maildir(tmp_path / "box").add(b"Subject: x\n\ntext\n")
    assert list(letters.first(tmp_path / "box")) == [b"Subject: x\n\ntext\n"]


def test_an_mbox(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for number in range(3):
        box.add(b"Subject: %d\n\ntext\n" % number)
    box.close()
    assert len(list(letters.first(tmp_path / "box"))) == 3


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere", "does not exist"), ("empty", "no \\*.eml file"), ("a.txt", "not an mbox")]
)
def test_a_place_without_mail_is_named(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("Dear all")
    with pytest.raises(letters.NoMail, match=says):
        letters.first(tmp_path / name)


def test_a_missing_a_changed_and_a_doubled_message_are_noticed(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.eml").write_bytes(b"%d" % number)
    there = compare.in_files(tmp_path)
    compare.must_equal(there, there)
    (tmp_path / "0.eml").write_bytes(b"changed")
    (tmp_path / "3.eml").write_bytes(b"2")
    with pytest.raises(Mismatch, match="of 3 messages on the server 1 are missing and 2 are too many"):
        compare.must_equal(compare.in_files(tmp_path), there)
    with pytest.raises(Mismatch, match="1 are missing and 0 are too many"):
        compare.must_equal(there - Counter(list(there)[:1]), there)


def test_mail_that_arrived_is_compared_below_its_trace_fields() -> None:
    top = b"Received: by a\r\nReceived: by b (syncd)\r\nX-Syncd-Id: k-r\r\n"
    message = b"Subject: x\r\n\r\nbare \r and\nlines"
    expected = Counter([sha256(compare.canonical(message)).digest()])
    assert compare.canonical(message) == b"Subject: x\r\n\r\nbare \r\n and\r\nlines"
    compare.must_equal(compare.as_sent([top + message]), expected)
    with pytest.raises(Mismatch, match="of 1 messages to be sent 1 are missing and 1 are too many"):
        compare.must_equal(compare.as_sent([top + message + b"x"]), expected, "to be sent")
    with pytest.raises(Mismatch, match="trace fields are missing"):
        compare.as_sent([message])


def test_a_command_that_fails_fails_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(tmp_path, {"PATH": "/usr/bin:/bin"})
    terminal.run("It is well.", "echo", "two words")
    assert capfd.readouterr().out == "\n# It is well.\n$ echo 'two words'\ntwo words\n"
    with pytest.raises(Mismatch, match=r"^sh -c 'exit 3' ended with exit code 3$"):
        terminal.run("It is not.", "sh", "-c", "exit 3")
    with pytest.raises(Mismatch, match="exit code 3"):
        terminal.ask("sh", "-c", "exit 3")


def test_the_picture_shows_what_was_seen_last() -> None:
    assert screen("\x1b[?25l\r\x1b[2K10 %\r\x1b[2K\x1b[31m100 %\x1b[0m\r\n\x1b[?25hdone\r\n") == (
        "\x1b[31m100 %\x1b[0m\ndone\n"
    )
