"""Leases: the right to work on a job, a source account or an archive, with an expiry and a generation that only grows.

    resource     job:<id>   account:<uuid>   archive:<uuid>   relay:<account id>   one row each, never deleted
    acquire      all or none, in one transaction: free, expired, or its owner dead on this machine → generation + 1
    fence        first statement of every ledger transaction: still our generation? It holds the row until the commit,
                 so nobody takes over in between
    renew        every 20 s, all leases of this process at once (`renewal`); a lease lasts 60 s
    check        before an act that cannot be undone: is the deadline far enough away?

Expiry is decided by the database's clock, never by a worker's, so that machines whose clocks differ agree. The
deadline is the holder's own view: CLOCK_BOOTTIME, which runs on through a suspend, counted from before the renewal was
sent, so it never ends later than the database's. A process that was frozen past its lease and wakes up finds its
deadline passed, renews, and goes on if nobody took over; if somebody did, its next fence or check raises LeaseLost
and it never writes again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Final, Protocol, Self
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    cast,
    literal,
    or_,
    select,
    text,
    update,
)

from syncd import clock
from syncd.db.database import Database
from syncd.db.database_time import NOW, database_now
from syncd.db.holder import Holder
from syncd.db.models import accounts, archives, jobs, leases
from syncd.db.renewal import RENEW_S, Renewer, renewer
from syncd.errors import LeaseHeld, LeaseLost, LedgerError, StorageError

log = logging.getLogger(__name__)  # for information: what matters to the run is raised by its next `fence` or `check`

EXPIRY_S: Final = 60.0
FAR_AWAY: Final = 10  # times the expiry

_ADD: Final = text(
    "INSERT INTO leases (resource, generation, holder, expires_at) VALUES (:resource, 0, '', 0)"
    " ON CONFLICT (resource) DO NOTHING"
)
# FOR KEY SHARE keeps those out that take a lease (FOR UPDATE), and lets renewals through. If these waited for each
# other, the renewal of all leases of a process and the commits of its runs would meet in deadlocks.
_FENCE: Final = (
    select(leases.c.resource, leases.c.generation)
    .where(leases.c.resource.in_(bindparam("resources", expanding=True)))
    .order_by(leases.c.resource)
    .with_for_update(read=True, key_share=True)
)


def unexpired(connection: Connection) -> ColumnElement[bool]:
    """Tells whether a lease lasts still."""
    return lasts(connection.dialect.name)


def lasts(dialect: str, farthest: float | ColumnElement[float] = FAR_AWAY * EXPIRY_S) -> ColumnElement[bool]:
    """Tells the same, for a statement that is made once for each dialect.

    No lease ends further ahead than `farthest` (seconds), unless the clock went back: then only a living owner keeps
    it, by renewing.
    """
    now = NOW[dialect]
    return leases.c.expires_at.between(now, now + farthest)


_USES: Final = {  # for people: what a lease is of, how its owner uses that, and whether the owner's words tell more
    "job": ("job", "is in use", False),
    "account": ("account", "is in use", True),
    "archive": ("archive", "is being written to", False),
    "relay": ("account", "is being used to send mail", False),
    "mailboxes": ("account", "is being filled", False),
}

LEADER: Final = "scheduler"  # the right to queue what is due: one of all schedulers has it


def job_resource(job_id: int) -> str:
    """The right to run a job. Two configurations of one database may each have a job of one name: these run at once."""
    return f"job:{job_id}"


def job_resource_of(job_id: ColumnElement[int]) -> ColumnElement[str]:
    """Returns the same for a column, inside a statement."""
    return literal("job:").concat(cast(job_id, Text))


def account_resource(uuid: UUID) -> str:
    """The right to read from and remove at an account."""
    return f"account:{uuid}"


def archive_resource(uuid: UUID) -> str:
    """The right to write to an archive."""
    return f"archive:{uuid}"


def relay_resource(account_id: int) -> str:
    """The right to send through an account, in the service: its limits hold for all workers then."""
    return f"relay:{account_id}"


def mailboxes_resource(account_id: int) -> str:
    """The right to put mail into the mailboxes of an account: nobody else's mail is taken for ours after a crash."""
    return f"mailboxes:{account_id}"


def at_work(connection: Connection) -> list[int]:
    """Returns the jobs (ids) that somebody is known to work on."""
    owned = (
        select(jobs.c.id, leases.c.holder)
        .join(leases, leases.c.resource == job_resource_of(jobs.c.id))
        .where(leases.c.holder != "", unexpired(connection))
    )
    return [job_id for job_id, holder in connection.execute(owned) if not Holder.parse(holder).is_dead()]


Fence = Callable[[Connection], None]


class Fenced(Protocol):
    """Leases that stand before each write."""

    def fence(self, connection: Connection) -> None:
        """Raise LeaseLost where they are not ours any more."""
        ...


def fence_of(owned: Sequence[Fenced]) -> Fence:
    """One fence for several sets, such as a job's own and those of the archives it shares with other jobs."""

    def fence(connection: Connection) -> None:
        for lease_set in owned:
            lease_set.fence(connection)

    return fence


class LeaseSet:
    """The leases of one run. Any thread may use them; leave the block (or `release`) to give everything back."""

    def __init__(self, database: Database, generations: dict[str, int], holder: Holder, expiry_s: float) -> None:
        self.holder = holder
        self.pairs = sorted(generations.items())  # resource, generation
        self._database = database
        self._expiry_s = expiry_s
        self._deadline = 0.0
        self.is_lost = False  # seen by a renewal or a fence: another process took something over
        self._released = False
        self._renewing = threading.Lock()
        self._renewer: Renewer | None = None

    @classmethod
    def acquire(
        cls,
        database: Database,
        resources: Sequence[str],
        what: str,
        *,
        expiry_s: float = EXPIRY_S,
        renew_s: float = RENEW_S,
        stopping: threading.Event | None = None,
    ) -> Self:
        """Take all of `resources` or none, and have them renewed every `renew_s` (0: not).

        `what` tells others what we do. With `stopping` a thread of its own renews, and pauses by waiting for it.
        Raises LeaseHeld, which names a lease that somebody else owns, its owner, and since when.
        """
        with database.write() as connection:
            lease_set = cls.take(connection, database, resources, what, expiry_s=expiry_s)
        if stopping is not None:
            lease_set.keep(Renewer(database, expiry_s, renew_s, stopping))
        elif renew_s:
            lease_set.keep(renewer(database, expiry_s, renew_s))
        return lease_set

    @classmethod
    def take(
        cls,
        connection: Connection,
        database: Database,
        resources: Sequence[str],
        what: str,
        *,
        expiry_s: float = EXPIRY_S,
    ) -> Self:
        """Take all of `resources` inside the caller's transaction; `keep` them after it. Raises LeaseHeld."""
        holder = Holder.me(what)
        begun = clock.boottime()
        taken = _take(connection, sorted(set(resources)), holder, expiry_s)
        lease_set = cls(database, taken, holder, expiry_s)
        lease_set._deadline = begun + expiry_s
        return lease_set

    def keep(self, by: Renewer | None = None) -> None:
        """Have the leases renewed until they are released."""
        self._renewer = by or renewer(self._database, self._expiry_s)
        self._renewer.add(self)

    def fence(self, connection: Connection) -> None:
        """Raise LeaseLost unless everything is still ours; then it stays ours until this transaction ends."""
        found = connection.execute(_FENCE, {"resources": [resource for resource, _ in self.pairs]})
        owned = [row.resource for row in found if (row.resource, row.generation) in self.pairs]
        if len(owned) != len(self.pairs):
            raise self._lost(owned)

    def check(self, margin_s: float) -> None:
        """Raise LeaseLost unless everything stays ours for `margin_s` more seconds.

        Costs nothing before the deadline; past it the lease is renewed on the spot, if nobody took it over (raises
        LedgerError or StorageError when the database does not answer). Not to be called inside a write transaction.
        """
        if clock.boottime() + margin_s < self._deadline:
            return
        self.renew()
        if clock.boottime() + margin_s >= self._deadline:
            raise LeaseLost(f"our leases end within {margin_s:g} s, the database is too slow to renew them: run again")

    def renew(self) -> None:
        """Move the expiry ahead. Raises LeaseLost when somebody took over, LedgerError or StorageError otherwise."""
        with self._renewing:
            begun = clock.boottime()
            with self._database.write() as connection:
                self.fence(connection)
                ahead = update(leases).where(_ours(len(self.pairs)))
                ahead = ahead.values(expires_at=database_now(connection) + self._expiry_s)
                connection.execute(ahead, self._named())
            self._deadline = begun + self._expiry_s

    def renewed(self, begun: float, alive: Collection[tuple[str, int]]) -> LeaseLost | None:
        """Note a renewal that was sent at `begun`; `alive` has the leases that it found. Returns what is lost."""
        owned = [resource for resource, number in self.pairs if (resource, number) in alive]
        if len(owned) < len(self.pairs):
            return None if self._released else self._lost(owned)
        self._deadline = max(self._deadline, begun + self._expiry_s)
        return None

    def release(self) -> None:
        """Give everything back. Repeatable; a failure is logged, as the lease then runs out by itself."""
        self.drop()
        if self._released:
            return
        try:
            with self._database.write() as connection:
                self.release_in(connection)
        except (LedgerError, StorageError) as error:
            self._released = True
            log.info("lease.release_failed: %s", error)

    def release_in(self, connection: Connection) -> None:
        """Give everything back inside the caller's transaction; `drop` it after that."""
        self._released = True
        connection.execute(_freed(len(self.pairs)), self._named())

    def drop(self) -> None:
        """Have nothing renewed any more. Repeatable."""
        if self._renewer is not None:
            self._renewer.drop(self)
            self._renewer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _named(self) -> dict[str, Any]:
        """Returns the parameters of `_ours`."""
        found: dict[str, Any] = {}
        for nth, (name, number) in enumerate(self.pairs):
            found[f"name{nth}"], found[f"number{nth}"] = name, number
        return found

    def _lost(self, owned: Sequence[str]) -> LeaseLost:
        self.is_lost = True
        gone = ", ".join(resource for resource, _ in self.pairs if resource not in owned)
        return LeaseLost(f"another process took over {gone} from us while we were not heard of: this run stops here")


def _take(connection: Connection, resources: Sequence[str], holder: Holder, expiry_s: float) -> dict[str, int]:
    """Take leases, sorted so that nobody waits for the other; returns their generations."""
    found = _rows(connection, resources, expiry_s)
    if len(found) < len(resources):
        connection.execute(_ADD, [{"resource": resource} for resource in resources if resource not in found])
        found = _rows(connection, resources, expiry_s)
    for resource, (_, other, lasts) in found.items():
        if other and lasts and not Holder.parse(other).is_dead():
            raise LeaseHeld(f"{_used(connection, resource, Holder.parse(other))}; run again when that has ended")
    values = {"resources": resources, "owner": str(holder), "lasting": expiry_s}
    connection.execute(_taken(connection.dialect.name), values)
    return {resource: int(generation) + 1 for resource, (generation, _, _) in found.items()}


def _rows(connection: Connection, resources: Sequence[str], expiry_s: float) -> dict[str, tuple[int, str, bool]]:
    """Returns generation, holder, and whether it lasts still, of the leases that are known; they stay as they are."""
    values = {"resources": resources, "farthest": FAR_AWAY * expiry_s}
    rows = connection.execute(_known(connection.dialect.name), values)
    return {resource: (generation, other, lasts) for resource, generation, other, lasts in rows}


def _used(connection: Connection, resource: str, holder: Holder) -> str:
    """Returns what is used, by the name that people know, how, and by whom."""
    kind, _, name = resource.partition(":")
    what, use, more = _USES.get(kind, (kind, "is held", True))
    return f'{what} "{_name(connection, kind, name)}" {use} by {holder.describe(more=more)}'


def _name(connection: Connection, kind: str, name: str) -> str:
    """Returns the name as in the configuration, where the ledger knows it."""
    table = {"account": accounts, "archive": archives}.get(kind)
    if table is not None:
        return connection.execute(select(table.c.name).where(table.c.uuid == UUID(name).bytes)).scalar() or name
    if kind == "job":
        return connection.execute(select(jobs.c.name).where(jobs.c.id == int(name))).scalar() or name
    if kind in {"relay", "mailboxes"}:
        return connection.execute(select(accounts.c.name).where(accounts.c.id == int(name))).scalar() or name
    return name


# --- statements, made once: a poll that finds nothing new needs three of them ----------------------------


@cache
def _known(dialect: str) -> Select[Any]:
    """Selects the leases `resources`, with whether each lasts still, and keeps others from taking them."""
    return (
        select(
            leases.c.resource,
            leases.c.generation,
            leases.c.holder,
            lasts(dialect, bindparam("farthest", type_=Float)),
        )
        .where(leases.c.resource.in_(bindparam("resources", expanding=True)))
        .order_by(leases.c.resource)
        .with_for_update()
    )


@cache
def _taken(dialect: str) -> Update:
    """Gives the leases `resources` to `owner` for `lasting` seconds."""
    values = {
        "generation": leases.c.generation + 1,
        "holder": bindparam("owner"),
        "expires_at": NOW[dialect] + bindparam("lasting", type_=Float),
    }
    return update(leases).where(leases.c.resource.in_(bindparam("resources", expanding=True))).values(values)


@cache
def _ours(number: int) -> ColumnElement[bool]:
    """Returns the condition that a lease is one of so many pairs, see `LeaseSet._named`."""
    return or_(
        *(
            and_(leases.c.resource == bindparam(f"name{nth}"), leases.c.generation == bindparam(f"number{nth}"))
            for nth in range(number)
        )
    )


@cache
def _freed(number: int) -> Update:
    """Gives so many leases back; a late fence of their former owner fails."""
    free = {"generation": leases.c.generation + 1, "holder": "", "expires_at": 0.0}
    return update(leases).where(_ours(number)).values(free)
