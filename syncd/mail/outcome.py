"""The outcome of a delivery, as destinations tell it and the ledger records it (pure values)."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import NamedTuple

from syncd.mail.message import Key, MessageRef, Receipt


class Repeat(Enum):
    """Says what delivering the same message again does. The values stand in the database."""

    SAFE = "safe"  # nothing: packs, Maildir
    ASKED = "asked"  # the intent says where to look: IMAP, mbox
    UNCERTAIN = "uncertain"  # perhaps a second copy: SMTP, LMTP


class Verdict(Enum):
    """The outcome of one delivery, or what is about to become of it."""

    SENDING = "sending"  # its last octets leave next, and with them the certainty; another verdict follows
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"  # there is nothing to deliver, now or later
    NOT_SENT = "not sent"  # surely: nothing of it counts at the other side

    __hash__ = object.__hash__  # Enum hashes the name, in Python, a microsecond each; a member is only ever itself


class Intent(NamedTuple):
    """The place that a message is about to be put into, as it stood just before the act.

    For IMAP: the mailbox by its name at the destination, its UIDVALIDITY, and its UIDNEXT or a number below it.
    """

    place: bytes
    validity: int
    following: int


class Intended(NamedTuple):
    """A delivery that is SENDING: what its message is, and where it was about to be put; None: that is not known.

    `since` is when that was recorded; None: just now.
    """

    key: Key
    octets: int
    sha256: bytes
    header_hash: bytes
    intent: Intent | None
    since: datetime | None = None


class Sought(NamedTuple):
    """A delivery that is UNCERTAIN, to be looked for where it may have arrived.

    It left after `since`; at `noticed` it was recorded that its outcome is not known.
    """

    key: Key
    ref: MessageRef
    octets: int
    sha256: bytes
    since: datetime
    noticed: datetime


class Outcome(NamedTuple):
    """The outcome of the delivery of message `key`. `reason` is one printable line, empty when delivered.

    `code` is the kind of a server's refusal, permanent or temporary, without what is particular to this message, such
    as "550 5.7.60". Where one kind meets message after message, the engine stops instead of rejecting them all. It is
    empty where the message or its recipient alone is to blame, by the server's words or by our own decision.

    `loop`: rejected by us because the message seems to go round; a person can insist.

    `there_since`: the file's change time, if the archive already held this message. Set only by archives that cannot
    enumerate their messages (Maildir).

    `altered`: the destination has stored other octets than it was given.

    `intent`: set by destinations that are asked by intent (`Repeat.ASKED`), also in the outcome that ends it.
    """

    key: Key
    verdict: Verdict
    receipt: Receipt | None = None
    reason: str = ""
    retry_at: datetime | None = None
    code: str = ""
    loop: bool = False
    there_since: datetime | None = None
    intent: Intent | None = None
    altered: bool = False


class Place(NamedTuple):
    """A stored message and where it was seen: what seeds a new ledger."""

    ref: MessageRef
    sha256: bytes
    octets: int
    header_hash: bytes
    hint: str
