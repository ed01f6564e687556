"""Deviations of servers from the RFCs, and what we do about them. Each deviation has an id that its test carries.

P12  Gmail: one session shows a page,      recognised by greeting or capabilities; absence from a page is no sign
     the next one hides what was fetched   of removal, and sessions follow one another while there is something new
P16  LIST sizes are wrong                  sizes are only a hint; the terminator ends a message
P23  lines end with LF alone               refused with a clear message: a dot line could not be told from text
P25  a locked mailbox without [IN-USE]     recognised by RFC 1939's own words, so that it is not taken
                                           for a wrong password
P27  a throttle or a passing fault         recognised by its words (`auth/patience.py`), so that it is not taken
     without [LOGIN-DELAY] or [SYS/TEMP]   for a wrong password either
P28  "+ERR" for a wrong password           only +OK is success
P29  CAPA makes the server hang up         connect again once, without CAPA
P31  PIPELINING announced, but broken;     noticed by checks between RETRs; then one command at a time
     answers that come twice, or in        (another order is noticed only if sizes differ)
     another order
P38  UW-IMAP lists the mbox's own data     recognised if it is the first message; neither fetched nor removed
P50  columns padded with blanks or tabs,   passed over: no number or unique-id is mistaken
     blanks around them, empty lines
P51  sizes that are no number              unknown, given as 0: the message is fetched nevertheless
P52  LIST n gives the whole listing, the   tried once before it is trusted as a check between RETRs; else UIDL n, else
     size alone, or is not known           one command at a time with STAT behind it
P53  STAT counts otherwise than LIST and   LIST and UIDL are believed if they agree, and say so twice
     UIDL, or is no pair of numbers
P54  a mechanism is announced or usual,    recognised by its words: it was no attempt to sign in, and the next
     and the command is unknown            mechanism is used
P55  a refusal of RETR that is about the   the same no to several messages, and to a message further on, suspends the
     account, such as a download quota     account and blames no message
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Final

from syncd.pop3.values import Capabilities, Check

_log = logging.getLogger(__name__)

# RFC 1939 §4: "maildrop already locked"; §7: "unable to lock maildrop". "Your account is locked" is another matter.
_LOCKED = re.compile(
    rb"(maildrop|mailbox|mail drop).{0,40}(lock|in use|busy)|lock.{0,40}(maildrop|mailbox)", re.IGNORECASE
)
_FOLDER_DATA = re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r?$", re.MULTILINE)

# P54: Zimbra's proxy "invalid command", Exchange "Command is not valid in this state", Dovecot "Unsupported
# authentication mechanism", Cyrus "Unrecognized command", qpopper "Unknown command"; never "unknown user".
_NOT_KNOWN = rb"unknown|unrecogni[sz]ed|invalid|illegal|bad|unsupported|unimplemented|undefined|no such|not a valid"
_NOT = rb"not (a )?(recogni[sz]ed|implemented|supported|known|valid|understood|available|allowed|enabled|permitted)"
_COMMAND = rb"(command|verb|keyword|mechanism|auth(entication)? (mechanism|method|type|scheme))s?"
_UNKNOWN = re.compile(
    rb"\b(" + _NOT_KNOWN + rb")\s+(\w+\s+){0,2}?" + _COMMAND + rb"\b"
    rb"|\b(" + _COMMAND + rb"|auth|sasl|stls)\b\W*(\S+\s+){0,2}?(is |was |are )?"
    rb"(" + _NOT + rb"|unknown|unrecogni[sz]ed|unsupported|unimplemented|invalid|disabled)\b"
    rb"|\b(not implemented|unimplemented|syntax error)\b",
    re.IGNORECASE,
)

# Dovecot "Plaintext authentication disallowed on non-secure (SSL/TLS) connections", others in their own words
_WANTS_TLS = re.compile(
    rb"(plain|clear).?text.{0,30}(disallow|not (allow|permit|support|enabl)|disabled|forbidden|refused)"
    rb"|\b(STLS|STARTTLS) (command )?(first|required|before)\b|(issue|use|send|run) (an? )?(STLS|STARTTLS)\b"
    rb"|\b(SSL|TLS|SSL/TLS|encryption|encrypted|secure connection)( connection)? (is )?(required|needed|necessary)"
    rb"|\brequires? (an? )?(SSL|TLS|encrypt|secure)",
    re.IGNORECASE,
)

# P55: NetEase "Download exceed", Exchange "exceeded the bandwidth limits", Yahoo and others "rate limit"; only words
# that cannot be about the size of one message
_QUOTA = re.compile(
    rb"download.{0,30}(exceed|limit|quota)|(exceed|limit|quota).{0,40}(download|per day|account)"
    rb"|bandwidth|traffic|daily|24 hours|rate.?limit|throttl|too many (requests|messages|downloads|commands|retrievals)"
    rb"|(download|retrieval|account|user).{0,20}quota|over quota",
    re.IGNORECASE,
)

_PADDED = re.compile(rb"\A[ \t]|[ \t]{2}|\t|\n[ \t\r]|[ \t]\r")

NOTES: Final = {
    "P50": "pads columns with blanks, or sends empty lines: passed over",
    "P51": "lists sizes that are no number: such messages have 0 octets in the listing, and are fetched",
    "P53": "STAT counts otherwise than LIST and UIDL: these two are believed",
}


def says_locked(text: bytes) -> bool:
    """P25: returns True if a refusal without response code says that the mailbox is in use."""
    return _LOCKED.search(text) is not None


def says_unknown(text: bytes) -> bool:
    """P54: returns True if a refusal says that a command or mechanism is not known."""
    return _UNKNOWN.search(text) is not None


def wants_tls(text: bytes) -> bool:
    """P54: returns True if a refusal says that nobody may sign in without TLS."""
    return _WANTS_TLS.search(text) is not None


def says_quota(text: bytes) -> bool:
    """P55: returns True if a refusal of RETR says that the account has had enough."""
    return _QUOTA.search(text) is not None


def is_padded(lines: bytes) -> bool:
    """P50: returns True if lines of a listing have more blanks than RFC 1939 §5 wants, or empty lines among them."""
    return _PADDED.search(lines) is not None


def shows_pages(greeting: bytes, capabilities: Capabilities) -> bool:
    """P12: returns True for Gmail."""
    return greeting.startswith(b"Gpop ") or any(line.startswith("X-GOOGLE") for line in capabilities.lines)


def is_folder_data(start: bytes) -> bool:
    """P38: returns True if a message with this start is where UW-IMAP and its kin keep an mbox's unique-ids."""
    header = start[:4096].partition(b"\r\n\r\n")[0]
    return b"\r\nX-IMAP" in header and _FOLDER_DATA.search(header) is not None


@dataclass(slots=True)
class Quirks:
    """The deviations that one server has shown. The value belongs to an account and outlives its sessions.

    `check` is the command that shows whether client and server are in step (P52); None until it was tried.
    """

    hangs_up_on_capa: bool = False
    breaks_pipelining: bool = False
    check: Check | None = None
    noted: set[str] = field(default_factory=set)

    def note(self, quirk: str, address: str) -> None:
        """Log one of NOTES, once."""
        if quirk not in self.noted:
            self.noted.add(quirk)
            _log.info("quirk", extra={"quirk": quirk, "address": address, "what": NOTES[quirk]})

    def note_hang_up_on_capa(self, address: str) -> None:
        """P29: the server closed the connection after CAPA."""
        self.hangs_up_on_capa = True
        _log.info("quirk", extra={"quirk": "P29", "address": address, "what": "hangs up on CAPA: not asked again"})

    def note_broken_pipelining(self, address: str) -> None:
        """P31: answers did not match commands that were pipelined."""
        self.breaks_pipelining = True
        _log.info("quirk", extra={"quirk": "P31", "address": address, "what": "out of step: one command at a time"})

    def note_check(self, check: Check, address: str) -> None:
        """P52: `check` is the strongest check that the server answers well."""
        self.check = check
        if check is not Check.LIST:
            what = f"LIST n is of no use as a check between messages: {check.value} is used"
            _log.info("quirk", extra={"quirk": "P52", "address": address, "what": what})
