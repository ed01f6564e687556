"""Decisions about a message before any of it is sent: the envelope sender, and whether the server can take it.

Pure and bounded: at most HEADER_CAP_OCTETS of the header are read; `Content` knows the octets of the body. An objection
is one line for a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from syncd.destinations.smtp.trace import ID_FIELD
from syncd.mail.addresses import is_address
from syncd.mail.body import Body
from syncd.mail.headers import HEADER_CAP_OCTETS, raw_fields
from syncd.smtp.content import MAX_LINE_OCTETS, Content
from syncd.smtp.values import Capabilities

ORIGINAL = "original"  # a choice of envelope sender; the other choices are an address, or "" for <>

_ADDRESS_FIELDS = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc"})
_BETWEEN_ADDRESSES = re.compile(rb'[\s<>,;:"]+')
_NAME_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"(?!@)|\([^()]*\)')  # but not a quoted local part
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
_BETWEEN_WORDS = re.compile(r"[\s<>,;]+")


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a message that matter here. `return_path` is None if there is none, and "" for a bounce."""

    return_path: str | None
    from_field: bytes
    received: int
    ids: tuple[bytes, ...]  # values of X-Syncd-Id
    utf8_addresses: bool  # an address in the header is UTF-8 (RFC 6532)

    @property
    def author(self) -> str:
        """Returns the first address of From, "" if there is none."""
        return _first_address(self.from_field) or ""


@dataclass(frozen=True, slots=True)
class Offer:
    """The announced capabilities that matter here. `octets`: the server's limit, 0 for none (RFC 1870 §4)."""

    octets: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    chunking: bool = False

    @classmethod
    def of(cls, announced: Capabilities) -> Offer:
        """Returns the offer in the reply to EHLO or LHLO."""
        words = ("8BITMIME" in announced, "SMTPUTF8" in announced, "CHUNKING" in announced)
        return cls(announced.size, *words)


@dataclass(frozen=True, slots=True)
class Terms:
    """The recipient, and how to treat messages that the server may not like."""

    recipient: str
    send_eight_bit: bool = False  # even to a server that does not announce 8BITMIME
    refuse_long_lines: bool = False


def examine(body: Body) -> Facts:
    """Returns the facts of a message."""
    start = next(iter(body.chunks()), b"")[:HEADER_CAP_OCTETS]
    return_path, from_field, received, ids, utf8 = None, b"", 0, [], False
    for name, value in raw_fields(start):
        if name == b"return-path" and return_path is None:
            return_path = _first_address(value) if value.strip() != b"<>" else ""
        elif name == b"received":
            received += 1
        elif name == ID_FIELD:
            ids.append(value)
        elif name in _ADDRESS_FIELDS:
            from_field = from_field or (value if name == b"from" else b"")
            utf8 = utf8 or (not value.isascii() and _is_utf8(value) and _has_utf8_address(value))
    return Facts(return_path, from_field, received, tuple(ids), utf8)


def reverse_path(choice: str, facts: Facts) -> str:
    """Returns the envelope sender. A message that came with the null sender keeps it in any case (RFC 5321 §4.5.5)."""
    if facts.return_path == "":
        return ""
    if choice == ORIGINAL:
        return facts.return_path or facts.author
    return choice


def needs_smtputf8(sender: str, facts: Facts, terms: Terms) -> bool:
    """Returns whether the transaction must say SMTPUTF8 (RFC 6531 §3.4)."""
    return facts.utf8_addresses or not (sender + terms.recipient).isascii()


def objection(sender: str, facts: Facts, content: Content, terms: Terms, offer: Offer) -> str:
    """Returns why the server cannot take the message, with advice; "" if it can."""
    if 0 < offer.octets < content.octets:
        return (
            f"has {content.octets:,} octets, and the server takes at most {offer.octets:,} (SIZE); deliver it elsewhere"
        )
    if not offer.smtputf8 and not (sender + terms.recipient).isascii():
        return "sender or recipient is not ASCII and the server does not announce SMTPUTF8; use an ASCII address"
    if content.eight_bit and not (offer.eight_bit or terms.send_eight_bit):
        return 'has 8-bit octets and the server does not announce 8BITMIME; to send it anyway: eight_bit = "send"'
    if facts.utf8_addresses and not (offer.smtputf8 or terms.send_eight_bit):
        return (
            "an address in its header is UTF-8 and the server does not announce SMTPUTF8; "
            'to send it anyway: eight_bit = "send"'
        )
    if terms.refuse_long_lines and not offer.chunking and content.long_lines:
        return (
            f"has a line over {MAX_LINE_OCTETS - 2} octets and the server does not announce CHUNKING; "
            'to send it anyway: long_lines = "send"'
        )
    return ""


def _first_address(value: bytes) -> str | None:
    """Returns the first address of a field that an envelope could carry, or None.

    Names and comments are removed first. Then addresses in angle brackets are tried, then any word. This does not use
    `email.utils`, which runs out of stack on nested comments.
    """
    text = value.decode() if _is_utf8(value) else value.decode("latin-1")
    text = _NAME_OR_COMMENT.sub(" ", text)
    candidates = (*_IN_BRACKETS.findall(text), *_BETWEEN_WORDS.split(text))
    return next((word for word in candidates if is_address(word)), None)


def _has_utf8_address(value: bytes) -> bool:
    return any(b"@" in word and not word.isascii() for word in _BETWEEN_ADDRESSES.split(value))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
