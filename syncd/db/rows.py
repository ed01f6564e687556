"""What the ledger takes and gives, as plain values. Tuples where one is made for every message.

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


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One destination of one job. Its slot stays with it for good, its name is for people."""

    id: int
    slot: int
    name: str
    kind: str  # "archive" | "account"
    enabled: bool = True
    archive_id: int | None = None  # the one of its kind
    account_id: int | None = None
    target: str = ""  # recipient or mailbox; "" for archives

    @property
    def bit(self) -> int:
        """This route in the masks."""
        return 1 << self.slot


@dataclass(frozen=True, slots=True)
class Scope:
    """What one run works on. `epoch` is the mailbox's: a scope older than it is refused with Conflict."""

    run_id: int
    job_id: int
    account_id: int
    mailbox_id: int
    epoch: int
    routes: tuple[RouteRow, ...]


class Overlap(NamedTuple):
    """A listing against what the ledger believed to be there in this epoch: counts of messages."""

    listed: int
    present_before: int
    in_both: int


class ListingReport(NamedTuple):
    """What a recorded listing changed: counts of messages. Of the `known` (not `new`) `overlap` were present before."""

    id: int
    listed: int
    new: int
    known: int
    overlap: int
    missing: int
    gone: int
    returned: int
    unchanged: bool


class DoubtfulLine(NamedTuple):
    """A line of a listing that may be of another message than the one it was matched to, whose header hash it has."""

    number: int
    uid: bytes
    octets: int
    header_hash: bytes


class WorkRow(NamedTuple):
    """A listed message with at least one delivery to be attempted now.

    `attempts` and `retry_at` are about fetching it: 0 and None unless that failed; after a failure None waits for
    a person.
    """

    key: int
    number: int
    uid: bytes
    occurrence: int
    octets: int  # as listed now
    state: MessageState
    sha256: bytes | None
    attempts: int
    retry_at: datetime | None
    pending_mask: int
    delivered_mask: int


class RemovalRow(NamedTuple):
    """A message that may be removed. `octets`: of this listing; `received`: what came when it was fetched."""

    key: int
    number: int
    uid: bytes
    octets: int
    received: int
    header_hash: bytes
    sha256: bytes


class StrayRow(NamedTuple):
    """A message that one of the job's archives holds and another of its routes still waits for."""

    key: int
    mailbox: bytes
    epoch: int
    uid: bytes
    occurrence: int
    octets: int
    sha256: bytes
    pending_mask: int
    delivered_mask: int  # archives only
    hints: Mapping[int, str]  # route id → hint of the receipt, where there is one


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every message of the mailbox's epoch stands: each is in exactly one of the four groups at the end.

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

    @property
    def listed(self) -> int:
        """Messages present in the last listing: to be compared with what the server counted."""
        states = (MessageState.LISTED, MessageState.FETCHED, MessageState.UNFETCHABLE)
        return sum(self.messages.get(state, 0) for state in states)


class Settled(NamedTuple):
    """What became of uncertain deliveries: counts."""

    resent: int
    held: int


class Cause(IntEnum):
    """Why something is left alone, see `suspensions`. The numbers stand in the database."""

    SERVER = 0
    LIMIT = 1
    SIGN_IN = 2
    REFUSED = 3


class Suspension(NamedTuple):
    """A destination or an account that is to be left alone until then, and why; after so many `tries` in a row."""

    until: datetime
    reason: str
    cause: Cause = Cause.SERVER
    tries: int = 0


class ProblemRow(NamedTuple):
    """One thing that went wrong with one message, and what is to come of it.

    `job`, `destination` and `delivery` are None where it is about the message itself: it cannot be fetched, or removed.
    With `delivery` DELIVERED nothing is wrong but that it may be there more than once.
    """

    key: int
    route_id: int  # 0 where it is about the message itself
    account: str
    mailbox: bytes
    uid: bytes
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


class AccountRow(NamedTuple):
    """A server and a login, as the ledger knows it. `frozen_reason` is None unless removals stand still."""

    id: int
    uuid: UUID
    name: str
    fingerprint: str
    frozen_reason: str | None


class ArchiveRow(NamedTuple):
    """A local store."""

    id: int
    uuid: UUID
    name: str
    path: str
    format: str


class JobRow(NamedTuple):
    """A job and its enabled routes in the order of their slots."""

    id: int
    name: str
    account_id: int
    removes: bool
    removal_confirmed: bool
    routes: tuple[RouteRow, ...]


class MailboxRow(NamedTuple):
    """A container at an account. `epoch` is UIDVALIDITY, or the generation of a POP3 account's UIDLs (from 1)."""

    id: int
    epoch: int
