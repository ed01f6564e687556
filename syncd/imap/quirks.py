"""Deviations of servers from the RFCs, and what we do about them. Each deviation has an id that its test carries.

I03  blanks at the end of a line, a status without text      read as if they were not there
I09  "[THROTTLED]" at the end of an OK                       counted; less is in flight, in the end none for a while
I10  "Suggested Backoff Time: N milliseconds"                the account is suspended for so long
I11  "User is authenticated but not connected"               tried again later: it is no wrong password
I17  a connection limit in words                             recognised by `auth/patience.py` and the words below
I20  "+" without a blank                                     a continuation request
I30  lines that are no response                              passed over, at most 20 in a session
I48  STATUS without its list                                 tells nothing
I100 mechanisms are announced that cannot succeed            a no to a challenge-response mechanism proves nothing;
                                                             PLAIN and the command LOGIN are tried once each
I130 rows that nobody has asked for                          read off and dropped, with their bodies
I134 "{50}" in a quoted string, line ends in one             read by tokens, not by lines
I144 sections spelled in another way                         matched in any case
I145 syntax errors that are NO                               taken for BAD
I148 flags as NIL, or as quoted strings                      taken
I169 APPENDUID names UIDs that cannot be right         no receipts: messages are looked for as without UIDPLUS
I168 LF alone behind the end of AUTHENTICATE (mailutils)     taken, where nothing is behind it
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

# I10, in the words of Exchange, behind "Request is throttled"
MOST_ALERTS: Final = 10  # texts of one account: what a server says must not grow without end
_BACKOFF: Final = re.compile(rb"backoff time:?\s*(\d{1,9})\s*(milliseconds|ms|seconds|s)\b", re.IGNORECASE)

# I08 Gmail "Account exceeded command or bandwidth limits", "Too many simultaneous connections"; I17 Dovecot "Maximum
# number of connections from user+IP exceeded"; I15 Yahoo "Rate limit hit"; only words that are about the account
_QUOTA: Final = re.compile(
    rb"(exceed|limit|quota).{0,40}(command|bandwidth|download|per day|connections?)|bandwidth|rate.?limit|throttl"
    rb"|(maximum number of|too many|simultaneous) (user )?(\w+ )?(connections|sessions|logins|requests|commands)"
    rb"|download.{0,30}(exceed|limit|quota)",
    re.IGNORECASE,
)
_THROTTLED: Final = re.compile(rb"\[THROTTLED\]\s*\Z", re.IGNORECASE)

# Courier "NO Error in IMAP command received by server", mailutils "BAD Invalid arguments", others in their own words
_SYNTAX: Final = re.compile(
    rb"error in imap command|syntax error|(unknown|unrecogni[sz]ed|invalid|unsupported|bad|unimplemented) "
    rb"(\w+ ){0,2}?(command|arguments?|parameters?|mechanism|option|extension)"
    rb"|(command|mechanism|method|authentication type) (is |was )?(not |un)"
    rb"(recogni[sz]ed|implemented|supported|known|valid|available|enabled|permitted|allowed)",
    re.IGNORECASE,
)
_NOT_CONNECTED: Final = re.compile(rb"authenticated but not connected", re.IGNORECASE)
_WANTS_TLS: Final = re.compile(
    rb"(plain|clear).?text.{0,30}(disallow|not (allow|permit|support|enabl)|disabled|forbidden|refused)"
    rb"|\bSTARTTLS (command )?(first|required|before)\b|(issue|use|send|run) (an? )?STARTTLS\b"
    rb"|\b(SSL|TLS|SSL/TLS|encryption|secure connection)( connection)? (is )?(required|needed|necessary)",
    re.IGNORECASE,
)

NOTES: Final = {
    "I30": "sends lines that are no response: passed over",
    "I100": "announces a mechanism that cannot succeed: another one is used",
    "I105": "calls commands bad: servers hang up after a number of them",
    "I130": "sends messages that were not asked for: read off and dropped",
    "I169": "names wrong UIDs for what it took: they are found out instead",
}


def backoff_s(text: bytes) -> float | None:
    """I10: returns the seconds that the server asks to wait, if it says so."""
    found = _BACKOFF.search(text)
    if found is None:
        return None
    return int(found[1]) / (1000 if found[2].lower().startswith(b"m") else 1)


def says_quota(text: bytes) -> bool:
    """I08, I15, I17: returns True if a refusal says that the account has had enough, or too many connections."""
    return _QUOTA.search(text) is not None


def is_throttled(text: bytes) -> bool:
    """I09: returns True if the server says behind an answer that it is slowing us down."""
    return _THROTTLED.search(text) is not None


def says_syntax(text: bytes) -> bool:
    """I145: returns True if a refusal is about the command, not about what it asks for."""
    return _SYNTAX.search(text) is not None


def is_not_connected(text: bytes) -> bool:
    """I11: returns True for Exchange's answer to a right password when its store is away, disabled or throttled."""
    return _NOT_CONNECTED.search(text) is not None


def wants_tls(text: bytes) -> bool:
    """Returns True if a refusal says that nobody may sign in without TLS."""
    return _WANTS_TLS.search(text) is not None


@dataclass(slots=True)
class Quirks:
    """The deviations that one server has shown. The value belongs to an account and outlives its sessions.

    `way` is the way to sign in that has worked, to be tried first (I100).
    """

    way: str = ""
    noted: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)

    def hear(self, alert: str, address: str) -> None:
        """Log a text that a person must see (RFC 3501 §7.1), once; MOST_ALERTS of them at most."""
        if alert not in self.heard and len(self.heard) < MOST_ALERTS:
            self.heard.add(alert)
            _log.warning("%s: the server says: %s", address, alert)

    def note(self, quirk: str, address: str) -> None:
        """Log one of NOTES, once."""
        if quirk not in self.noted:
            self.noted.add(quirk)
            _log.info("quirk", extra={"quirk": quirk, "address": address, "what": NOTES[quirk]})
