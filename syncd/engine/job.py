"""The work that the engine is given: one job with live source and destinations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from syncd.db.rows import AccountRow, Freeze, RouteRow
from syncd.destinations.base import Archive, Destination, Probe
from syncd.engine.mapping import Paths
from syncd.mail.allowance import Allowance
from syncd.mail.mailbox import Epoch, Mailbox
from syncd.mail.message import Origin
from syncd.mail.outcome import Repeat
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.sources.base import Source


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One of several connections to a destination, for one thread at a time (`lock`)."""

    destination: Destination
    lock: threading.Lock


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
    limits: frozenset[str] = frozenset()  # that the job sets, in the words of `errors.Throttled.limit`
    paths: Paths = field(default_factory=Paths)  # of the source's mailboxes, where the destination has mailboxes
    take: Callable[[], None] = lambda: None  # takes the destination's lease before it is written to. Raises LeaseHeld
    is_counted: bool = False  # octets that leave count, as the account has a daily limit
    more: tuple[Connection, ...] = ()  # connections to the destination beside the first
    hold_uncertain: bool = False  # `uncertain = "hold"`: a person decides; otherwise the message is sent again
    probe: Probe | None = None  # `uncertain = "probe"`: first it is looked for here

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Returns the connections to the destination: one, or several that are used at the same time."""
        return Connection(self.destination, self.lock), *self.more

    @property
    def bit(self) -> int:
        """This route in the ledger's masks."""
        return 1 << self.row.slot

    @property
    def repeats(self) -> bool:
        """Delivering again changes nothing: then a batch is committed once, at its end."""
        return self.row.repeat is Repeat.SAFE

    @property
    def asked(self) -> bool:
        """The destination can be asked what became of a delivery, by its intent."""
        return self.row.repeat is Repeat.ASKED


def origin(account: AccountRow, mailbox: Mailbox, epoch: Epoch) -> Origin:
    """Returns a mailbox of the account as messages carry it, and archives record it."""
    return Origin(account.uuid, account.name, mailbox.name, epoch, mailbox.path, mailbox.use, mailbox.subscribed)


@dataclass(frozen=True, slots=True)
class RemovalPolicy:
    """`leave_on_server` when it is not true: remove what has been delivered for `after`."""

    after: timedelta
    confirmed: bool
    confirm: Callable[[int], bool] | None = None  # asks a person, given how many; None where nobody can answer
    lifted: bool = False  # a person looked at what was frozen: in this run no size keeps a message from being removed
    beside: Mapping[int, Selection] = field(default_factory=dict)  # other jobs on the account, and what they read


@dataclass(frozen=True, slots=True)
class Job:
    """One source, its routes (archives first) and the policy."""

    name: str
    job_id: int
    account: AccountRow
    source: Source
    routes: tuple[Route, ...]
    message_octets: int
    removal: RemovalPolicy | None = None
    brake: bool = True  # stop a destination that refuses everything, instead of rejecting message after message
    lifted: Mapping[int, Freeze] = field(
        default_factory=dict
    )  # mailbox id → the freeze that a person lifts with this run
    by_hand: bool = False  # somebody watches: what we suspended on our own is tried
    selection: Selection = EVERYTHING  # the mailboxes that it reads
    allowance: Allowance | None = None  # of octets that the account gives in a day

    @property
    def limits(self) -> frozenset[str]:
        """Returns the limits of the source, in the words of `errors.Throttled.limit`."""
        return frozenset() if self.allowance is None else frozenset({self.allowance.limit})

    @property
    def hold(self) -> frozenset[int]:
        """Ids of the routes whose uncertain deliveries wait for a person."""
        return frozenset(route.row.id for route in self.routes if route.hold_uncertain)

    def close(self) -> None:
        """Close the archives that it read from. Repeatable."""
        for route in self.routes:
            if route.archive is not None:
                route.archive.close()
