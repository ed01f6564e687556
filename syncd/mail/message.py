"""What travels: the identity of a message at its source, the message, and a destination's proof.

Plain values, shared by sources, destinations and engine. Tuples rather than dataclasses where one is
made for every message: they are built in a third of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from syncd.mail.body import Body

INBOX = b"INBOX"  # POP3's single maildrop (RFC 1939), and IMAP's first mailbox


class Origin(NamedTuple):
    """The mailbox a message was listed in. `epoch` is UIDVALIDITY, or the generation of a POP3 account's UIDLs."""

    account: UUID
    account_name: str
    mailbox: bytes  # as the server spells it
    epoch: int


class MessageRef(NamedTuple):
    """Identity at the source. `uid` is opaque; `occurrence` counts from 1 where a server gives one uid to several."""

    origin: Origin
    uid: bytes
    occurrence: int


@dataclass(slots=True)
class Message:
    """A message whose octets are here.

    `key` is the engine's handle (sources and destinations pass it on and never look inside).
    Whoever holds the message closes its body; inside the engine that is the writer, after the commit.
    """

    key: int
    ref: MessageRef
    body: Body
    flags: tuple[str, ...] = ()
    internal_date: datetime | None = None  # keeps the offset it came with


class Receipt(NamedTuple):
    """A destination's proof that it has a message.

    `sha256` is of the original octets. `hint` finds it sooner or names it for a person (a file name, a
    queue id); an archive must find the message without it where it can.
    """

    sha256: bytes
    hint: str = ""
