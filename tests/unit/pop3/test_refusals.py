from __future__ import annotations

import pytest

from syncd.errors import AuthRefused, MailboxRefused, Refused, Retry
from syncd.pop3.grammar import status
from syncd.pop3.refusals import refusal
from syncd.pop3.values import APOP, AUTH, GREETING, PASS, STAT, STLS, USER, Verb


@pytest.mark.parametrize(
    ("line", "verb", "kind"),
    [
        (b"-ERR [AUTH] wrong", PASS, AuthRefused),
        (b"-ERR no such user", USER, AuthRefused),
        (b"-ERR [IN-USE] busy", PASS, MailboxRefused),  # P25
        (b"-ERR [LOGIN-DELAY] wait", PASS, Refused),  # P27
        (b"-ERR [SYS/TEMP] disk", PASS, Refused),
        (b"-ERR [SYS/PERM] disk", PASS, Refused),
        (b"-ERR [SYS/NEW] unheard of", PASS, Refused),
        (b"-ERR maildrop already locked", PASS, MailboxRefused),  # RFC 1939 §4
        (b"-ERR unable to lock maildrop", PASS, MailboxRefused),  # RFC 1939 §7
        (b"-ERR Mailbox in use by another client", PASS, MailboxRefused),
        (b"-ERR your account has been locked", PASS, AuthRefused),
        (b"-ERR Too many login attempts", AUTH, Refused),
        (b"-ERR Account temporarily blocked", PASS, Refused),
        (b"-ERR Server is busy", AUTH, Refused),
        (b"-ERR Service unavailable", APOP, Refused),
        (b"-ERR Request throttled", AUTH, Refused),
        (b"-ERR wrong password, please try again", PASS, AuthRefused),
        (b"-ERR password is incorrect, login frequency limited, or system is busy", PASS, AuthRefused),
        (b"-ERR [AUTH] too many of your passwords are wrong", AUTH, AuthRefused),
        (b"-ERR something", STAT, Refused),
        (b"-ERR [AUTH] said before anything was shown", GREETING, Refused),
        (b"-ERR [AUTH] said in clear", STLS, Refused),
        (b"-ERR [AUTH] too late", STAT, Refused),
        (b"-ERR [IN-USE] busy", GREETING, MailboxRefused),
        (b"-ERR [SYS/TEMP] disk", STAT, Refused),
    ],
)
def test_p25_p27_refusals_are_told_apart(line: bytes, verb: Verb, kind: type[Refused]):
    error = refusal("pop.example.net:995", "the server refuses to sign 'me' in", verb, status(line))
    assert type(error) is kind
    assert error.retry is (Retry.NEVER if kind is AuthRefused else Retry.LATER)
    assert error.command == verb.name


def test_it_says_what_where_and_what_to_do_in_one_printable_line():
    error = refusal(
        "pop.example.net:995", "the server refuses to sign 'me' in", PASS, status(b"-ERR [AUTH] no\x1b[1m\n")
    )
    assert str(error) == (
        "pop.example.net:995: the server refuses to sign 'me' in: [AUTH] “no\\x1b[1m\\n”; "
        "check the account's username and password"
    )
    assert (error.code, error.text) == ("AUTH", "no\\x1b[1m\\n")


@pytest.mark.parametrize(("line", "ends"), [(b"-ERR [AUTH] no", "look at the token"), (b"-ERR [IN-USE]", "minutes")])
def test_a_hint_replaces_the_advice_where_the_credentials_are_to_blame(line: bytes, ends: str):
    assert str(refusal("pop.example.net:995", "no", AUTH, status(line), "look at the token")).endswith(ends)
