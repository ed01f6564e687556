"""Plain values that the ledger takes and gives. Tuples where one is made for every message.

Masks are bits of a job's routes: `1 << route.slot`. Keys are ids of message rows: the engine's handle of a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from syncd.db.states import DeliveryState, MessageState
from syncd.mail.listing import LineNumber
from syncd.mail.mailbox import Epoch, Mailbox, Path
from syncd.mail.message import Key, Uid
from syncd.mail.outcome import Repeat


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One destination of one job. Its slot stays with it for good, its name is for people."""

    id: int
    slot: int
    name: str
    kind: str  # "archive" | "account"
    enabled: bool = True
    archive_id: int | None = None  # one of the two is set, by kind
    account_id: int | None = None
    target: str = ""  # recipient or mailbox; "" for archives
    repeat: Repeat = Repeat.SAFE

    @property
    def bit(self) -> int:
        """This route in the masks."""
        return 1 << self.slot


@dataclass(frozen=True, slots=True)
class RunScope:
    """The part of a scope that is fixed for a run. With an older `generation` than the run's row no write succeeds.

    `left_out` are mailboxes of the account that the job does not read: nothing of them counts for it.
    """

    run_id: int
    generation: int
    job_id: int
    account_id: int
    routes: tuple[RouteRow, ...]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MailboxScope:
    """One mailbox of a run. A scope whose `epoch` is not the mailbox's is refused with Conflict."""

    run: RunScope
    mailbox_id: int
    mailbox: Mailbox
    epoch: Epoch

    @property
    def routes(self) -> tuple[RouteRow, ...]:
        """The routes of the run."""
        return self.run.routes


class KnownMailbox(NamedTuple):
    """A listed mailbox beside what the ledger knows of it: what `engine.plan.visit` decides from.

    `planned`: the contents (and UIDVALIDITY) are those that every enabled route was planned with. `is_open`: a message
    is missing, or (asked only where mailboxes are planned) a delivery of the job may still change by itself.
    `present`: messages that are not gone.
    """

    scope: MailboxScope
    planned: bool
    is_open: bool
    present: int


class Became(NamedTuple):
    """The path that a mailbox of a source has at a destination. `by_use`: a special use gave it, which may change."""

    path: Path
    by_use: bool


class Freeze(IntEnum):
    """Why no message is removed from a mailbox until a person lifts it. The numbers stand in the database."""

    EMPTY = 1  # it turned up empty
    RENAMED = 2  # all its ids are new
    VALIDITY = 3  # its UIDVALIDITY changed
    RESTORED = 4  # an older copy of the ledger was put back


class Paused(IntEnum):
    """Why a job does not run by its schedule until a person resumes it. The numbers stand in the database."""

    PERSON = 1  # somebody paused it
    SIGN_IN = 2  # its sign-in was refused time after time
    DEATHS = 3  # its run ended its worker time after time


class FrozenMailbox(NamedTuple):
    """A mailbox from which no message is removed, and why."""

    mailbox_id: int
    name: bytes
    path: Path
    why: Freeze
    reason: str


class Overlap(NamedTuple):
    """A listing against what the ledger believed to be there in this epoch: counts of messages."""

    listed: int
    present_before: int
    in_both: int


class ListingReport(NamedTuple):
    """The changes that a recorded listing made: counts of messages. `overlap` of the `known` ones were present before.

    `id` is None for an unchanged listing: nothing was written.
    """

    id: int | None
    listed: int
    new: int
    known: int
    overlap: int
    missing: int
    gone: int
    returned: int
    unchanged: bool


class SuspectLine(NamedTuple):
    """A line of a listing that may belong to another message than `key`, whose header hash it carries."""

    key: Key
    number: LineNumber
    uid: Uid
    octets: int
    header_hash: bytes


class WorkRow(NamedTuple):
    """A listed message with at least one delivery to be attempted now.

    `attempts` and `retry_at` are about fetching it: 0 and None unless that failed; after a failure None waits for
    a person.
    """

    key: Key
    number: LineNumber
    uid: Uid
    occurrence: int
    octets: int  # as listed now
    state: MessageState
    sha256: bytes | None
    attempts: int
    retry_at: datetime | None
    pending_mask: int
    delivered_mask: int


class SoughtRow(NamedTuple):
    """A delivery that is UNCERTAIN: its message, after when it left, and when it was recorded as uncertain."""

    key: Key
    mailbox_id: int
    epoch: Epoch
    uid: Uid
    occurrence: int
    octets: int
    sha256: bytes
    since: datetime
    noticed: datetime


class RemovalRow(NamedTuple):
    """A message that may be removed. `octets`: of this listing; `received`: what came when it was fetched."""

    key: Key
    number: LineNumber
    uid: Uid
    octets: int
    received: int
    header_hash: bytes
    sha256: bytes


class BackfillRow(NamedTuple):
    """A message that one of the job's archives holds and another of its routes still waits for."""

    key: Key
    mailbox_id: int
    epoch: Epoch
    uid: Uid
    occurrence: int
    octets: int
    sha256: bytes
    pending_mask: int
    delivered_mask: int  # archives only
    hints: Mapping[int, str]  # route id → hint of the receipt, where there is one


@dataclass(frozen=True, slots=True)
class Accounting:
    """Counts where every message of the account's mailboxes stands: each is in exactly one of the last four groups.

    `messages` and `deliveries` (of the job's routes) count states. `undelivered` counts message × route pairs that have
    no row yet: none for a listed message once its listing is recorded.
    """

    messages: Mapping[MessageState, int]
    deliveries: Mapping[DeliveryState, int]
    undelivered: int
    due: int  # something can be attempted now
    waiting_time: int  # everything that is left has a time to be tried again
    waiting_person: int  # nothing is left that goes on by itself
    final: int
    removed: int = 0  # of the messages present in the last listing: removed by us since
    removing: int = 0  # the same, but the server did not say whether it did it

    @property
    def at_source(self) -> int:
        """Messages that are at the source, as far as we know."""
        return self.listed - self.removed

    @property
    def listed(self) -> int:
        """Messages present in the last listing: to be compared with what the server counted."""
        states = (MessageState.LISTED, MessageState.FETCHED, MessageState.UNFETCHABLE)
        return sum(self.messages.get(state, 0) for state in states)


class Resolved(NamedTuple):
    """Counts of what became of uncertain deliveries."""

    resent: int
    held: int


class Cause(IntEnum):
    """Why something is suspended, see `ledger.suspensions`. The numbers stand in the database."""

    SERVER = 0
    LIMIT = 1
    SIGN_IN = 2
    REFUSED = 3


class Suspension(NamedTuple):
    """A destination or an account that is not contacted before `until`, and why; after so many `tries` in a row.

    `limit` is the job's own limit that is used up (cause LIMIT), as its settings write it, such as "2000/day".
    """

    until: datetime
    reason: str
    cause: Cause = Cause.SERVER
    tries: int = 0
    limit: str = ""


class ProblemKind(IntEnum):
    """Says what a problem is about. The numbers stand in the database."""

    FETCH = 0  # the message cannot be fetched
    KEPT = 1  # the message is not removed at its source
    DELIVERY = 2
    LOOP = 3  # rejected by us, as it seems to go round
    DAMAGED = 4  # an archive cannot give its copy back


class ProblemRow(NamedTuple):
    """One thing that went wrong with one message, and what is to come of it.

    `job`, `destination` and `delivery` are None where it is about the message itself: FETCH, KEPT.
    `kind` is None where nothing is wrong but that the message may have arrived, or more than once (`uncertain`).
    """

    key: Key
    route_id: int  # 0 where it is about the message itself
    kind: ProblemKind | None
    account: str
    mailbox: bytes
    path: Path  # of the mailbox
    uid: Uid
    occurrence: int
    job: str | None
    destination: str | None
    target: str  # its recipient or mailbox; "" for archives
    message: MessageState
    delivery: DeliveryState | None
    reason: str
    attempts: int
    first_at: datetime
    last_at: datetime
    retry_at: datetime | None  # None: waits for a person
    uncertain: int  # recorded uncertain outcomes of this delivery
    octets: int  # as fetched, else as listed
    sha256: bytes | None  # None: never fetched
    protocol: str  # of the account: "pop3", "imap", or "archive"


class Progress(NamedTuple):
    """The progress of a run: written with its batches, read by whoever looks. `notes` are new lines for a person."""

    phase: str
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()


class AccountRow(NamedTuple):
    """A server and a login, as the ledger knows it."""

    id: int
    uuid: UUID
    name: str
    fingerprint: str


class ArchiveRow(NamedTuple):
    """A local store. `made`: it exists on disk, or did; otherwise the first run that delivers to it makes it."""

    id: int
    uuid: UUID
    name: str
    path: str
    format: str
    made: bool


class JobRow(NamedTuple):
    """A job and its enabled routes in the order of their slots."""

    id: int
    name: str
    account_id: int
    removes: bool
    removal_confirmed: bool
    routes: tuple[RouteRow, ...]
