"""The words of a verification: what became of a message, and counts of that (pure values)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from syncd.mail.mailbox import Path


class Status(StrEnum):
    """The result for one message and one destination. The values stand in reports: they keep their meaning."""

    EQUAL = "equal"
    RECEIPT = "receipt"
    MOVED = "moved"
    ALTERED = "altered"
    GONE = "gone"
    SKIPPED = "skipped"
    WAITING = "waiting"
    UNFETCHABLE = "unfetchable"
    REJECTED = "rejected"
    HELD = "held"
    UNCERTAIN = "uncertain"
    DROPPED = "dropped"
    REMOVED = "removed"
    RELOCATED = "relocated"
    DIFFERENT = "different"
    UNREADABLE = "unreadable"


TITLES: Final = {
    Status.EQUAL: "equal",
    Status.RECEIPT: "accepted by the mail server, which cannot be asked",
    Status.MOVED: "moved: at the destination, and removed from the source by this job",
    Status.ALTERED: "altered, as recorded or by a stated rule",
    Status.GONE: "not in the source any more",
    Status.SKIPPED: "left out by the rules of the job, or because it is empty",
    Status.WAITING: "waiting for the next run, or for another try",
    Status.UNFETCHABLE: "not given by the source",
    Status.REJECTED: "rejected by the destination",
    Status.HELD: "held for a person",
    Status.UNCERTAIN: "uncertain: perhaps there",
    Status.DROPPED: "given up by a person",
    Status.REMOVED: "removed at the destination",
    Status.RELOCATED: "moved to another mailbox at the destination",
    Status.DIFFERENT: "there, and not equal",
    Status.UNREADABLE: "could not be compared",
}
NOT_LISTED: Final = frozenset({Status.EQUAL, Status.RECEIPT, Status.MOVED})  # only counted
DIFFERENCES: Final = frozenset(Status) - NOT_LISTED - {Status.ALTERED, Status.GONE, Status.SKIPPED}


class Case(NamedTuple):
    """A message of the source at one destination; both by their numbers. Without uid it is about the mailbox."""

    mailbox: int
    destination: int
    uid: bytes = b""
    occurrence: int = 1


class Entry(NamedTuple):
    """One message that is not equal or not there, and why. `uid` is empty where it is about the mailbox itself.

    `mailbox` is the path at the source, `place` the mailbox at the destination, as far as it is known.
    """

    mailbox: Path
    uid: str
    occurrence: int
    to: str
    place: str
    status: Status
    reason: str

    @property
    def differs(self) -> bool:
        """Returns whether the two sides differ here."""
        return self.status in DIFFERENCES


class Verdict(NamedTuple):
    """A status with its reason, which is empty where there is nothing to say."""

    status: Status
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """A mailbox at one destination: counts of statuses; and what is there, in which mailboxes.

    `messages` and `octets` count the messages of the source's mailbox that the destination has.
    """

    to: str
    counts: Counter[Status] = field(default_factory=Counter)
    messages: int = 0
    octets: int = 0
    places: set[str] = field(default_factory=set)

    @property
    def differences(self) -> int:
        """Returns how many messages differ, or are not there."""
        return sum(count for status, count in self.counts.items() if status in DIFFERENCES)


@dataclass(slots=True)
class MailboxProof:
    """A mailbox of the source, and its tally for each destination. With `chosen=False` the job leaves it out.

    `accounted` counts messages of the source with a status at every destination.
    """

    path: Path
    use: str
    messages: int = 0
    octets: int = 0
    chosen: bool = True
    tallies: list[Tally] = field(default_factory=list)


class DestinationProof(NamedTuple):
    """A destination: what it is, and what verification can say of it."""

    name: str
    kind: str  # "imap", "packs", "maildir", "smtp", "lmtp"
    compared: bool  # False: there are receipts only
    note: str


class Other(NamedTuple):
    """Messages of a mailbox at a destination that are no copy of a compared message.

    `alike` counts those that have the octets and the date of one that is: perhaps second copies.
    """

    to: str
    mailbox: str
    messages: int
    octets: int
    alike: int
