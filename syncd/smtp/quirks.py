"""Deviations of servers from the RFCs, and what we do about them. Each deviation has an id that its test carries.

S07  PIPELINING announced, but broken        after a wrong or missing reply with several commands in flight, this
                                             server gets one command at a time
S20  "AUTH=PLAIN" in the reply to EHLO       read as "AUTH PLAIN" (see `values.Capabilities`)
S21  "535" for too many sign-ins             recognised by its words (`auth/patience.py`), so that it is not taken for
                                             a wrong password
S28  RSET is refused, or ends the sign-in    a new connection after each message that was refused
S29  lines of a reply have different codes   not taken as a reply: the session ends
S31  empty lines between replies, a tab in   passed over: none of them can be taken for a reply
     place of a space, blanks at a line's end
S33  AUTH announced, but a mechanism, or     no attempt to sign in: the next mechanism is used in the same session
     the command itself, is unknown          (`refusals.py`)
D01  RFC 2920 allows commands of the next message before the reply to the last one. Dovecot's LMTP takes them; its
     submission (2.3) aborts ("assertion failed: pending_rcpt_cmds == 0"). Both greet with "Dovecot ready". So messages
     are pipelined only with servers that are known to take them, or if the caller says so
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from syncd.smtp.values import Reply

_log = logging.getLogger(__name__)

# Servers that take commands of the next message before the reply to BDAT LAST: (LMTP, words in the greeting)
_TAKE_PIPELINED_MESSAGES = ((True, b"Dovecot"),)


@dataclass(slots=True)
class Quirks:
    """The deviations that one server has shown. The value belongs to an account and outlives its sessions.

    `pipelines_messages`: whether messages are pipelined; None decides by the table above.
    """

    breaks_pipelining: bool = False
    forgets_after_rset: bool = False
    sends_empty_lines: bool = False
    pipelines_messages: bool | None = None

    def note_broken_pipelining(self, address: str) -> None:
        """S07: a command of a flight had a wrong reply or none."""
        self.breaks_pipelining = True
        _log.info("quirk", extra={"quirk": "S07", "address": address, "what": "out of step: one command at a time"})

    def note_forgets_after_rset(self, address: str) -> None:
        """S28: RSET was refused, or ended the sign-in."""
        self.forgets_after_rset = True
        _log.info("quirk", extra={"quirk": "S28", "address": address, "what": "not usable after RSET: connects again"})

    def note_empty_lines(self, address: str) -> None:
        """S31: empty lines came between replies. Noted once."""
        if not self.sends_empty_lines:
            self.sends_empty_lines = True
            _log.info("quirk", extra={"quirk": "S31", "address": address, "what": "empty lines are passed over"})

    def takes_pipelined_messages(self, greeting: Reply, *, lmtp: bool) -> bool:
        """D01: returns whether messages are pipelined with this server."""
        if self.pipelines_messages is not None:
            return self.pipelines_messages
        text = b" ".join(greeting.text)
        return any(kind == lmtp and words in text for kind, words in _TAKE_PIPELINED_MESSAGES)
