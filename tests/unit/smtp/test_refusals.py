"""A no, told apart by whom it blames."""

from __future__ import annotations

import pytest

from syncd.errors import AuthRefused, Refused, Unsupported
from syncd.smtp.refusals import nothing_left, refusal
from syncd.smtp.values import Reply, Verb

NAME = 'set ehlo_name to a full host name, such as "laptop.example.org", that the server accepts'
LMTP = 'this is no SMTP server; for one that speaks LMTP, set protocol = "lmtp"'
SMTP = 'this is no LMTP server; for one that speaks SMTP, set protocol = "smtp"'
TLS = 'set security = "tls", which has a port of its own, usually 465'
MECHANISM = 'set auth = "auto", or to a mechanism that the server knows'


@pytest.mark.parametrize(
    ("verb", "reply", "kind", "advice"),
    [
        (Verb.GREETING, Reply(421, "4.7.0", (b"busy",)), Refused, "try again later"),
        (Verb.GREETING, Reply(554, "", (b"go away",)), Unsupported, "ask the operator of the server"),
        (Verb.GREETING, Reply(554, "", (b"too many connections",)), Refused, "try again later"),
        (Verb.EHLO, Reply(421, "", (b"busy",)), Refused, "try again later"),
        (Verb.HELO, Reply(501, "", (b"invalid name",)), Unsupported, NAME),
        (Verb.HELO, Reply(550, "", (b"helo rejected",)), Unsupported, NAME),
        (Verb.HELO, Reply(502, "", (b"unknown command",)), Unsupported, LMTP),
        (Verb.LHLO, Reply(500, "", (b"unknown command",)), Unsupported, SMTP),
        (Verb.STARTTLS, Reply(454, "", (b"not now",)), Refused, "try again later"),
        (Verb.STARTTLS, Reply(502, "", (b"unknown",)), Unsupported, TLS),
        (Verb.AUTH, Reply(535, "5.7.8", (b"wrong",)), AuthRefused, "check the account's username and password"),
        (
            Verb.AUTH,
            Reply(534, "5.7.9", (b"use an app password",)),
            AuthRefused,
            "check the account's username and password",
        ),
        (Verb.AUTH, Reply(454, "4.7.0", (b"too many",)), Refused, "try again later"),
        (Verb.AUTH, Reply(535, "5.7.0", (b"too many bad auth attempts",)), Refused, "try again later"),
        (Verb.AUTH, Reply(538, "5.7.11", (b"encryption needed",)), Unsupported, 'set security = "tls" or "starttls"'),
        (Verb.AUTH, Reply(530, "5.7.0", (b"STARTTLS first",)), Unsupported, 'set security = "tls" or "starttls"'),
        (
            Verb.AUTH,
            Reply(504, "5.5.4", (b"unknown mechanism",)),
            Unsupported,
            MECHANISM,
        ),
        *((Verb.AUTH, Reply(code, "", (b"no such command",)), Unsupported, MECHANISM) for code in (500, 502, 503, 504)),
        (Verb.AUTH, Reply(501, "5.5.4", (b"syntax",)), Unsupported, MECHANISM),
        (Verb.AUTH, Reply(550, "5.5.1", (b"command not recognized",)), Unsupported, MECHANISM),
        (Verb.AUTH, Reply(550, "", (b"wait to send more: rate limit",)), Refused, "try again later"),
    ],
)
def test_s20_s21_kinds(verb: Verb, reply: Reply, kind: type[Refused], advice: str):
    error = refusal("mx:25", "it says no", verb, reply)
    assert type(error) is kind
    assert str(error).startswith(f"mx:25: it says no: “{reply}”")
    assert str(error).endswith(f"; {advice}")
    assert (error.command, error.code, error.text) == (verb.value, str(reply.code), reply.text[0].decode())


def test_a_hint_replaces_the_advice_where_credentials_are_to_blame():
    assert str(refusal("mx:25", "no", Verb.AUTH, Reply(535), "look there")).endswith("; look there")
    assert str(refusal("mx:25", "no", Verb.AUTH, Reply(454), "look there")).endswith("; try again later")


def test_s33_of_several_unknown_mechanisms_each_is_named():
    unknown = [Unsupported("no", command=f"AUTH {name}", code="502", text="what?") for name in ("PLAIN", "LOGIN")]
    error = nothing_left("mx:25", unknown)
    assert str(error).startswith(
        "mx:25: the server knows none of the mechanisms that it announces "
        "(AUTH PLAIN: “502 what?”; AUTH LOGIN: “502 what?”), so nobody was signed in; set auth to another one"
    )
    assert (error.command, error.code, error.text) == ("AUTH LOGIN", "502", "what?")
