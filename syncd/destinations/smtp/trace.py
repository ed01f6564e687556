"""Fields that are put before a message that is delivered again: trace fields and, on request, `Resent-`. Pure.

    Received: from pop.example.net by laptop.example (syncd) with POP3        RFC 5321 §4.4, §3.7.2 (gateways)
     id K-ROUTE for <me@example.org>; Tue, 24 Nov 2026 03:00:00 +0000
    X-Syncd-Id: K-ROUTE
    Resent-Date, Resent-From, Resent-To, Resent-Message-ID                    RFC 5322 §3.6.6, only on request

The message below stays as it is, so signatures still verify (RFC 6376 §5.4.2 counts fields from the bottom).

The id is the same in every retry of a message to a recipient, also by another job, relay or machine. K stands for the
message (its place at the source and its octets), ROUTE for the source account and the recipient. The id is the
envelope's ENVID too (RFC 3461 §4.4), and a filter at the destination can use it to drop a second copy (Sieve, RFC
7352). A message that arrives with an id of the same ROUTE has been this way before: it goes round in a loop. Anyone can
write such an id, so it proves nothing (docs/decisions.md says why it is enough): the message waits for a person.
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

from syncd.mail.message import MessageRef

ID_FIELD = b"x-syncd-id"
MAX_RECEIVED = 100  # RFC 5321 §6.3: "at least 100 Received entries"; a real message has under 20
_LOOP = "seems to go round in a loop"
_KEY_CHARACTERS = 26  # 130 bits
_ROUTE_CHARACTERS = 10  # 50 bits: enough to tell the recipients of one person's jobs apart
_ID = re.compile(rb"[a-z2-7]{%d}-([a-z2-7]{%d})" % (_KEY_CHARACTERS, _ROUTE_CHARACTERS))


@dataclass(frozen=True, slots=True)
class Passage:
    """The source and our name, for the Received field. Without a `source` the mail comes from a local archive."""

    helo: str  # our name as in EHLO
    source: str = ""  # host name or address of the server that gave the message
    protocol: str = ""  # such as POP3


def route_tag(account: UUID, recipient: str) -> str:
    """Returns the ROUTE of an id. It does not depend on job or relay, so that neither hides a loop.

    It depends on the account: mail that was once delivered to a mailbox, and is now read there, may go on to the same
    address at another server.
    """
    return _base32(account.bytes + recipient.strip().lower().encode(), _ROUTE_CHARACTERS)


def trace_id(ref: MessageRef, sha256: bytes, tag: str) -> str:
    """Returns the id of a message on its way to a recipient: letters, digits, one hyphen (an atom, valid as xtext)."""
    origin = ref.origin
    place = b"%s %d %d " % (origin.account.bytes, origin.epoch, ref.occurrence)
    names = b"".join(b"%d:%s" % (len(name), name) for name in (origin.mailbox, ref.uid))
    return f"{_base32(tag.encode() + place + names + sha256, _KEY_CHARACTERS)}-{tag}"


def loop_reason(ids: Iterable[bytes], received: int, tag: str) -> str:
    """Returns why a message with these ids and so many Received fields seems to be in a loop, or ""."""
    for value in ids:
        known = _ID.fullmatch(value.strip())
        if known and known[1].decode() == tag:
            return f"{_LOOP}: it has our id of a delivery from this account to this recipient (X-Syncd-Id)"
    if received >= MAX_RECEIVED:
        return f"{_LOOP}: it has {received} Received fields (the limit is {MAX_RECEIVED}, RFC 5321 §6.3)"
    return ""


def trace_fields(passage: Passage, message_id: str, recipient: str, now: datetime) -> bytes:
    """Returns the fields Received and X-Syncd-Id, in ASCII, with CRLF."""
    came = f"from {_domain(passage.source)} " if passage.source else ""
    how = f" with {passage.protocol}" if passage.protocol else ""
    whom = (
        f" for <{recipient}>" if recipient.isascii() else ""
    )  # UTF-8 is allowed here only with SMTPUTF8 (RFC 6531 §3.7.3)
    lines = (
        f"Received: {came}by {_domain(passage.helo)} (syncd){how}",
        f" id {message_id}{whom};",
        f" {format_datetime(now)}",
        f"X-Syncd-Id: {message_id}",
    )
    return _lines(lines)


def resent_fields(message_id: str, sender: str, recipient: str, now: datetime) -> bytes:
    """Returns the Resent- block of a person who sends a message on; nothing if an address is not ASCII."""
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
    """Returns a name, or an address in the form of RFC 5321 §4.1.3."""
    if ":" in host and not host.startswith("["):
        return f"[IPv6:{host}]"
    if host.replace(".", "").isdigit():
        return f"[{host}]"
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return "unknown.invalid"  # RFC 2606 §2: a name that nobody can have
