"""A server's no becomes an error: what is to blame, and whether waiting helps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from syncd import clock
from syncd.errors import (
    AuthRefused,
    ConnectionLost,
    MailboxRefused,
    Refused,
    Retry,
    Scope,
    SyncdError,
    Throttled,
    Unsupported,
)
from syncd.imap.grammar import status
from syncd.imap.refusals import PAUSE, QUOTA_PAUSE, goodbye, refusal
from syncd.imap.values import Status, Verb

AT = "imap.example.net:993"


def said(text: str) -> Status:
    found = status(text.encode())
    assert found is not None
    return found


def refused(verb: Verb, text: str, hint: str = "") -> Refused:
    return refusal(AT, "it does not work", verb, said(text), hint)


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        ("NO", AuthRefused, "check the account's username and password"),  # I108
        ("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", AuthRefused, "check the account's username"),
        ("NO [AUTHORIZATIONFAILED] may not", AuthRefused, "check authzid"),
        ("NO [EXPIRED] password too old", AuthRefused, "the password has expired"),
        ("NO [WEBALERT https://x] Web login required.", AuthRefused, "sign in to the provider's web page once"),
        ("NO [UNAVAILABLE] backend is down", Refused, "a part of the server is down"),
        ("NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded", Refused, "try again later"),  # I17
        ("NO [LIMIT] Maximum number of connections exceeded", Refused, "close other programs on this account"),  # I107
        ("NO [ALERT] Too many simultaneous connections. (Failure)", Refused, "try again later"),  # I08
        ("NO [AUTHENTICATIONFAILED] Temporary authentication failure", Refused, "try again later"),
        ("NO [INUSE] locked", Refused, "another session is signed in"),
        ("NO [CONTACTADMIN] call", Refused, "its operator must solve"),
        ("NO [PRIVACYREQUIRED] use TLS", Unsupported, 'set security = "tls"'),
        (
            "NO Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
            Unsupported,
            'security = "tls"',
        ),
        ("BAD User is authenticated but not connected.", Refused, "its store is away"),  # I11
        ("NO User is authenticated but not connected.", Refused, "its store is away"),
        ("BAD Command Error. 10", Unsupported, "set auth to a mechanism that the server knows"),
        ("NO Error in IMAP command received by server.", Unsupported, "set auth to a mechanism"),  # I145
        ("NO Unsupported authentication mechanism", Unsupported, "set auth to a mechanism"),
        ("NO Server Unavailable. 15", Refused, "try again later"),  # I14
    ],
)
@pytest.mark.parametrize("verb", [Verb.LOGIN, Verb.AUTHENTICATE])
def test_a_refused_sign_in(verb: Verb, text: str, kind: type[Refused], advice: str):
    error = refused(verb, text)
    assert type(error) is kind
    assert advice in str(error)
    assert str(error).startswith(f"{AT}: it does not work: “{text.split(maxsplit=1)[0]}")


def test_the_advice_of_a_mechanism_replaces_that_about_the_password():
    assert str(refused(Verb.AUTHENTICATE, "NO", hint="check the token")).endswith("“NO”; check the token")
    assert "operator" in str(refused(Verb.AUTHENTICATE, "NO [CONTACTADMIN] x", hint="check the token"))


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("BAD Request is throttled. Suggested Backoff Time: 299463 milliseconds", timedelta(seconds=299.463)),  # I10
        ("NO [LIMIT] UID FETCH Rate limit hit", PAUSE),  # I15
        ("NO [THROTTLED] slow down", PAUSE),
        ("NO [OVERQUOTA] Account exceeded command or bandwidth limits.", QUOTA_PAUSE),  # I08
        ("NO [ALERT] Account exceeded command or bandwidth limits. (Failure)", QUOTA_PAUSE),
    ],
)
def test_i08_i10_i15_a_throttle_says_until_when(text: str, pause: timedelta):
    error = refused(Verb.UID_FETCH, text)
    assert isinstance(error, Throttled)
    assert abs(error.until - clock.now() - pause) < timedelta(seconds=60)
    assert isinstance(refused(Verb.EXAMINE, text), Throttled)


def test_i10_a_throttled_sign_in_says_until_when():
    assert isinstance(refused(Verb.LOGIN, "BAD Request is throttled. Suggested Backoff Time: 7 seconds"), Throttled)


@pytest.mark.parametrize(
    "text",
    ["NO [NONEXISTENT] gone", "NO [NOPERM] not yours", "NO [INUSE] locked", "NO [SERVERBUG] x", "NO Mailbox is broken"],
)
def test_a_mailbox_that_cannot_be_opened_is_alone_to_blame(text: str):
    error = refused(Verb.EXAMINE, text)
    assert type(error) is MailboxRefused
    assert error.scope is Scope.MAILBOX


def test_a_command_that_is_not_understood_is_no_fault_of_the_mailbox():
    assert type(refused(Verb.EXAMINE, "BAD Command Argument Error. 11")) is Refused
    assert type(refused(Verb.EXAMINE, "NO Error in IMAP command received by server.")) is Refused  # I145


def test_i74_a_refused_fetch_may_help_later():
    error = refused(Verb.UID_FETCH, "NO Some of the requested messages no longer exist.")
    assert type(error) is Refused
    assert error.retry is Retry.LATER
    assert (error.command, error.code) == ("UID FETCH", "")


def test_a_refused_starttls_says_what_to_set():
    assert type(refused(Verb.STARTTLS, "NO not here")) is Unsupported
    assert "usually 993" in str(refused(Verb.STARTTLS, "BAD unknown"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("BYE Session expired, please login again.", ConnectionLost),  # I08
        ("BYE Session invalidated - AccessTokenExpired", ConnectionLost),  # I18
        ("BYE [UNAVAILABLE] shutting down", Refused),
        ("BYE Too many connections, try again later", Throttled),
        ("BYE [THROTTLED] x", Throttled),
        ("BYE Request is throttled. Suggested Backoff Time: 1000 milliseconds", Throttled),  # I10
        ("BYE temporary system problem", Refused),
    ],
)
def test_a_goodbye(text: str, kind: type[SyncdError]):
    error = goodbye(AT, said(text))
    assert type(error) is kind
    assert error.retry is Retry.LATER
    assert str(error).startswith(f"{AT}: the server ended the session: “BYE")
