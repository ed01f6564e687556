from __future__ import annotations

import pytest

from syncd.imap.names import delimiter_of, path_of, personal_prefix
from syncd.imap.values import MailboxRow, Namespace, Namespaces
from syncd.mail.mailbox import Path

PLAIN = Namespaces((Namespace(b"", b"/"),))
BELOW = Namespaces((Namespace(b"INBOX.", b"."),), (Namespace(b"user.", b"."),))
NONE = Namespaces()


def row(name: bytes, delimiter: bytes = b".") -> MailboxRow:
    return MailboxRow(name, delimiter, frozenset())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"INBOX", ("INBOX",)),
        (b"inbox", ("INBOX",)),  # I36, I122
        (b"INBOX.Sent", ("Sent",)),  # I35
        (b"Inbox.Sent.2019", ("Sent", "2019")),
        (b"INBOX.INBOX", ("INBOX", "INBOX")),  # not INBOX itself
        (b"INBOX.inbox.a", ("INBOX", "a")),
        (b"INBOX.", ("INBOX", "")),
        (b"INBOX.M&APw-ll", ("Müll",)),
        (b"INBOX.R&D", ("R&D",)),  # I39
        (b"user.berta.Sent", ("user", "berta", "Sent")),
        (b"INBOXES.a", ("INBOXES", "a")),
    ],
)
def test_i35_paths_have_no_personal_prefix(name: bytes, path: Path):
    assert path_of(row(name), BELOW) == path


@pytest.mark.parametrize("namespaces", [PLAIN, NONE])
def test_paths_where_there_is_no_prefix(namespaces: Namespaces):
    assert path_of(row(b"INBOX/a/b", b"/"), namespaces) == ("INBOX", "a", "b")
    assert path_of(row(b"a.b", b"/"), namespaces) == ("a.b",)


def test_i34_a_name_without_a_delimiter_has_one_level():
    assert path_of(row(b"INBOX.a/b", b""), BELOW) == ("INBOX.a/b",)


def test_i33_names_in_utf8():
    assert path_of(row("INBOX.Müll".encode()), BELOW, utf8=True) == ("Müll",)


def test_i120_the_delimiter_for_new_names():
    rows = [row(b"INBOX", b""), row(b"a/b", b"/")]
    assert delimiter_of(BELOW, rows) == b"."
    assert delimiter_of(NONE, rows) == b"/"
    assert delimiter_of(Namespaces((Namespace(b"", b""),)), rows) == b"/"
    assert delimiter_of(NONE, []) == b""


def test_i121_the_personal_prefix():
    assert personal_prefix(BELOW) == b"INBOX."
    assert personal_prefix(NONE) == b""
