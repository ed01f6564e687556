"""Errors for a server's no, by its response code (RFC 3501 §7.1, RFC 5530), its words and the command it answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from syncd import clock
from syncd.auth.patience import says_later
from syncd.errors import (
    AuthRefused,
    ConnectionLost,
    MailboxRefused,
    Refused,
    SyncdError,
    Throttled,
    Unsupported,
    printable,
)
from syncd.imap.quirks import backoff_s, is_not_connected, says_quota, says_syntax, wants_tls
from syncd.imap.values import Kind, Status, Verb

PAUSE: Final = timedelta(minutes=15)  # for a throttle that does not say how long
QUOTA_PAUSE: Final = timedelta(hours=1)  # I08: for a quota, which may last for a day; asked again in between

_CREDENTIALS: Final = frozenset({Verb.LOGIN, Verb.AUTHENTICATE})
_OPENING: Final = frozenset({Verb.SELECT, Verb.EXAMINE, Verb.STATUS})

_LATER: Final = "try again later"
_OPERATOR: Final = "the server has a problem that its operator must solve"
_CHECK_CREDENTIALS: Final = "check the account's username and password"
_TLS: Final = 'set security = "tls" or "starttls"'
_MECHANISM: Final = "set auth to a mechanism that the server knows"
_NO_STARTTLS: Final = 'set security = "tls", which has a port of its own, usually 993'

_Kind = tuple[type[Refused], str]

# response code → error, and advice for the reader, whatever the command
_CODES: Final[dict[str, _Kind]] = {
    "UNAVAILABLE": (Refused, "a part of the server is down, try again later"),
    "SERVERBUG": (Refused, _LATER),
    "CORRUPTION": (Refused, _OPERATOR),
    "CONTACTADMIN": (Refused, _OPERATOR),
    "PRIVACYREQUIRED": (Unsupported, _TLS),
    "INUSE": (Refused, "something else works on the mailbox, try again in some minutes"),
}
# … in reply to LOGIN and AUTHENTICATE
_CREDENTIAL_CODES: Final[dict[str, _Kind]] = {
    "AUTHENTICATIONFAILED": (AuthRefused, _CHECK_CREDENTIALS),
    "AUTHORIZATIONFAILED": (AuthRefused, "check authzid: this user may not sign in for that one"),
    "EXPIRED": (AuthRefused, "the password has expired, set a new one at the provider"),
    "WEBALERT": (AuthRefused, "sign in to the provider's web page once, it asks for something there"),
    "LIMIT": (Refused, "close other programs on this account, or set fewer connections; try again later"),
    "INUSE": (Refused, "another session is signed in; try again in some minutes"),
}
_PAUSES: Final = {"THROTTLED": PAUSE, "LIMIT": PAUSE, "OVERQUOTA": QUOTA_PAUSE}  # … in reply to other commands


def refusal(address: str, what: str, verb: Verb, status: Status, hint: str = "") -> Refused:
    """Returns the error for a no to `verb`; `what` says what did not succeed.

    `hint` replaces the advice to check username and password, if the credentials are to blame. Throttled has the time
    until which the account is suspended; MailboxRefused is about the mailbox alone.
    """
    message = f"{address}: {what}: “{status}”"
    pause = _pause(verb, status)
    if pause is not None:
        until = clock.now() + pause
        return Throttled(
            f"{message}; it wants a pause",
            until=until,
            command=verb.value,
            code=status.code.name,
            text=_text(status),
        )
    kind, advice = _kind(verb, status)
    if kind is AuthRefused and hint and advice == _CHECK_CREDENTIALS:
        advice = hint
    return kind(f"{message}; {advice}", command=verb.value, code=status.code.name, text=_text(status))


def goodbye(address: str, status: Status) -> SyncdError:
    """Returns the error for a session that the server ended by BYE, outside of LOGOUT (RFC 3501 §7.1.5)."""
    message = f"{address}: the server ended the session: “{status}”"
    pause = _pause(Verb.NOOP, status)
    if pause is not None:
        text = _text(status)
        until = clock.now() + pause
        return Throttled(f"{message}; it wants a pause", until=until, code=status.code.name, text=text)
    if status.code.name in {"UNAVAILABLE", "SERVERBUG"} or says_later(status.text):
        return Refused(f"{message}; {_LATER}", code=status.code.name, text=_text(status))
    return ConnectionLost(f"{message}; {_LATER}")


def _pause(verb: Verb, status: Status) -> timedelta | None:
    """Returns how long the account is not to be contacted; None if this is not what the server says."""
    asked = backoff_s(status.text)
    if asked is not None:
        return timedelta(seconds=asked)
    if verb in _CREDENTIALS or verb is Verb.GREETING:
        return None  # a session less, or a moment later, may be enough
    if status.code.name in _PAUSES:
        return _PAUSES[status.code.name]
    return QUOTA_PAUSE if says_quota(status.text) and status.code.name in {"", "ALERT", "UNAVAILABLE"} else None


def _kind(verb: Verb, status: Status) -> _Kind:
    if verb in _CREDENTIALS:
        return _kind_of_sign_in(status)
    if verb is Verb.STARTTLS:
        return Unsupported, _NO_STARTTLS
    if verb in _OPENING and status.kind is Kind.NO and not says_syntax(status.text):
        return MailboxRefused, _CODES.get(status.code.name, (Refused, "the other mailboxes are not affected"))[1]
    return _CODES.get(status.code.name, (Refused, _LATER))


def _kind_of_sign_in(status: Status) -> _Kind:
    """I108: a bare NO is a refusal of the credentials. BAD is no attempt: the command or mechanism is not known."""
    code, text = status.code.name, status.text
    if is_not_connected(text):  # I11
        return Refused, "its store is away, disabled for this user, or slows us down; try again later"
    if code in _CREDENTIAL_CODES:
        later = says_later(text) or says_quota(text)
        return (Refused, _LATER) if code == "AUTHENTICATIONFAILED" and later else _CREDENTIAL_CODES[code]
    if code in _CODES:
        return _CODES[code]
    if wants_tls(text):
        return Unsupported, _TLS
    if says_later(text) or says_quota(text):
        return Refused, _LATER
    if status.kind is Kind.BAD or says_syntax(text) or code == "CANNOT":
        return Unsupported, _MECHANISM
    return AuthRefused, _CHECK_CREDENTIALS


def _text(status: Status) -> str:
    return printable(status.text)
