"""What is put before a message that is delivered again: trace fields, and perhaps a `Resent-` block. Pure.

    Received: from pop.example.net by laptop.example (syncd) with POP3        RFC 5321 §4.4, §3.7.2 (gateways)
     id K-ROUTE for <me@example.org>; Tue, 24 Nov 2026 03:00:00 +0000
    X-Syncd-Id: K-ROUTE
    Resent-Date, Resent-From, Resent-To, Resent-Message-ID                    RFC 5322 §3.6.6, only if asked for

Nothing below is touched, so that signatures still verify (RFC 6376 §5.4.2 counts from the bottom).

The id stays the same over every retry of a message to a recipient, also by another job, relay or machine: K says
which message it is (its place at the source and its octets), ROUTE from which account to whom it went. It is the
envelope's ENVID too (RFC 3461 §4.4), and lets a filter at the destination drop a second copy (Sieve, RFC 7352). A
message that comes with an id that ends in the same ROUTE has been this way before: it goes round in a loop. It is not
a proof, anybody can write such an id (docs/decisions.md says why that is enough): it waits for a person.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from syncd.destinations.base import LOOP
from syncd.mail.message import MessageRef

ID_FIELD = b"x-syncd-id"
MAX_RECEIVED = 100  # RFC 5321 §6.3: "at least 100 Received entries"; a real message has under 20
_KEY_CHARACTERS = 26  # 130 bits
_ROUTE_CHARACTERS = 10  # 50 bits: enough to tell the recipients of one person's jobs apart
_ID = re.compile(rb"[a-z2-7]{%d}-([a-z2-7]{%d})" % (_KEY_CHARACTERS, _ROUTE_CHARACTERS))


@dataclass(frozen=True, slots=True)
class Passage:
    """Where mail comes from and who we are, for the Received field. Without a `source` it was stored here."""

    helo: str  # our name as in EHLO
    source: str = ""  # host name or address of the server that gave the message
    protocol: str = ""  # such as POP3


def route_tag(account: UUID, recipient: str) -> str:
    """Which way it goes: neither another job nor another relay hides a loop.

    The account counts: what was once delivered to a mailbox, and is now read there, may go on to that same address at
    another server.
    """
    return _base32(account.bytes + recipient.strip().lower().encode(), _ROUTE_CHARACTERS)


def trace_id(ref: MessageRef, sha256: bytes, tag: str) -> str:
    """The id of a message on its way to a recipient: letters, digits and one hyphen (an atom, and xtext as it is)."""
    origin = ref.origin
    place = b"%s %d %d " % (origin.account.bytes, origin.epoch, ref.occurrence)
    names = b"".join(b"%d:%s" % (len(name), name) for name in (origin.mailbox, ref.uid))
    return f"{_base32(tag.encode() + place + names + sha256, _KEY_CHARACTERS)}-{tag}"


def loops(ids: Iterable[bytes], received: int, tag: str) -> str:
    """Why a message with these ids and so many Received fields goes round in a loop; nothing if it does not."""
    for value in ids:
        known = _ID.fullmatch(value.strip())
        if known and known[1].decode() == tag:
            return f"{LOOP}it carries our id of a delivery from this account to this recipient (X-Syncd-Id)"
    if received >= MAX_RECEIVED:
        return f"{LOOP}it has {received} Received fields (RFC 5321 §6.3 takes 100 for one)"
    return ""


def trace_fields(passage: Passage, message_id: str, recipient: str, now: datetime) -> bytes:
    """Received and X-Syncd-Id, ASCII, with CRLF."""
    came = f"from {_domain(passage.source)} " if passage.source else ""
    how = f" with {passage.protocol}" if passage.protocol else ""
    whom = f" for <{recipient}>" if recipient.isascii() else ""  # UTF-8 here is for SMTPUTF8 alone (RFC 6531 §3.7.3)
    lines = (
        f"Received: {came}by {_domain(passage.helo)} (syncd){how}",
        f" id {message_id}{whom};",
        f" {format_datetime(now)}",
        f"X-Syncd-Id: {message_id}",
    )
    return _lines(lines)


def resent_fields(message_id: str, sender: str, recipient: str, now: datetime) -> bytes:
    """The block of a person who sends a message on; nothing where an address is not ASCII."""
    if not (sender + recipient).isascii():
        return b""
    lines = (
        f"Resent-Date: {format_datetime(now)}",
        f"Resent-From: <{sender}>",
        f"Resent-To: <{recipient}>",
        f"Resent-Message-ID: <{message_id}@{sender.rpartition('@')[2]}>",
    )
    return _lines(lines)


def _base32(octets: bytes, characters: int) -> str:
    return b32encode(hashlib.sha256(octets).digest()).decode().lower()[:characters]


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _domain(host: str) -> str:
    """A name or an address as RFC 5321 §4.1.3 writes it."""
    if ":" in host and not host.startswith("["):
        return f"[IPv6:{host}]"
    if host.replace(".", "").isdigit():
        return f"[{host}]"
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return "unknown.invalid"  # RFC 2606 §2: a name that cannot be mistaken for somebody's
