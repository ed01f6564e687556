"""Octets to replies, capabilities and challenges."""

from __future__ import annotations

import pytest

from syncd.errors import RemoteProtocolError
from syncd.smtp import grammar
from syncd.smtp.values import Capabilities, Reply


def reply(*lines: bytes) -> Reply:
    return grammar.reply([grammar.reply_line(line) for line in lines])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"250 ok"], Reply(250, "", (b"ok",))),
        ([b"250"], Reply(250, "", (b"",))),
        ([b"250 2.1.0 ok"], Reply(250, "2.1.0", (b"ok",))),
        ([b"250 2.0.0"], Reply(250, "2.0.0", (b"",))),
        ([b"550-5.7.1 no", b"550 5.7.1 never"], Reply(550, "5.7.1", (b"no", b"never"))),
        ([b"250-fake", b"250-SIZE", b"250 DSN"], Reply(250, "", (b"fake", b"SIZE", b"DSN"))),
        ([b"451 4.7.1 \xe4\x00"], Reply(451, "4.7.1", (b"\xe4\x00",))),
        ([b"299 unheard of"], Reply(299, "", (b"unheard of",))),
        ([b"550 2.1.5 another class"], Reply(550, "", (b"2.1.5 another class",))),
        ([b"250\tok \t"], Reply(250, "", (b"ok",))),
        ([b"250-", b"250 "], Reply(250, "", (b"", b""))),
        ([b"550-  5.7.1 no", b"550\t5.7.1 never "], Reply(550, "5.7.1", (b"no", b"never"))),
        ([b"250 2.1 short"], Reply(250, "", (b"2.1 short",))),
        ([b"220 2.2.2.2 an address"], Reply(220, "", (b"2.2.2.2 an address",))),
    ],
)
def test_replies(lines: list[bytes], expected: Reply):
    assert reply(*lines) == expected


@pytest.mark.parametrize(
    "line", [b"", b"25", b"2500 x", b"25x ok", b"150 early", b"650 late", b"-ERR", b"250_ok", b" 250 ok", b"250ok"]
)
def test_what_is_no_reply(line: bytes):
    with pytest.raises(RemoteProtocolError, match="expected a reply code, got"):
        grammar.reply_line(line)


def test_s29_lines_with_different_codes():
    with pytest.raises(RemoteProtocolError, match="different codes: “250 yes / 550 no”"):
        reply(b"250-yes", b"550 no")


def test_s01_the_first_digit_decides():
    assert reply(b"299 x").ok
    assert reply(b"399 x").go_on
    assert reply(b"499 x").transient
    assert [reply(b"599 x").ok, reply(b"599 x").go_on, reply(b"599 x").transient] == [False] * 3


def test_a_reply_is_shown_in_one_printable_line():
    assert str(reply(b"550-5.7.1 go\x1b[2J", b"550 5.7.1 away")) == r"550 5.7.1 go\x1b[2J away"


def test_capabilities():
    found = grammar.capabilities(
        reply(b"250-fake", b"250-size 1000", b"250-", b"250-Auth Plain LOGIN", b"250 8BITMIME")
    )
    assert found.lines == ("size 1000", "Auth Plain LOGIN", "8BITMIME")
    assert found.size == 1000
    assert "8BITMIME" in found
    assert "CHUNKING" not in found
    assert found.mechanisms == ("PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("line", "size"),
    [("SIZE", 0), ("SIZE 0", 0), ("SIZE 35882577", 35882577), ("SIZE many", 0), ("SIZE " + "9" * 99, 0)],
)
def test_s11_size(line: str, size: int):
    assert Capabilities((line,)).size == size


def test_s20_an_equals_sign_after_auth():
    assert Capabilities(("AUTH=LOGIN PLAIN", "AUTH PLAIN XOAUTH2")).mechanisms == ("LOGIN", "PLAIN", "XOAUTH2")


def test_challenges():
    assert grammar.challenge(reply(b"334 eA==")) == b"x"
    assert grammar.challenge(reply(b"334")) == grammar.challenge(reply(b"334 ")) == b""
    with pytest.raises(RemoteProtocolError, match="no base64"):
        grammar.challenge(reply(b"334 !!!"))
