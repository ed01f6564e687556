"""Messages that a server may change while it stores them and says OK (I154): they are read back. Pure.

8-bit octets in the header             Cyrus writes X for each
NUL                                    Dovecot writes 0x80, mailutils cuts there
CR or LF alone                         most make it CRLF, Courier drops it
no line end at the end                 Courier adds one
a first line "From …" or empty         Dovecot's mbox and mailutils drop it
Status, X-UID, Content-Length, …       Dovecot's mbox takes them out
"""

from __future__ import annotations

import re
from typing import Final

from syncd.destinations.imap.ask import altered
from syncd.formats.line_ends import all_crlf
from syncd.mail.alterations import MOST_OCTETS, ways
from syncd.mail.body import HEADER_CAP_OCTETS, Body
from syncd.mail.outcome import Outcome

_STORES: Final = re.compile(
    rb"^(?:Status|X-Status|X-UID|X-Keywords|X-IMAP|X-IMAPbase|Content-Length):", re.IGNORECASE | re.MULTILINE
)


def at_risk(body: Body) -> bool:
    """Returns whether a server may store other octets than these."""
    last = b""
    for chunk in body.chunks():
        if b"\0" in chunk or (not last and _is_odd(chunk[:HEADER_CAP_OCTETS])):
            return True
        last = chunk
    return not last.endswith(b"\n") or not all_crlf(body.chunks())


def compared(outcome: Outcome, sent: Body, stored: Body) -> Outcome:
    """Returns the outcome of a message that was read back: whether its octets were altered, and in what way."""
    if outcome.receipt is None or stored.sha256 == sent.sha256:
        return outcome
    is_small = max(sent.octets, stored.octets) <= MOST_OCTETS
    how = ways(b"".join(sent.chunks()), b"".join(stored.chunks())) if is_small else ()
    return outcome._replace(receipt=outcome.receipt._replace(hint=outcome.receipt.hint + altered(how)), altered=True)


def _is_odd(start: bytes) -> bool:
    header = start.partition(b"\r\n\r\n")[0]
    return start.startswith((b"From ", b"\r\n")) or not header.isascii() or _STORES.search(header) is not None
