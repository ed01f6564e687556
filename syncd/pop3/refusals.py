"""A server's no, told apart by its response code (RFC 2449 §8.1, RFC 3206) and the command it answers."""

from __future__ import annotations

from syncd.errors import AuthRefused, MailboxRefused, Refused, printable
from syncd.pop3.quirks import says_later, says_locked
from syncd.pop3.values import APOP, AUTH, PASS, USER, Status, Verb

_CREDENTIALS = frozenset({USER, PASS, APOP, AUTH})

# response code → error, and what it means for whoever reads it
_CODES: dict[str, tuple[type[Refused], str]] = {
    "AUTH": (AuthRefused, "check the account's username and password"),
    "IN-USE": (MailboxRefused, "another session has the mailbox open; try again in some minutes"),
    "LOGIN-DELAY": (Refused, "the server wants a pause between sign-ins; try again later"),
    "SYS/TEMP": (Refused, "the server has a passing problem; try again later"),
    "SYS/PERM": (Refused, "the server has a problem that its operator must solve"),
}
_OTHER: tuple[type[Refused], str] = (Refused, "try again later")


def refusal(address: str, what: str, verb: Verb, status: Status, hint: str = "") -> Refused:
    """The error for a negative `status` in reply to `verb`; `what` says what did not succeed.

    `hint`: where the credentials are to blame, what to look at instead of username and password.
    """
    kind, advice = _CODES.get(status.code) or _guess(verb, status)
    if kind is AuthRefused and verb not in _CREDENTIALS:  # RFC 3206 §5: it is about credentials, and none were shown
        kind, advice = _OTHER
    if kind is AuthRefused and hint:
        advice = hint
    code = f" [{printable(status.code)}]" if status.code else ""
    text = printable(status.text)
    message = f"{address}: {what}:{code} “{text}”; {advice}"
    return kind(message, command=verb.name, code=status.code, text=text)


def _guess(verb: Verb, status: Status) -> tuple[type[Refused], str]:
    """Without a code that we know, the command and the words decide."""
    if says_locked(status.text):  # P25
        return _CODES["IN-USE"]
    if status.code.startswith("SYS/"):  # RFC 3206 §4: more may be defined below SYS/
        return _CODES["SYS/TEMP"]
    if verb in _CREDENTIALS and says_later(status.text):  # P27
        return _CODES["SYS/TEMP"]
    return _CODES["AUTH"] if verb in _CREDENTIALS else _OTHER
