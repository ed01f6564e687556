"""A server's no outside of a message: who is to blame, and what helps (RFC 5321 §4.2.3, RFC 4954 §6)."""

from __future__ import annotations

from syncd.errors import AuthRefused, Refused, Unsupported, printable
from syncd.smtp.quirks import says_later
from syncd.smtp.values import Reply, Verb

_LATER = "try again later"
_UNKNOWN = frozenset({500, 502, 503, 504})  # no such command, parameter or mechanism, or not now


def refusal(address: str, what: str, verb: Verb, reply: Reply, hint: str = "") -> Refused:
    """The error for a negative `reply` to `verb`; `what` says what did not succeed.

    `hint`: where the credentials are to blame, what to look at.
    """
    kind, advice = _kind(verb, reply, hint)
    text = printable(b" ".join(reply.text))
    return kind(f"{address}: {what}: “{reply}”; {advice}", command=verb.value, code=str(reply.code), text=text)


def _kind(verb: Verb, reply: Reply, hint: str) -> tuple[type[Refused], str]:
    if reply.transient:
        return Refused, _LATER
    if verb is not Verb.AUTH:
        return Refused, "its operator may know why"
    if reply.code in {530, 538} or reply.enhanced == "5.7.11":  # RFC 4954 §6: encryption required
        return Unsupported, 'set security = "tls" or "starttls"'
    if reply.code in _UNKNOWN:
        return Unsupported, "set auth to a mechanism that the server offers"
    if says_later(b" ".join(reply.text)):
        return Refused, _LATER
    return AuthRefused, hint or "check the account's username and password"
