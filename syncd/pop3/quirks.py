"""What servers do that the RFCs do not say, and how it is met. Each has an id that its test carries.

P12  Gmail: one session shows a page,      recognised by greeting or capabilities; absence from a page is no sign
     the next one hides what was fetched   of removal, and sessions follow one another while there is something new
P16  LIST sizes are wrong                  sizes are only a hint; the terminator ends a message
P23  lines end with LF alone               refused in one clear line: a dot line could not be told from text
P25  a locked mailbox without [IN-USE]     recognised by RFC 1939's own words, so that it is not taken
                                           for a wrong password
P27  a throttle or a passing fault         recognised by plain words, so that it is not taken for a wrong
     without [LOGIN-DELAY] or [SYS/TEMP]   password either
P28  "+ERR" for a wrong password           only +OK is success
P29  CAPA makes the server hang up         connect again once without it
P31  PIPELINING announced, but broken;     noticed by checks between RETRs; then one command at a time
     answers that come twice, or in         (another order only where sizes differ: nothing else tells)
     another order
P38  UW-IMAP lists the mbox's own data     recognised where it is the first message; neither taken nor removed
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from syncd.pop3.values import Capabilities

_log = logging.getLogger(__name__)

# RFC 1939 §4: "maildrop already locked"; §7: "unable to lock maildrop". "Your account is locked" is another matter.
_LOCKED = re.compile(
    rb"(maildrop|mailbox|mail drop).{0,40}(lock|in use|busy)|lock.{0,40}(maildrop|mailbox)", re.IGNORECASE
)

# Words that mean nothing else: "try again" alone follows wrong passwords too, "busy" alone stands in lists of causes.
_LATER = re.compile(
    rb"too many|temporar|throttl|rate.?limit|try again later|(server|service) (is )?(too )?(busy|unavailable)",
    re.IGNORECASE,
)
_FOLDER_DATA = re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r?$", re.MULTILINE)


def says_locked(text: bytes) -> bool:
    """P25: whether a refusal without response code says that the mailbox is in use."""
    return _LOCKED.search(text) is not None


def says_later(text: bytes) -> bool:
    """P27: whether a refusal without response code asks for patience."""
    return _LATER.search(text) is not None


def shows_pages(greeting: bytes, capabilities: Capabilities) -> bool:
    """P12: whether this is Gmail."""
    return greeting.startswith(b"Gpop ") or any(line.startswith("X-GOOGLE") for line in capabilities.lines)


def is_folder_data(start: bytes) -> bool:
    """P38: whether what begins so is no mail but where UW-IMAP and its kin keep an mbox's unique-ids."""
    header = start[:4096].partition(b"\r\n\r\n")[0]
    return b"\r\nX-IMAP" in header and _FOLDER_DATA.search(header) is not None


@dataclass(slots=True)
class Quirks:
    """What one server has shown itself to do. Belongs to an account and outlives its sessions."""

    hangs_up_on_capa: bool = False
    breaks_pipelining: bool = False

    def note_hang_up_on_capa(self, address: str) -> None:
        """P29."""
        self.hangs_up_on_capa = True
        _log.info("quirk", extra={"quirk": "P29", "address": address, "what": "hangs up on CAPA: asked no more"})

    def note_broken_pipelining(self, address: str) -> None:
        """P31."""
        self.breaks_pipelining = True
        _log.info("quirk", extra={"quirk": "P31", "address": address, "what": "lost step: one command at a time"})
