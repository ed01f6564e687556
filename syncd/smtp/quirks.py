"""What servers do that the RFCs do not say, and how it is met. Each has an id that its test carries.

S07  PIPELINING announced, but broken        after a lost step or a missing reply with several commands in flight,
                                             this server is sent one command at a time
S20  "AUTH=PLAIN" in the reply to EHLO       read as "AUTH PLAIN" (see `values.Capabilities`)
S21  "535" for too many sign-ins             recognised by plain words, so that it is not taken for a wrong password
S28  RSET is refused, or ends the sign-in    a new connection after each message that was refused
S29  lines of a reply have different codes   no reply at all: the session ends
D01  Dovecot's LMTP bears the next message's commands before the last one is answered; its submission (2.3) aborts
     on them ("assertion failed: pending_rcpt_cmds == 0"), though RFC 2920 allows them. Both greet with "Dovecot ready".
     Messages are pipelined only where it is known to be borne, or the caller says so
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from syncd.smtp.values import Reply

_log = logging.getLogger(__name__)

# Servers that bear commands of the next message before the reply to BDAT LAST: (LMTP, words in the greeting)
_BEAR_PIPELINED_MESSAGES = ((True, b"Dovecot"),)

# Words that mean nothing else: "try again" alone follows wrong passwords too, "busy" alone stands in lists of causes.
_LATER = re.compile(
    rb"too many|temporar|throttl|rate.?limit|try again later|(server|service) (is )?(too )?(busy|unavailable)",
    re.IGNORECASE,
)


def says_later(text: bytes) -> bool:
    """S21: whether a refused sign-in asks for patience."""
    return _LATER.search(text) is not None


@dataclass(slots=True)
class Quirks:
    """What one server has shown itself to do. Belongs to an account and outlives its sessions.

    `pipelines_messages`: None as the table above says, else whatever it is called.
    """

    breaks_pipelining: bool = False
    forgets_after_rset: bool = False
    pipelines_messages: bool | None = None

    def note_broken_pipelining(self, address: str) -> None:
        """S07."""
        self.breaks_pipelining = True
        _log.info("quirk", extra={"quirk": "S07", "address": address, "what": "lost step: one command at a time"})

    def note_forgets_after_rset(self, address: str) -> None:
        """S28."""
        self.forgets_after_rset = True
        _log.info("quirk", extra={"quirk": "S28", "address": address, "what": "not usable after RSET: connects anew"})

    def bears_pipelined_messages(self, greeting: Reply, *, lmtp: bool) -> bool:
        """D01."""
        if self.pipelines_messages is not None:
            return self.pipelines_messages
        text = b" ".join(greeting.text)
        return any(kind == lmtp and words in text for kind, words in _BEAR_PIPELINED_MESSAGES)
