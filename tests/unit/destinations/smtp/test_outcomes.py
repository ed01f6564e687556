from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.destinations.smtp.outcomes import MAX_HINT, outcome_of, retry_at, throttled_by_refusal, throttled_by_reply
from syncd.errors import AuthRefused, Refused, Unsupported
from syncd.mail.outcome import Verdict
from syncd.smtp.limits import ACCOUNT, CONNECTION
from syncd.smtp.values import NO_REPLY
from tests.contract.destination_kit import message
from tests.fakes.smtp_client import said

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MESSAGE = message(7, b"Subject: x\r\n\r\n")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("250 2.0.0 Ok: queued as 4F2A", Verdict.DELIVERED),
        ("299 whatever", Verdict.DELIVERED),
        ("450 4.2.0 greylisted", Verdict.DEFERRED),
        ("499 whatever", Verdict.DEFERRED),
        ("550 5.7.1 no", Verdict.REJECTED),
        ("599 whatever", Verdict.REJECTED),
    ],
)
def test_s01_the_first_digit_decides(text: str, verdict: Verdict):
    assert outcome_of(MESSAGE, said(text), NOW).verdict is verdict


def test_the_reply_is_the_receipt():
    outcome = outcome_of(MESSAGE, said("250 2.0.0 Ok: queued as 4F2A"), NOW, note="line ends made CRLF")
    assert outcome.receipt == (MESSAGE.body.sha256, "250 2.0.0 Ok: queued as 4F2A [line ends made CRLF]")


def test_a_receipt_is_short_and_printable():
    outcome = outcome_of(MESSAGE, said("250 \x1b[31m" + "x" * 5000), NOW)
    assert outcome.receipt is not None
    assert len(outcome.receipt.hint) <= MAX_HINT + 1
    assert outcome.receipt.hint.isprintable()


def test_a_reply_that_never_came_is_uncertain():
    assert outcome_of(MESSAGE, NO_REPLY, NOW).verdict is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("450 4.2.0 Greylisted, see http://postgrey.example/help/x.html", 360),
        ("451 4.7.1 Greylisting in action, please come back in 00:10:00", 600),
        ("451 Graylisted, try again in 300 seconds", 360),
        ("451 4.7.1 Please try again in 20 minutes", 1200),
        ("450 4.7.1 retry after 2 hours", 7200),
        ("451 4.3.0 wait 15m", 900),
        ("451 try again in 40000 minutes", 86_400),
        ("451 4.3.0 Temporary lookup failure", None),
        ("452 4.2.2 mailbox has 300 messages", None),
        ("451 4.7.1 come back after 00:30:00", 1800),
        ("451 4.3.0 try later [2a01:4f8:10:20:30::2]", None),
        ("451 4.3.0 blocked for 10:20:30::2", None),
        ("451 4.3.0 try later; Tue, 24 Nov 2026 23:10:00 +0000", None),
        ("451 4.3.0 not before 23:10:00", None),
        ("451 4.3.0 try again after 23:10:00 +0000", None),
        ("451 4.3.0 try again after 23:10:00 UTC", None),
    ],
)
def test_s03_when_the_server_wants_to_be_asked_again(text: str, seconds: int | None):
    expected = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert retry_at(text, NOW) == expected
    assert outcome_of(MESSAGE, said(text), NOW).retry_at == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("421 4.3.2 Service shutting down", None),
        ("421 4.7.0 too many messages in this session", None),
        ("421 4.7.28 unusual rate of mail, try again in 5 minutes", 300),
        ("450 4.7.28 Our system has detected an unusual rate of unsolicited mail", 3600),
        ("550 5.4.5 Daily user sending limit exceeded.", 3600),
        ("550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", 3600),
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", None),
        ("432 4.3.2 Concurrent connections limit exceeded", 900),
        ("554 5.4.6 Unusual sending activity detected", 3600),
        ("451 4.7.1 rate limit exceeded, slow down", 900),
        ("452 4.2.2 Mailbox over quota", None),
        ("552 5.3.4 Message size exceeds fixed limit", None),
        ("250 2.0.0 queued, daily limit is near", None),
        ("550 5.1.1 no such user", None),
    ],
)
def test_s22_a_server_that_has_enough(text: str, seconds: int | None):
    expected = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert throttled_by_reply(said(text), NOW) == expected


@pytest.mark.parametrize("said_too_much", [it.reply for row in (*ACCOUNT, *CONNECTION) for it in row.known])
def test_s22_whoever_says_that_we_send_too_much_rejects_no_message(said_too_much: str):
    reply = said(said_too_much)
    until = throttled_by_reply(reply, NOW, fresh=True)
    assert until is not None
    assert until - NOW >= timedelta(minutes=15)
    assert outcome_of(MESSAGE, reply, NOW, until=until).verdict is Verdict.DEFERRED


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("550 5.7.60 not as this sender", "550 5.7.60"),
        ("550 5.7.1 relaying denied", "550 5.7.1"),
        ("550 5.1.8 bad outbound sender", "550 5.1.8"),
        ("553 5.1.7 bad sender address", "553 5.1.7"),
        ("550 5.4.1 Recipient address rejected: Access denied", "550 5.4.1"),
        ("552 5.2.2 mailbox full", "552 5.2.2"),
        ("554 Transaction failed", "554"),
        ("550 Your account has been blocked for sending spam", "550"),
        ("451 4.3.0 try again", "451 4.3.0"),
        ("450 4.7.1 not now", "450 4.7.1"),
        ("550 5.1.1 no such user", ""),
        ("450 4.1.1 unverified address", ""),
        ("556 5.1.10 null MX", ""),
        ("550 5.2.1 mailbox disabled", ""),
        ("550 No such user here", ""),
        ("550 Requested action not taken: mailbox unavailable", ""),
        ("550 User unknown", ""),
        ("550 the address that you tried to reach does not exist", ""),
        ("552 5.3.4 too large", ""),
        ("552 Message size exceeds fixed limit", ""),
        ("554 5.6.0 bad content", ""),
        ("554 5.7.1 this message looks like spam", ""),
        ("554 virus found", ""),
        ("550 5.7.26 unauthenticated mail", ""),
        ("554 5.4.6 too many hops", ""),
        ("450 4.2.0 greylisted", ""),
        ("451 4.7.1 try again in 20 minutes", ""),
    ],
)
def test_s06_replies_about_a_recipient_or_one_message_have_no_code(text: str, code: str):
    assert outcome_of(MESSAGE, said(text), NOW).code == code


TOO_MANY_LOGINS = "4.7.0 Too many login attempts, please try again in 10 minutes"


@pytest.mark.parametrize(
    ("refused", "seconds"),
    [
        (Refused("no", command="AUTH", code="454", text=TOO_MANY_LOGINS), 600),
        (Refused("no", command="AUTH", code="535", text="5.7.0 too many failed logins, try again later"), 900),
        (Refused("no", command="AUTH", code="432", text="4.3.2 Concurrent connections limit exceeded"), 900),
        (Refused("no", command="greeting", code="554", text="too many connections from your address"), 900),
        (Refused("no", command="greeting", code="421", text="not now"), 900),
        (Refused("no", command="AUTH", code="454", text="temporary authentication failure"), None),
        (
            AuthRefused("no", command="AUTH", code="535", text="bad password, after too many the account is locked"),
            None,
        ),
        (Unsupported("no", command="AUTH", code="504", text="unknown mechanism"), None),
    ],
)
def test_s21_too_many_sign_ins_are_no_wrong_password_and_no_passing_fault(refused: Refused, seconds: int | None):
    assert throttled_by_refusal(refused, NOW) == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("421 4.3.2 Service shutting down", 900),
        ("421 4.7.28 try again in 5 minutes", 300),
        ("451 4.3.0 try again", None),
        ("250 2.0.0 queued", None),
    ],
)
def test_s04_421_on_a_connection_that_was_good_for_nothing_is_about_us(text: str, seconds: int | None):
    expected = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert throttled_by_reply(said(text), NOW, fresh=True) == expected


def test_s22_the_message_on_which_it_said_so_is_deferred_until_then():
    reply = said("550 5.4.5 Daily user sending limit exceeded.")
    outcome = outcome_of(MESSAGE, reply, NOW, until=throttled_by_reply(reply, NOW))
    assert (outcome.verdict, outcome.retry_at) == (Verdict.DEFERRED, NOW + timedelta(hours=1))
