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
from syncd.mail.alterations import MOST_OCTETS, ways
from syncd.mail.body import HEADER_CAP_OCTETS, Body
from syncd.mail.outcome import Outcome

_STORES: Final = re.compile(
    rb"^(?:Status|X-Status|X-UID|X-Keywords|X-IMAP|X-IMAPbase|Content-Length):", re.IGNORECASE | re.MULTILINE
)
_EIGHT_BIT: Final = re.compile(rb"[\x80-\xff]")


def at_risk(body: Body) -> bool:
    """Returns whether a server may store other octets than these."""
    carried, ends, first = b"", False, True
    for chunk in body.chunks():
        if first and _is_odd(chunk[:HEADER_CAP_OCTETS]):
            return True
        first, octets = False, carried + chunk
        carried = b"\r" if octets.endswith(b"\r") else b""  # its LF may begin the next chunk
        if b"\0" in chunk or _has_bare(octets[: len(octets) - len(carried)]):
            return True
        ends = octets.endswith(b"\r\n")
    return not ends


def compared(outcome: Outcome, sent: Body, stored: Body) -> Outcome:
    """Returns the outcome of a message that was read back: whether its octets were altered, and in what way."""
    if outcome.receipt is None or stored.sha256 == sent.sha256:
        return outcome
    is_small = max(sent.octets, stored.octets) <= MOST_OCTETS
    how = ways(b"".join(sent.chunks()), b"".join(stored.chunks())) if is_small else ()
    return outcome._replace(receipt=outcome.receipt._replace(hint=outcome.receipt.hint + altered(how)), altered=True)


def _is_odd(start: bytes) -> bool:
    header = start.partition(b"\r\n\r\n")[0]
    return (
        start.startswith((b"From ", b"\r\n"))
        or _EIGHT_BIT.search(header) is not None
        or _STORES.search(header) is not None
    )


def _has_bare(octets: bytes) -> bool:
    pairs = octets.count(b"\r\n")
    return octets.count(b"\n") != pairs or octets.count(b"\r") != pairs
