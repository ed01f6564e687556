"""The meaning of a server's reply for a delivery (pure). The first digit decides, words give hints (RFC 5321 §4.2.1).

    2xx   delivered; the reply is the receipt (mostly with a queue id)
    4xx   deferred: tried later, by the back-off of the ledger or as the reply says (greylisting, RFC 6647)
    5xx   rejected: a person decides, unless the engine sees that everything is refused

A reply of any digit that says that we send too much is about the account, not the message: the server throttles
(`smtp/limits.py` has the words). 421 also ends the connection. Its meaning for the message depends on the command that
it answered (`Reply.early`).

A refusal that could meet every message has a code, so that the engine can stop when it does. A refusal about the
recipient or about one message's content has none.

The delays here come from a server's words. `db/ledger/backoff.py` has the delays for replies without such words.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from syncd.errors import AuthRefused, Refused, Unsupported, printable
from syncd.mail.message import Message, Receipt
from syncd.mail.outcome import Outcome, Verdict
from syncd.smtp.limits import is_long, limits_account, limits_connection
from syncd.smtp.values import CLOSING, NO_REPLY, Reply

MAX_HINT = 120  # characters of a reply that the ledger keeps: the queue id stands at its start
GREYLISTED_S = 360  # "more than five minutes": most servers let a message in after 300 s
MAX_HINTED_S = 86_400  # a server that says "in a year" is tried again tomorrow
THROTTLED_S = 900  # for a server that throttles and does not say for how long
LONG_S = 3600  # the same, if its words mean hours or a day: tried again every hour, with one message

# About the recipient: 1.0 to 1.6, 1.10, 2.1. About one message: its size 2.3, 3.4, a loop 4.6, its media 6.x, its
# signatures 7.7, 7.20 to 7.22, 7.26 (RFC 3463, 7372). Not the sender's address, 1.7 and 1.8, which is mostly the same
# in all messages, and not a full mailbox, 2.2, which takes no message
_ABOUT_ONE = re.compile(r"1\.(?:[0-6]|10)|2\.[13]|3\.4|4\.6|6\.\d+|7\.(?:7|2[0-26])")
_SAYS_LITTLE = frozenset({"", "0.0", "3.0", "5.0", "7.0", "7.1"})  # behind these, or without a status, words decide
_ABOUT_ONE_WORDS = re.compile(
    r"(?:user|recipient|mailbox|address|to reach) (?:is )?(?:unknown|not found|unavailable|does(?: not|n't) exist)"
    r"|unknown (?:user|recipient|mailbox|address)|no such (?:user|recipient|mailbox|address|person)|no mailbox"
    r"|\bsize\b|too (?:large|big)|attachment|virus|malware|content (?:rejected|denied|blocked|is)|too many hops"
    r"|hop count|\bloop|(?:message|mail|content)\b.{0,40}\b(?:spam|junk)",
    re.IGNORECASE,
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_IN = re.compile(r"\b(?:in|after|for|timeout|wait|delay)\D{0,20}?(\d{1,6})\s*(s|m|h)(?:ec|in|our|r|\b)", re.IGNORECASE)
# "in 00:10:00", not the time of day that many replies end in, nor a part of an IPv6 address
_CLOCK = re.compile(
    r"\b(?:in|after|for|wait)\s+(\d\d):(\d\d):(\d\d)\b(?!:|\.\d|\s*(?:[+-]\d{4}|UTC|GMT|Z\b))", re.IGNORECASE
)
_TOO_MANY = re.compile(r"\btoo many\b", re.IGNORECASE)
_GREYLISTED = re.compile(r"gr[ea]y-?\s?list", re.IGNORECASE)


def outcome_of(
    message: Message, reply: Reply, now: datetime, *, note: str = "", until: datetime | None = None
) -> Outcome:
    """Returns the outcome of a message by its final reply.

    `note` says how the octets had to be changed, and is stored with the receipt. `until` is what `throttled_by_reply`
    returned.
    """
    text, key = str(reply), message.key
    if reply.ok:
        hint = printable(text, MAX_HINT) + (f" [{note}]" if note else "")
        return Outcome(key, Verdict.DELIVERED, Receipt(message.body.sha256, hint))
    reason = f"the server says: {text}"
    if reply == NO_REPLY:
        return Outcome(key, Verdict.UNCERTAIN, reason="the server answered for other recipients and not for this one")
    if until is not None:
        return Outcome(key, Verdict.DEFERRED, reason=reason, retry_at=until)
    if reply.transient:
        at = retry_at(text, now)
        return Outcome(key, Verdict.DEFERRED, reason=reason, retry_at=at, code="" if at is not None else _kind(reply))
    return Outcome(key, Verdict.REJECTED, reason=reason, code=_kind(reply))


def _kind(reply: Reply) -> str:
    """Returns the code by which the engine knows refusals that are alike; "" for a reply about this message alone."""
    status = reply.enhanced[2:]
    if _ABOUT_ONE.fullmatch(status) or (status in _SAYS_LITTLE and _ABOUT_ONE_WORDS.search(str(reply))):
        return ""
    return f"{reply.code} {reply.enhanced}".strip()


def retry_at(text: str, now: datetime) -> datetime | None:
    """Returns when the server wants the message again, if it says so; never within five minutes."""
    seconds = _hinted(text)
    if seconds is None and not _GREYLISTED.search(text):
        return None
    return now + timedelta(seconds=min(max(seconds or 0, GREYLISTED_S), MAX_HINTED_S))


def throttled_by_reply(reply: Reply, now: datetime, *, fresh: bool = False) -> datetime | None:
    """Returns until when the destination is suspended, if the reply says that the server throttles (S04, S22).

    421 may only ask for a new connection: "too many messages" (S28). It throttles if it speaks of a rate, or if its
    connection was `fresh`: it had taken nothing yet.
    """
    if reply.ok:
        return None
    text = str(reply)
    throttles = limits_account(text) or (fresh if reply.code == CLOSING else limits_connection(text))
    return _throttled_until(text, now) if throttles else None


def throttled_by_refusal(refused: Refused, now: datetime) -> datetime | None:
    """Returns until when the destination is suspended, if a connection or sign-in was refused for throttling.

    "Too many login attempts" is neither a wrong password nor a passing fault (S04, S21).
    """
    if isinstance(refused, AuthRefused | Unsupported):
        return None
    text = f"{refused.code} {refused.text}"
    throttles = refused.code == str(CLOSING) or limits_account(text) or _TOO_MANY.search(text) is not None
    return _throttled_until(text, now) if throttles or limits_connection(text) else None


def _throttled_until(text: str, now: datetime) -> datetime:
    """Returns until when the destination is suspended, for a server that is known to throttle."""
    seconds = _hinted(text) or (LONG_S if is_long(text) else THROTTLED_S)
    return now + timedelta(seconds=min(seconds, MAX_HINTED_S))


def _hinted(text: str) -> int | None:
    if clock := _CLOCK.search(text):
        hours, minutes, seconds = map(int, clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    if hint := _IN.search(text):
        return int(hint[1]) * _SECONDS[hint[2].lower()]
    return None
