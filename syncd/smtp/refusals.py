"""Errors for a server's refusal outside of a message, with advice (RFC 5321 §4.2.3, RFC 4954 §6)."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.auth.patience import says_later
from syncd.errors import AuthRefused, Refused, Unsupported, printable
from syncd.smtp.limits import limits_account, limits_connection
from syncd.smtp.values import Reply, Verb

_LATER = "try again later"
_UNKNOWN = frozenset({500, 502, 503, 504})  # the command, parameter or mechanism is unknown, or not allowed now
_HELLO = frozenset({Verb.EHLO, Verb.HELO, Verb.LHLO})
_NO_NAME = 'set ehlo_name to a full host name, such as "laptop.example.org", that the server accepts'


def refusal(address: str, what: str, verb: Verb, reply: Reply, hint: str = "") -> Refused:
    """Returns the error for a negative `reply` to `verb`; `what` says what did not succeed.

    `hint` replaces the advice to check username and password, if the credentials are to blame.
    """
    kind, advice = _kind(verb, reply, hint)
    text = printable(b" ".join(reply.text))
    return kind(f"{address}: {what}: “{reply}”; {advice}", command=verb.value, code=str(reply.code), text=text)


def nothing_left(address: str, unknown: Sequence[Unsupported]) -> Unsupported:
    """Returns the error when the server knows none of the mechanisms that were tried; at least one was."""
    last = unknown[-1]
    said = "; ".join(f"{error.command}: “{error.code} {error.text}”" for error in unknown)
    return Unsupported(
        f"{address}: the server knows none of the mechanisms that it announces ({said}), so nobody was signed in; "
        "set auth to another one, or remove username and password if the server takes mail without them",
        command=last.command,
        code=last.code,
        text=last.text,
    )


def _kind(verb: Verb, reply: Reply, hint: str) -> tuple[type[Refused], str]:
    words = b" ".join(reply.text)
    if reply.transient:
        return Refused, _LATER
    if verb is Verb.AUTH:
        return _kind_of_auth(reply, words, hint)
    if verb is Verb.GREETING:
        later = says_later(words) or limits_account(str(reply)) or limits_connection(str(reply))
        return (Refused, _LATER) if later else (Unsupported, "ask the operator of the server")
    if verb is Verb.STARTTLS:
        return Unsupported, 'set security = "tls", which has a port of its own, usually 465'
    if verb in _HELLO and reply.code in _UNKNOWN:
        return Unsupported, _other_protocol(verb)
    return Unsupported, _NO_NAME


def _kind_of_auth(reply: Reply, words: bytes, hint: str) -> tuple[type[Refused], str]:
    if reply.code in {530, 538} or reply.enhanced == "5.7.11":  # RFC 4954 §6: encryption required
        return Unsupported, 'set security = "tls" or "starttls"'
    if reply.code in _UNKNOWN or reply.enhanced in {"5.5.1", "5.5.2", "5.5.4"}:  # S33: no attempt
        return Unsupported, 'set auth = "auto", or to a mechanism that the server knows'
    if says_later(words) or limits_account(str(reply)):
        return Refused, _LATER
    return AuthRefused, hint or "check the account's username and password"


def _other_protocol(verb: Verb) -> str:
    if verb is Verb.LHLO:
        return 'this is no LMTP server; for one that speaks SMTP, set protocol = "smtp"'
    return 'this is no SMTP server; for one that speaks LMTP, set protocol = "lmtp"'
