"""The Destination contract: deliver a batch, yield an outcome for each message as soon as it is known.

A destination never sees the ledger. One thread uses it. Its class of repeat (below) tells the engine
what must be committed before the act, and what a crash leaves in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from syncd.mail.body import Body
from syncd.mail.message import Message, MessageRef, Receipt

LOOP: Final = "goes round in a loop: "  # so begins the reason of a rejection that a person can override


class Repeat(Enum):
    """What delivering the same message again does."""

    SAFE = "safe"  # nothing: packs, Maildir
    ASKED = "asked"  # the intent says where to look: IMAP, mbox
    UNCERTAIN = "uncertain"  # perhaps a second copy: SMTP, LMTP


class Verdict(Enum):
    """What became of one delivery, or is about to become of it."""

    SENDING = "sending"  # its last octets leave next, and with them the certainty; another verdict follows
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"
    NOT_SENT = "not sent"  # surely: nothing of it counts at the other side

    __hash__ = object.__hash__  # Enum hashes the name, in Python, a microsecond each; a member is only ever itself


class Outcome(NamedTuple):
    """What became of the delivery of message `key`. `reason` is one printable line, empty when delivered.

    `refusal` is of a server's permanent no: what kind it is, without what is particular to this message, such as
    "550 5.7.60". Where one kind meets message after message, the engine stops instead of rejecting them all. Empty
    where the message alone is to blame (too large, not permitted), which we decided ourselves.

    `there_since` is of a message that an archive had already and cannot tell of in `places`: since when, by its disk.
    """

    key: int
    verdict: Verdict
    receipt: Receipt | None = None
    reason: str = ""
    retry_at: datetime | None = None
    refusal: str = ""
    there_since: datetime | None = None


class Place(NamedTuple):
    """A stored message and where it was seen: what seeds a new ledger."""

    ref: MessageRef
    sha256: bytes
    octets: int
    header_hash: bytes
    hint: str


class Destination(Protocol):
    """Where mail goes. Errors that are raised (rather than yielded) concern the destination as a whole."""

    repeat: Repeat

    def open(self) -> None:
        """Make ready: check that it is the one we know, take up what a crash left. Raises SyncdError."""
        ...

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        """Deliver; yield exactly one final outcome for each message, when its durability is known, in any order.

        Outcomes come in groups. Whoever asks for the next group has made this one durable in the ledger; between
        two groups nothing but what is SENDING may have become doubtful. A destination of class UNCERTAIN yields
        SENDING for a message (beside outcomes of others) and sends what ends that message only when it is asked to
        go on; where the iterator is dropped instead, it never does. Archives yield one group, at the end.

        `upcoming` is what will probably be delivered next, if that is known: a destination may begin with what costs
        time and leaves no trace.

        If it raises, messages without an outcome are not delivered as far as anyone knows: a repeat-safe
        destination takes them again. Those that were SENDING count as UNCERTAIN.
        """
        ...

    def close(self) -> None:
        """Let go of locks, files and threads. Repeatable; after an error it must not raise."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A destination whose `deliver` may take long: those of class UNCERTAIN are."""

    def stop(self) -> None:
        """From any thread: begin no further message. Repeatable, and for good.

        `deliver` then ends within a moment: it yields what becomes of the messages that are SENDING, as far as it
        is known within a second or so, and nothing for those that were not begun.
        """
        ...


@runtime_checkable
class Insistent(Protocol):
    """A destination that rejects what goes round in a loop, unless a person knows better."""

    def insist(self, keys: Collection[int]) -> None:
        """Deliver these messages all the same. Before `deliver`."""
        ...


class Archive(Destination, Protocol):
    """A local destination that can be read back."""

    def identity(self) -> UUID:
        """The UUID in the archive's own file. Raises ArchiveMissing when there is none."""
        ...

    def create(self, uuid: UUID) -> None:
        """Make an empty archive with this identity where there is none. Raises StorageError."""
        ...

    def read(self, receipt: Receipt) -> Body:
        """The octets of a stored message, checked against `receipt.sha256`.

        Raises FormatDamaged when they differ or are not there.
        """
        ...

    def places(self, account: UUID) -> Iterator[Place]:
        """Everything this archive holds of an account, streamed."""
        ...


@runtime_checkable
class Growing(Protocol):
    """An archive that nothing is ever taken from. Packs are one; from a Maildir, mail readers delete."""

    def extent(self) -> int:
        """Octets of what is durably stored, which never become less: an archive that has fewer is an older copy.

        Of one that is not open, those of its files, where an append may be unfinished. Raises ArchiveMissing,
        StorageError.
        """
        ...
