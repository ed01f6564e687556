"""Errors for a server's refusal, by its response code (RFC 2449 §8.1, RFC 3206) and the command that it answers."""

from __future__ import annotations

from syncd.auth.patience import says_later
from syncd.errors import AuthRefused, MailboxRefused, Refused, Unsupported, printable
from syncd.pop3.quirks import says_locked, says_unknown, wants_tls
from syncd.pop3.values import APOP, AUTH, PASS, STLS, USER, Status, Verb

_CREDENTIALS = frozenset({USER, PASS, APOP, AUTH})

# response code → error, and advice for the reader
_CODES: dict[str, tuple[type[Refused], str]] = {
    "AUTH": (AuthRefused, "check the account's username and password"),
    "IN-USE": (MailboxRefused, "another session has the mailbox open; try again in some minutes"),
    "LOGIN-DELAY": (Refused, "the server wants a pause between sign-ins; try again later"),
    "SYS/TEMP": (Refused, "the server has a passing problem; try again later"),
    "SYS/PERM": (Refused, "the server has a problem that its operator must solve"),
}
_OTHER: tuple[type[Refused], str] = (Refused, "try again later")
_UNKNOWN: tuple[type[Refused], str] = (Unsupported, "set auth to a mechanism that the server knows")
_IN_CLEAR: tuple[type[Refused], str] = (Unsupported, 'set security = "tls" or "starttls"')
_NO_STLS: tuple[type[Refused], str] = (Unsupported, 'set security = "tls", which has a port of its own, usually 995')


def refusal(address: str, what: str, verb: Verb, status: Status, hint: str = "") -> Refused:
    """Returns the error for a negative `status` in reply to `verb`; `what` says what did not succeed.

    `hint` replaces the advice to check username and password, if the credentials are to blame.
    """
    kind, advice = _no_attempt(verb, status) or _CODES.get(status.code) or _guess(verb, status)
    if kind is AuthRefused and verb not in _CREDENTIALS:  # RFC 3206 §5: AUTH is about credentials, and we sent none
        kind, advice = _OTHER
    if kind is AuthRefused and hint:
        advice = hint
    code = f" [{printable(status.code)}]" if status.code else ""
    text = printable(status.text)
    message = f"{address}: {what}:{code} “{text}”; {advice}"
    return kind(message, command=verb.name, code=status.code, text=text)


def _no_attempt(verb: Verb, status: Status) -> tuple[type[Refused], str] | None:
    """P54: returns error and advice if the server did not look at the credentials, whatever code it gives."""
    if status.code not in {"", "AUTH"} or (verb in _CREDENTIALS and says_later(status.text)):
        return None
    if verb in _CREDENTIALS and wants_tls(status.text):
        return _IN_CLEAR
    if says_unknown(status.text):
        return _UNKNOWN if verb in _CREDENTIALS else _NO_STLS if verb is STLS else None
    return None


def _guess(verb: Verb, status: Status) -> tuple[type[Refused], str]:
    """Returns error and advice by the command and the words, if the code is missing or unknown."""
    if says_locked(status.text):  # P25
        return _CODES["IN-USE"]
    if status.code.startswith("SYS/"):  # RFC 3206 §4: more may be defined below SYS/
        return _CODES["SYS/TEMP"]
    if verb in _CREDENTIALS and says_later(status.text):  # P27
        return _CODES["SYS/TEMP"]
    return _CODES["AUTH"] if verb in _CREDENTIALS else _OTHER
