"""Destinations that are mail servers: each mistake is one line with file, key, reason and an accepted value."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.settings.delivery import JobDestination
from syncd.settings.relayed import sender_choice
from syncd.settings.schema import Account
from syncd.settings.values import parse_rate
from tests.unit.settings.test_checks import GOOD, mistakes

ACCOUNTS = (
    GOOD.replace('username = "me"', 'username = "me@example.net"', 1)
    + """
[accounts.lmtp]
protocol = "lmtp"
host = "127.0.0.1"
security = "none"
allow_insecure = true

[accounts.relay]
protocol = "smtp"
host = "smtp.example.org"
username = "login"
password = "env:P"
"""
)


def found(directory: Path, *destinations: str, source: str = "road", more: str = "") -> list[str]:
    job = f'[jobs.a]\nsource = "{source}"\ndestinations = [{", ".join(destinations)}]\n'
    return [line.removeprefix("jobs.a.") for line in mistakes(directory, job + more, ACCOUNTS)]


@pytest.mark.parametrize(
    "options",
    [
        'recipient = "you@example.org"',
        'recipient = ["you@example.org", "her@example.org"]',
        'recipient = "you@example.org", sender = "original"',
        'recipient = "you@example.org", sender = "empty", uncertain = "hold", trace = false, resent = true',
        'recipient = "you@example.org", sender = "her@example.org", long_lines = "refuse", eight_bit = "send"',
        'recipient = "you@example.org", rate = "20/minute", per_day = 2000',
        'recipient = "\\"john doe\\"@example.org"',
        'recipient = "döner@exämple.org"',
    ],
)
@pytest.mark.parametrize("to", ["relay", "lmtp"])
def test_what_is_right(tmp_path: Path, to: str, options: str):
    assert found(tmp_path, '"home"', f'{{ to = "{to}", {options} }}') == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", 'destinations[0].recipient: is missing; for example "me@example.org"'),
        ("recipient = 5", "destinations[0].recipient: 5 is neither an address nor a list of addresses; for example "),
        ("recipient = []", "destinations[0].recipient: is neither an address nor a list of addresses; for example "),
        (
            'recipient = "you"',
            """destinations[0].recipient: "you" has 'you', which is not a mail address; for""",
        ),
        ('recipient = "<a@b>"', "destinations[0].recipient: \"<a@b>\" has '<a@b>', which is not a mail address"),
        ('recipient = ["a@b", "A@B"]', "destinations[0].recipient: has an address twice; for example "),
        (
            'recipient = "a@b", sender = "me"',
            'destinations[0].sender: "me" is not a mail address; for example',
        ),
        ('recipient = "a@b", sender = "account"', 'destinations[0].sender: "account" needs an address as the username'),
        (
            'recipient = "a@b", uncertain = "ask"',
            'destinations[0].uncertain: "ask" is not known; for example "resend"',
        ),
        ('recipient = "a@b", uncertain = "probe"', "destinations[0].probe: is missing; accepted: the imap account of"),
        ('recipient = "a@b", probe = "old"', 'destinations[0].probe: is for uncertain = "probe" alone; set that too'),
        (
            'recipient = "a@b", uncertain = "probe", probe = "relay"',
            'destinations[0].probe: "relay" is not an imap account; accepted: old',
        ),
        (
            'recipient = "a@b", uncertain = "probe", probe = "old", trace = false',
            "destinations[0].trace: false leaves out X-Syncd-Id, by which",
        ),
        (
            'recipient = ["a@b", "c@d"], uncertain = "probe", probe = "old"',
            "destinations[0].recipient: has several addresses, and",
        ),
        (
            'recipient = "a@b", trace = "no way"',
            'destinations[0].trace: "no way" is neither true nor false; for example',
        ),
        (
            'recipient = "a@b", long_lines = "fold"',
            'destinations[0].long_lines: "fold" is not known; for example "send"',
        ),
        (
            'recipient = "a@b", eight_bit = 8',
            'destinations[0].eight_bit: 8 is not known; for example "send" or "refuse"',
        ),
        ('recipient = "a@b", rate = "many"', 'destinations[0].rate: "many" is not a rate; for example "20/minute"'),
        (
            'recipient = "a@b", rate = "20/week"',
            'destinations[0].rate: "20/week" is not a rate; for example "20/minute"',
        ),
        ('recipient = "a@b", per_day = 0', "destinations[0].per_day: 0 is too small; for example 2000"),
        ('recipient = "a@b", recipent = "x"', "destinations[0].recipent: is not a setting; did you mean recipient?"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, options: str, expected: str):
    lines = found(tmp_path, f'{{ to = "relay"{", " * bool(options)}{options} }}')
    assert len(lines) == 1, lines
    assert lines[0].startswith(expected), lines


def test_an_archive_has_none_of_it(tmp_path: Path):
    lines = found(tmp_path, '{ to = "home", recipient = "a@b", rate = "1/day" }')
    assert lines == ['destinations[0]: "home" is an archive and takes no recipient, rate; accepted: "home" alone']


def test_where_mailboxes_go_is_for_a_destination_that_has_some(tmp_path: Path):
    mapped = 'prefix = "Old", map = { "Gesendet" = "Sent/2020" }'
    assert found(tmp_path, f'{{ to = "home", {mapped} }}') == [
        'destinations[0]: "home" is an archive and takes no prefix, map; accepted: "home" alone'
    ]
    assert [line.split(":")[0] for line in found(tmp_path, f'{{ to = "relay", recipient = "a@b", {mapped} }}')] == [
        "destinations[0].prefix",
        "destinations[0].map",
    ]


@pytest.mark.parametrize("path", ["", "a//b", "/a", "a\\u0007"])
def test_what_is_no_path_of_a_mailbox(tmp_path: Path, path: str):
    (line,) = found(tmp_path, f'{{ to = "home", prefix = "{path}" }}')
    assert line.startswith("destinations[0].prefix:")
    assert "is not the path of a mailbox: names with / between them" in line
    (line,) = found(tmp_path, f'{{ to = "home", map = {{ "a" = "{path}" }} }}')
    assert line.startswith("destinations[0].map:")


def test_a_recipient_named_at_two_places(tmp_path: Path):
    one, two = '{ to = "relay", recipient = "a@b" }', '{ to = "relay", recipient = ["x@y", "A@b"], uncertain = "hold" }'
    assert found(tmp_path, one, two) == [
        'destinations[1].recipient: "a@b" is a recipient of another destination of this job already; remove one of them'
    ]
    assert found(tmp_path, one, one) == ['destinations[1]: "relay" is named twice; remove one of them']


def come_back(directory: Path, source: str, user: str, protocol: str, host: str) -> list[str]:
    accounts = ACCOUNTS.replace('host = "pop.example.net"', f'host = "{source}"').replace(
        'username = "me@example.net"', f'username = "{user}"'
    )
    relay = f'[accounts.there]\nprotocol = "{protocol}"\nhost = "{host}"\n'
    job = '[jobs.a]\nsource = "road"\ndestinations = [{ to = "there", recipient = "Me@example.net" }]\n'
    return mistakes(directory, relay + job, accounts)


@pytest.mark.parametrize("user", ["me@example.net", "me"])
@pytest.mark.parametrize(
    ("source", "protocol", "host"),
    [
        ("pop.example.net", "smtp", "smtp.example.net"),
        ("pop3s.example.net", "smtp", "Mail.Example.net"),
        ("mail.example.net", "smtp", "mail.example.net"),
        ("mail.example.net", "lmtp", "mail.example.net."),
    ],
)
def test_s25_mail_that_would_come_back_to_the_server_it_is_read_from(
    tmp_path: Path, source: str, user: str, protocol: str, host: str
):
    (line,) = come_back(tmp_path, source, user, protocol, host)
    assert line.startswith(
        'jobs.a.destinations[0].recipient: "Me@example.net" seems to be the mailbox that "road" reads, on '
    )


@pytest.mark.parametrize(
    ("source", "user", "protocol", "host"),
    [
        ("pop.example.net", "me@example.net", "smtp", "smtp.new.example"),
        ("pop.example.net", "me@example.net", "lmtp", "lmtp.example.net"),
        ("old.example.net", "me@example.net", "smtp", "new.example.net"),
        ("127.0.0.1", "me@example.net", "smtp", "127.0.0.1"),
        ("localhost", "me@example.net", "lmtp", "localhost"),
        ("pop.notexample.net", "me", "smtp", "smtp.notexample.net"),
    ],
    ids=str,
)
def test_s25_a_mailbox_that_moves_to_another_server_keeps_its_address(
    tmp_path: Path, source: str, user: str, protocol: str, host: str
):
    """It was a mistake wherever the recipient is called as the account that is read."""
    assert come_back(tmp_path, source, user, protocol, host) == []


def test_s25_mail_that_would_come_back_by_way_of_an_archive(tmp_path: Path):
    fetch = '[jobs.fetch]\nsource = "road"\ndestinations = ["home"]\n'
    fetch += '[accounts.there]\nprotocol = "smtp"\nhost = "smtp.example.net"'
    to = '{ to = "there", recipient = "me@example.net" }'
    (line,) = found(tmp_path, to, source="home", more=fetch)
    assert line.startswith('destinations[0].recipient: "me@example.net" seems to be the mailbox that "road" reads, ')
    assert found(tmp_path, to, source="second", more=fetch) == []


def test_a_way_to_sign_in_that_is_pop3s_alone(tmp_path: Path):
    start = ACCOUNTS.replace('username = "login"', 'username = "login"\nauth = "apop"')
    job = '[jobs.a]\nsource = "road"\ndestinations = [{ to = "relay", recipient = "a@b" }]'
    (line,) = mistakes(tmp_path, job, start)
    assert line.startswith('accounts.relay.auth: "apop" is only for pop3; accepted: "auto", ')


@pytest.mark.parametrize(
    ("username", "written", "expected"),
    [
        ("me@example.org", None, "account"),
        ("login", None, "empty"),
        (None, None, "empty"),
        ("me@example.org", "empty", "empty"),
        ("login", "a@example.org", "a@example.org"),
    ],
)
def test_the_sender_in_force(username: str | None, written: str | None, expected: str):
    account = Account.model_validate({"protocol": "smtp", "host": "smtp.example.org", "username": username})
    to = JobDestination.model_validate({"to": "relay", "recipient": "a@b", "sender": written})
    assert sender_choice(to, account) == expected


@pytest.mark.parametrize(
    ("text", "messages", "seconds"),
    [("20/minute", 20, 60), (" 5 / SECOND ", 5, 1), ("500/hour", 500, 3600), ("2000/day", 2000, 86_400)],
)
def test_rates(text: str, messages: int, seconds: int):
    rate = parse_rate(text)
    assert (rate.messages, rate.seconds) == (messages, seconds)
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize("value", ["", "20", "0/minute", "-1/minute", "1.5/minute", "20/minutes ago", 20, None, "1/"])
def test_no_rates(value: object):
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(value)
