"""What `check` says of a destination before mail goes there."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.services.advice import advice
from syncd.settings.load import load

ANNOUNCED = ("PIPELINING", "8BITMIME", "CHUNKING")


def notes(directory: Path, options: str, *, announced: tuple[str, ...] = ANNOUNCED, lmtp: bool = False) -> list[str]:
    login = "" if lmtp else 'username = "me@example.org"\npassword = "env:P"\n'
    (directory / "syncd.toml").write_text(
        '[accounts.road]\nprotocol = "pop3"\nhost = "pop.example.net"\nusername = "me"\npassword = "env:P"\n'
        f'[accounts.new]\nprotocol = "{"lmtp" if lmtp else "smtp"}"\nhost = "smtp.example.org"\n{login}'
        f'[jobs.forward]\nsource = "road"\ndestinations = [{{ to = "new", {options} }}]\n'
    )
    loaded = load(directory / "syncd.toml", environment={})
    return [note.removeprefix("job forward: ") for note in advice(loaded, "new", announced)]


def test_a_good_choice_needs_no_words(tmp_path: Path):
    assert notes(tmp_path, 'recipient = "you@example.org"') == []
    assert notes(tmp_path, 'recipient = "you@example.com"', lmtp=True) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('recipient = "you@example.org", sender = "original"', 'sender = "original": SPF of the original senders'),
        ('recipient = "you@example.org", sender = "empty"', 'sender = "empty": some servers do not let'),
        (
            'recipient = "you@example.org", sender = "it@example.org"',
            'sender = "it@example.org": the server may refuse',
        ),
        ('recipient = "you@example.com"', "you@example.com is at another domain than me@example.org: "),
        ('recipient = "you@example.org", trace = false', "trace = false: mail that comes back is not recognised"),
        ('recipient = "me@example.net", sender = "account"', "me@example.net is at another domain"),
    ],
)
def test_s23_what_a_receiver_may_think(tmp_path: Path, options: str, expected: str):
    assert notes(tmp_path, options)[0].startswith(expected)


def test_s25_a_recipient_that_is_called_as_the_source(tmp_path: Path):
    assert (
        notes(tmp_path, 'recipient = "Me@example.net"')[-1]
        == notes(tmp_path, 'recipient = "Me@example.net"', lmtp=True)[-1]
    )
    assert notes(tmp_path, 'recipient = "Me@example.net"')[-1] == (
        'Me@example.net is also the mailbox that "road" reads. This is right if that mailbox moves to another server; '
        "otherwise each message comes back once and is then rejected as a mail loop"
    )


def test_s23_nobody_asks_behind_lmtp(tmp_path: Path):
    assert notes(tmp_path, 'recipient = "you@example.com", sender = "original"', lmtp=True) == []


def test_s12_s16_what_the_server_does_not_announce(tmp_path: Path):
    eight, long = notes(tmp_path, 'recipient = "you@example.org", long_lines = "refuse"', announced=("PIPELINING",))
    assert eight.startswith("the server does not announce 8BITMIME: ")
    assert long.startswith("the server does not announce CHUNKING: ")
    assert notes(tmp_path, 'recipient = "you@example.org", eight_bit = "send"', announced=()) == []
    assert notes(tmp_path, 'recipient = "you@example.org"', announced=(), lmtp=True) == []
