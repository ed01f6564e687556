"""Values that travel: the identity of a message at its source, the message, and a destination's proof.

Plain values, shared by sources, destinations and engine. Tuples rather than dataclasses where one is
made for every message: they are built in a third of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, NewType
from uuid import UUID

from syncd.mail.body import Body
from syncd.mail.flags import Flags
from syncd.mail.mailbox import INBOX_PATH, Epoch, Path

Key = NewType("Key", int)  # id of a message's row in the ledger: the engine's handle
NO_KEY = Key(0)  # of a message that the ledger is not asked about: rows count from 1
Uid = NewType("Uid", bytes)  # POP3's unique-id, IMAP's UID in decimal digits, or what names a message in an archive


class Origin(NamedTuple):
    """The mailbox a message was listed in. The last three are facts about it and no part of any identity."""

    account: UUID
    account_name: str
    mailbox: bytes  # the server's octets
    epoch: Epoch
    path: Path = INBOX_PATH
    use: str = ""  # special use (RFC 6154 §2)
    subscribed: bool = True


class MessageRef(NamedTuple):
    """Identity at the source. `uid` is opaque; `occurrence` counts from 1 where a server gives one uid to several."""

    origin: Origin
    uid: Uid
    occurrence: int


@dataclass(slots=True)
class Message:
    """A message whose octets are here.

    `key` is the engine's handle (sources and destinations pass it on and never look inside). `path` is the mailbox at
    the destination, for destinations that have mailboxes: the engine sets it for each of them (`engine/mapping.py`).
    Whoever holds the message closes its body; inside the engine that is the writer, after the commit.
    """

    key: Key
    ref: MessageRef
    body: Body
    flags: Flags = ()
    internal_date: datetime | None = None  # keeps the offset it came with
    path: Path = INBOX_PATH
    labels: tuple[str, ...] = ()  # Gmail's, decoded and sorted


class StoredMessage(NamedTuple):
    """A message as an archive gives it back. The caller closes the body."""

    body: Body
    flags: Flags = ()
    internal_date: datetime | None = None
    labels: tuple[str, ...] = ()


ALTERED: Final = " [altered "  # begins a note behind a receipt's hint: who has altered the message, and how


def plain_hint(hint: str) -> str:
    """Returns a receipt's hint without the note that the message was altered."""
    plain, noted, note = hint.rpartition(ALTERED)
    return plain if noted and note.startswith("by ") and note.endswith("]") else hint


class Receipt(NamedTuple):
    """A destination's proof that it has a message.

    `sha256` is of the original octets. `hint` finds it sooner or names it for a person (a file name, a
    queue id); an archive must find the message without it where it can.
    """

    sha256: bytes
    hint: str = ""
