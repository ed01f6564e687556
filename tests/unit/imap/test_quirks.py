from __future__ import annotations

import logging

import pytest

from syncd.imap.quirks import NOTES, Quirks, backoff_s, is_throttled, says_quota, says_syntax, wants_tls


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"Request is throttled. Suggested Backoff Time: 299463 milliseconds", 299.463),
        (b"Backoff time 5 seconds", 5.0),
        (b"Backoff Time: soon", None),
        (b"Backoff Time: 9999999999999 milliseconds", None),
    ],
)
def test_i10_the_time_that_the_server_wants(text: bytes, seconds: float | None):
    assert backoff_s(text) == seconds


def test_i09_throttled_at_the_end_of_an_ok():
    assert is_throttled(b"Success [THROTTLED]")
    assert not is_throttled(b"[THROTTLED] is a word in Subject: x")


@pytest.mark.parametrize(
    "text",
    [
        b"Account exceeded command or bandwidth limits.",
        b"Too many simultaneous connections. (Failure)",
        b"Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        b"UID FETCH Rate limit hit",
        b"Request is throttled",
    ],
)
def test_i08_i15_i17_words_about_the_account(text: bytes):
    assert says_quota(text)


@pytest.mark.parametrize(
    "text",
    [b"Message size exceeds fixed limit", b"Some of the requested messages could not be fetched", b"Mailbox is locked",
     b"Invalid credentials"],
)  # fmt: skip
def test_words_that_are_not_about_the_account(text: bytes):
    assert not says_quota(text)


@pytest.mark.parametrize(
    "text",
    [b"Error in IMAP command received by server.", b"Unsupported authentication mechanism", b"Invalid arguments",
     b"Syntax error", b"Unknown command", b"AUTHENTICATE command not supported", b"mechanism is not available"],
)  # fmt: skip
def test_i145_a_no_that_is_about_the_command(text: bytes):
    assert says_syntax(text)


@pytest.mark.parametrize("text", [b"Invalid credentials", b"Unknown user", b"Mailbox does not exist", b"Login failed"])
def test_a_no_that_is_about_what_was_asked(text: bytes):
    assert not says_syntax(text)


def test_a_server_that_wants_tls():
    assert wants_tls(b"Plaintext authentication disallowed on non-secure (SSL/TLS) connections.")
    assert not wants_tls(b"Invalid credentials")


def test_a_tolerance_is_logged_once(caplog: pytest.LogCaptureFixture):
    quirks = Quirks()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            for quirk in NOTES:
                quirks.note(quirk, "host:143")
    assert [record.quirk for record in caplog.records] == list(NOTES)  # type: ignore[attr-defined]
