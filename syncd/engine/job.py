"""What the engine is given to do: one job with live source and destinations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from syncd.db.ledger import RouteRow
from syncd.db.rows import AccountRow, MailboxRow
from syncd.destinations.base import Archive, Destination, Repeat
from syncd.sources.base import Source


@dataclass(frozen=True, slots=True)
class Route:
    """A destination as one job uses it. `lock`: jobs of one process may share an archive, one batch at a time.

    `archive` is the same archive for this job to read from, without the lock; None where it cannot be read back.
    """

    row: RouteRow
    name: str
    destination: Destination
    archive: Archive | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    limits: frozenset[str] = frozenset()  # that the job sets, in the words of whoever counts them
    hold_uncertain: bool = False  # `uncertain = "hold"`: a person decides; otherwise it is sent again

    @property
    def bit(self) -> int:
        """This route in the ledger's masks."""
        return 1 << self.row.slot

    @property
    def repeats(self) -> bool:
        """Whether delivering again changes nothing: then a batch is committed once, at its end."""
        return self.destination.repeat is Repeat.SAFE


@dataclass(frozen=True, slots=True)
class RemovalPolicy:
    """`leave_on_server` when it is not true: remove what has been delivered for `after`."""

    after: timedelta
    confirmed: bool
    confirm: Callable[[int], bool] | None = None  # asks a person, given how many; None where nobody can answer
    lifted: bool = False  # a person looked at what was frozen: in this run no size holds a message back


@dataclass(frozen=True, slots=True)
class Job:
    """One source, its routes (archives first) and the policy."""

    name: str
    job_id: int
    account: AccountRow
    mailbox: MailboxRow
    source: Source
    routes: tuple[Route, ...]
    message_octets: int
    removal: RemovalPolicy | None = None
    brake: bool = True  # stop a destination that refuses everything, instead of rejecting message after message
    lifted: str | None = None  # why removals were frozen, where a person lifts that with this run
    by_hand: bool = False  # somebody watches: what we hold back from on our own is tried

    @property
    def hold(self) -> frozenset[int]:
        """Ids of the routes whose uncertain deliveries wait for a person."""
        return frozenset(route.row.id for route in self.routes if route.hold_uncertain)

    def close(self) -> None:
        """Let go of what its archives were read with. Repeatable."""
        for route in self.routes:
            if route.archive is not None:
                route.archive.close()
