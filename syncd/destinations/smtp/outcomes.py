"""What a server's reply means for a delivery (pure): its first digit decides, its words give a hint (RFC 5321 §4.2.1).

    2xx   delivered; the reply is the receipt (it mostly names a queue id)
    4xx   deferred: later, by the back-off of the ledger or as the reply says (greylisting, RFC 6647)
    5xx   rejected: for a person, unless the engine sees that everything is refused

Whatever its digit, a reply that says that we send too much is about the account, not the message: enough for now.
421 ends the connection as well; what it means for the message depends on what it answered (`Reply.early`).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from syncd.destinations.base import Outcome, Verdict
from syncd.errors import AuthRefused, Refused, Unsupported, printable
from syncd.mail.message import Message, Receipt
from syncd.smtp.values import CLOSING, NO_REPLY, Reply

MAX_HINT = 120  # characters of a reply that are kept for ever: the queue id stands at its start
GREYLISTED_S = 360  # "more than five minutes": most servers let a message in after 300 s
MAX_HINTED_S = 86_400  # a server that says "in a year" is asked tomorrow
THROTTLED_S = 900  # where a server that has enough does not say for how long
LONG_S = 3600  # … and it is a matter of hours or a day: asked again every hour, one message at a time

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_IN = re.compile(r"\b(?:in|after|for|timeout|wait|delay)\D{0,20}?(\d{1,6})\s*(s|m|h)(?:ec|in|our|r|\b)", re.IGNORECASE)
# "in 00:10:00", not the time of day that many replies end in, nor a part of an IPv6 address
_CLOCK = re.compile(
    r"\b(?:in|after|for|wait)\s+(\d\d):(\d\d):(\d\d)\b(?!:|\.\d|\s*(?:[+-]\d{4}|UTC|GMT|Z\b))", re.IGNORECASE
)
# Gmail 4.7.28 "unusual rate", 5.4.5 "Daily user sending limit exceeded"; Outlook 4.3.2 "Concurrent connections limit",
# 5.1.90 "daily limit for message recipients"; Zoho 5.4.6 "Unusual sending activity"; Postfix, Exim "too many …"
_RATE = (
    r"unusual (?:rate|sending|activity|traffic)|rate.?limit|(?:daily|hourly) (?:\w+ ){0,3}(?:limit|quota)"
    r"|sending (?:limit|quota)|throttl|too (?:quickly|fast)|slow down"
)
_ENOUGH = re.compile(
    rf"\b(?:{_RATE}|too many (?:messages|mails|emails|connections|concurrent)|concurrent connections limit)",
    re.IGNORECASE,
)
_ENOUGH_OF_US = re.compile(rf"\b(?:{_RATE})", re.IGNORECASE)  # and not of this connection
_ENOUGH_AT_THE_DOOR = re.compile(rf"\b(?:{_RATE}|too many|concurrent connections limit)", re.IGNORECASE)
_LONG = re.compile(r"daily|hourly|quota|unusual", re.IGNORECASE)
_GREYLISTED = re.compile(r"gr[ea]y-?\s?list", re.IGNORECASE)


def settled(message: Message, reply: Reply, now: datetime, *, note: str = "", until: datetime | None = None) -> Outcome:
    """The outcome that a final reply gives.

    `note` says what had to be done to the octets, and is kept with the receipt; `until` is `enough_until`'s.
    """
    text, key = str(reply), message.key
    if reply.ok:
        hint = printable(text, MAX_HINT) + (f" [{note}]" if note else "")
        return Outcome(key, Verdict.DELIVERED, Receipt(message.body.sha256, hint))
    reason = f"the server says: {text}"
    if reply == NO_REPLY:
        return Outcome(key, Verdict.UNCERTAIN, reason="the server answered for others and not for this one")
    if until is not None or reply.transient:
        return Outcome(key, Verdict.DEFERRED, reason=reason, retry_at=until or retry_at(text, now))
    return Outcome(key, Verdict.REJECTED, reason=reason, refusal=f"{reply.code} {reply.enhanced}".strip())


def retry_at(text: str, now: datetime) -> datetime | None:
    """When the server wants to be asked again, if it says so; never within five minutes."""
    seconds = _hinted(text)
    if seconds is None and not _GREYLISTED.search(text):
        return None
    return now + timedelta(seconds=min(max(seconds or 0, GREYLISTED_S), MAX_HINTED_S))


def enough_until(reply: Reply, now: datetime, *, fresh: bool = False) -> datetime | None:
    """Until when the server is to be left alone, if that is what it says (S04, S22).

    421 may mean no more than that it wants a new connection: "too many messages" (S28). It is about us where it speaks
    of a rate, or where its connection was `fresh`, good for nothing yet.
    """
    if reply.ok:
        return None
    text = str(reply)
    if reply.code == CLOSING:
        enough = fresh or _ENOUGH_OF_US.search(text) is not None
    else:
        enough = _ENOUGH.search(text) is not None
    return throttled_until(text, now) if enough else None


def shut_until(refused: Refused, now: datetime) -> datetime | None:
    """Until when a server is to be left alone that takes no connection, or no sign-in, because there were too many.

    "Too many login attempts" is neither a wrong password nor a passing fault (S04, S21).
    """
    if isinstance(refused, AuthRefused | Unsupported):
        return None
    enough = refused.code == str(CLOSING) or _ENOUGH_AT_THE_DOOR.search(refused.text) is not None
    return throttled_until(refused.text, now) if enough else None


def throttled_until(text: str, now: datetime) -> datetime:
    """The same, of a server that is known to have enough."""
    seconds = _hinted(text) or (LONG_S if _LONG.search(text) else THROTTLED_S)
    return now + timedelta(seconds=min(seconds, MAX_HINTED_S))


def _hinted(text: str) -> int | None:
    if clock := _CLOCK.search(text):
        hours, minutes, seconds = map(int, clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    if hint := _IN.search(text):
        return int(hint[1]) * _SECONDS[hint[2].lower()]
    return None
