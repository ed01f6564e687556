"""Destinations of the jobs of this process: archives, each open and leased once, and connections to mail servers.

A destination that is an account has a route for each of its recipients. The routes that lead to one account share its
connections, and messages that one of them sends count against the limits of all.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from syncd.db.catalog import Catalog
from syncd.db.leases import LeaseSet, archive_resource
from syncd.db.rows import ArchiveRow, RouteRow
from syncd.destinations.base import Archive, Growing
from syncd.engine.job import Route
from syncd.services.wiring import BODIES, limits, make_archive, make_relay, smtp_options
from syncd.settings.delivery import JobDestination, Uncertain

if TYPE_CHECKING:
    from uuid import UUID

    from syncd.db.database import Database
    from syncd.destinations.smtp.pace import History, Pace
    from syncd.destinations.smtp.relay import Relay
    from syncd.services.registry import Registered, Registry
    from syncd.settings.load import Loaded


@dataclass(slots=True)
class OpenArchive:
    """An archive in use by this process, called `name` here. `made`: it is on disk by now."""

    name: str
    row: ArchiveRow
    archive: Archive
    lease: LeaseSet
    made: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0  # runs that have taken it and not given it back


class Destinations:
    """Archives in use, and mail servers that were used, until `close`. Used from any thread."""

    def __init__(
        self,
        loaded: Loaded,
        database: Database,
        registry: Registry,
        *,
        dry_run: bool = False,
        refill: Collection[str] = (),
    ) -> None:
        """`refill`: archives to be filled with what they lack."""
        self.unmade: set[str] = set()  # archives that a dry run did not find and a run would make
        self._loaded = loaded
        self._database = database
        self._registry = registry
        self._dry_run = dry_run
        self._refill = frozenset(refill)
        self._archives: dict[str, OpenArchive] = {}
        self._made: set[str] = set()  # archives that were made since the registry looked
        self._refilled: set[str] = set()
        self._relays: dict[str, Relay] = {}
        self._histories: dict[int, History] = {}  # by account
        self._lock = threading.Lock()
        self._open = ExitStack()

    def close(self) -> None:
        """Close all of them and give the leases back. Repeatable."""
        for each in list(self._archives.values()):
            each.users = 1
            self.give_back([each])
        self._open.close()

    def take(self, job: str) -> list[OpenArchive]:
        """Returns the archives that a job delivers to, ours to write until `give_back`. Raises LeaseHeld."""
        names = [to.to for to in self._loaded.settings.jobs[job].destinations]
        taken: list[OpenArchive] = []
        try:
            for name in names:
                if name in self._loaded.settings.archives:
                    taken.append(self._archive(name))  # noqa: PERF401  what was taken before an error is given back
        except BaseException:
            self.give_back(taken)
            raise
        return taken

    @contextmanager
    def taken(self, job: str) -> Iterator[list[OpenArchive]]:
        """Take the archives of a job for the block. Raises LeaseHeld."""
        archives = self.take(job)
        try:
            yield archives
        finally:
            self.give_back(archives)

    def give_back(self, archives: Sequence[OpenArchive]) -> None:
        """Close those of `archives` that no other run uses now, and let other processes write to them."""
        for each in archives:
            with self._lock:
                each.users -= 1
                if each.users:
                    continue
                del self._archives[each.name]
                try:
                    each.archive.close()
                finally:
                    each.lease.release()

    def make(self, archives: Sequence[OpenArchive]) -> None:
        """Make those of `archives` that are not on disk yet; a dry run only notes them. Raises StorageError."""
        for each in archives:
            with self._lock:
                if each.made:
                    continue
                if self._dry_run:
                    self.unmade.add(each.row.name)
                    continue
                each.archive.create(each.row.uuid)
                Catalog(self._database).archive_made(each.row.id)
                self._made.add(each.name)
                each.made = True

    def routes(self, registered: Registered) -> Iterator[Route]:
        """Yields the routes of a job whose archives were taken and made: archives first."""
        for route in sorted(registered.job.routes, key=lambda route: route.kind != "archive"):
            to = registered.settings(route)
            if route.archive_id is not None:
                taken = self._archives[to.to]
                reader = self._object(to.to, taken.row.uuid) if taken.made else None
                yield Route(route, route.name, taken.archive, reader, taken.lock)
            elif route.account_id is not None:
                yield self._mail_route(registered.job.name, route, route.account_id, to)

    def _archive(self, name: str) -> OpenArchive:
        row = self._registry.archive(name)
        with self._lock:
            taken = self._archives.get(name)
            if taken is None:
                archive = self._object(name, row.uuid)
                lease = LeaseSet.acquire(self._database, [archive_resource(row.uuid)], f'writing to archive "{name}"')
                made = row.made or name in self._made
                taken = OpenArchive(name, row, archive, lease, made)
                try:
                    if made and name in self._refill and name not in self._refilled and isinstance(archive, Growing):
                        Catalog(self._database).refill(row)
                        self._refilled.add(name)
                except BaseException:
                    lease.release()
                    raise
                self._archives[name] = taken
            taken.users += 1
            return taken

    def _object(self, name: str, expected: UUID) -> Archive:
        settings = self._loaded.settings
        return make_archive(name, settings.archives[name], expected, spool=settings.state_directory / BODIES)

    # --- mail servers ----------------------------------------------------------------------------------

    def _mail_route(self, job: str, row: RouteRow, account_id: int, to: JobDestination) -> Route:
        from syncd.destinations.smtp.route import SmtpDestination

        with self._lock:
            relay = self._relays.get(to.to)
            if relay is None:
                relay = self._relays[to.to] = make_relay(self._loaded, to.to)
                self._open.callback(relay.close)
            pace = self._pace(account_id, to)
        options = smtp_options(self._loaded, job, to, row.target, relay.options)
        destinations = self._loaded.settings.jobs[job].destinations
        several = sum(len(other.recipient or ()) for other in destinations if other.to == to.to) > 1
        return Route(
            row,
            f"{to.to} ({row.target})" if several else to.to,
            SmtpDestination(options, relay, pace),
            None,
            limits=frozenset(map(str, limits(to))),
            hold_uncertain=to.uncertain is Uncertain.HOLD,
        )

    def _pace(self, account_id: int, to: JobDestination) -> Pace:
        from syncd.db.ledger.sent import sent_since
        from syncd.destinations.smtp.pace import History, Pace

        if account_id not in self._histories:
            jobs = self._loaded.settings.jobs.values()
            every = [limit for job in jobs for other in job.destinations for limit in limits(other)]
            most = max((limit.messages for limit in every), default=0)
            self._histories[account_id] = History(every, partial(sent_since, self._database, account_id, limit=most))
        return Pace(limits(to), self._histories[account_id])
