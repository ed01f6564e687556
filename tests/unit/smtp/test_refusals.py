"""A no, told apart by whom it blames."""

from __future__ import annotations

import pytest

from syncd.errors import AuthRefused, Refused, Unsupported
from syncd.smtp.refusals import refusal
from syncd.smtp.values import Reply, Verb


@pytest.mark.parametrize(
    ("verb", "reply", "kind", "advice"),
    [
        (Verb.GREETING, Reply(421, "4.7.0", (b"busy",)), Refused, "try again later"),
        (Verb.GREETING, Reply(554, "", (b"go away",)), Refused, "its operator may know why"),
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
            "set auth to a mechanism that the server offers",
        ),
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
