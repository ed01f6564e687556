"""Names of mailboxes at a destination, by rules."""

from __future__ import annotations

from pathlib import Path as Files

import pytest

from syncd.destinations.imap.account import ImapAccount, ImapAccountOptions
from syncd.destinations.imap.targets import name_for, path_there, plain_key
from syncd.mail.mailbox import Path
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("INBOX",), b"INBOX"),
        (("Sent", "2019"), b"Sent/2019"),
        (("Müller",), b"M&APw-ller"),
        (("R&D",), b"R&-D"),
        (("a/b", "c"), b"a_b/c"),
        (("  x  ",), b"__x__"),
        (("~home",), b"_home"),
        (("100%", "a*b"), b"100_/a_b"),
        (("tab\there",), b"tab_here"),
        (("Mu\u0308ller",), b"M&APw-ller"),
        (("M\udcfcller",), b"M&APw-ller"),
        (("",), b"_"),
    ],
)
def test_i124_a_path_has_a_name_that_servers_take(path: Path, name: bytes) -> None:
    assert name_for(path, b"/") == name


def test_the_delimiter_and_the_prefix_are_the_servers() -> None:
    assert name_for(("v1.0", "Sent"), b".", b"INBOX.") == b"INBOX.v1_0.Sent"
    assert name_for(("INBOX",), b".", b"INBOX.") == b"INBOX"
    assert name_for(("v1.0", 'a\\b"c'), b"/", plain=True) == b"v1_0/a_b_c"


@pytest.mark.parametrize(
    ("names", "path", "there"),
    [
        ([], (" trailing ", "a/b"), ("_trailing_", "a_b")),
        ([], ("INBOX",), ("INBOX",)),
        ([], ("v1.0",), ("v1.0",)),
        (["v1_0"], ("v1.0",), ("v1_0",)),  # Dovecot's Maildir refused the dot
        (["v1_0", "v1.0"], ("v1.0",), ("v1.0",)),
        (["Müll_0"], ("Müll.0",), ("Müll_0",)),  # a server with UTF8=ACCEPT
    ],
)
def test_people_are_told_the_path_that_a_mailbox_has_there(names: list[str], path: Path, there: Path) -> None:
    endpoint = Endpoint("imap.example.net", 993, "tls", "me", password=lambda: Secret("x"))
    account = ImapAccount(ImapAccountOptions(endpoint, Files("spool")))
    account.names, account.delimiter = {name.encode() for name in names}, b"/"
    assert path_there(account, path) == there


def test_a_server_without_a_delimiter_has_names_of_one_level() -> None:
    assert name_for(("Sent",), b"") == b"Sent"
    with pytest.raises(ValueError, match="one level"):
        name_for(("Sent", "2019"), b"")


def test_paths_that_may_become_one_have_one_key() -> None:
    assert plain_key(("a.b", "c")) == plain_key(("a_b", "c")) == plain_key(("a/b", "c"))
    assert plain_key(("a", "b")) != plain_key(("a_b",))
    assert plain_key(("A",)) != plain_key(("a",))
