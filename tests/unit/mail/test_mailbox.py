from __future__ import annotations

import pytest

from syncd.mail.mailbox import INBOX_PATH, Path, name_of, path_of


@pytest.mark.parametrize(
    ("name", "delimiter", "path"),
    [
        (b"INBOX", b"/", ("INBOX",)),
        (b"Inbox", None, ("INBOX",)),
        (b"inbox.Sent", b".", ("INBOX", "Sent")),
        (b"INBOX.Sent", b"/", ("INBOX.Sent",)),
        (b"user/joe/INBOX", b"/", ("user", "joe", "INBOX")),
        (b"Entw&APw-rfe/R&-D", b"/", ("Entwürfe", "R&D")),
        (b"a//b/", b"/", ("a", "", "b", "")),
        (b"a/b", None, ("a/b",)),
        (b"", b"/", ("",)),
    ],
)
def test_a_name_is_split_at_the_delimiter_and_decoded(name: bytes, delimiter: bytes | None, path: Path):
    assert path_of(name, delimiter) == path


def test_a_delimiter_inside_a_shifted_run_splits_all_the_same():
    assert path_of(b"a&AOQ-b", b"-") == ("a&AOQ", "b")


def test_names_in_utf8():
    assert path_of("Entwürfe/R&-D".encode(), b"/", utf8=True) == ("Entwürfe", "R&-D")


@pytest.mark.parametrize(
    ("path", "delimiter", "name"),
    [
        (INBOX_PATH, b"/", b"INBOX"),
        (("Entwürfe", "R&D"), b".", b"Entw&APw-rfe.R&-D"),
        (("a/b", "c"), b".", b"a/b.c"),
        (("one",), None, b"one"),
    ],
)
def test_a_path_has_a_name(path: Path, delimiter: bytes | None, name: bytes):
    assert name_of(path, delimiter) == name
    assert path_of(name, delimiter) == path


@pytest.mark.parametrize(("path", "delimiter"), [(("a", "b"), None), (("a.b", "c"), b".")])
def test_a_path_that_a_server_cannot_have(path: Path, delimiter: bytes | None):
    with pytest.raises(ValueError):
        name_of(path, delimiter)
