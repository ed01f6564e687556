"""Where the jobs of this process deliver: archives, each open and leased once, and mail servers with their connections.

A destination that is an account has a route for each of its recipients; the routes that lead to one account share its
connections, and those of one limit its count.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self
from uuid import UUID, uuid4

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.leases import LeaseSet, archive_resource
from syncd.db.routing import DestinationSpec
from syncd.db.rows import ArchiveRow, JobRow, RouteRow
from syncd.destinations.base import Archive, Growing
from syncd.engine.job import Route
from syncd.errors import ArchiveMissing, ConfigError, StorageError
from syncd.services.wiring import BODIES, identity, limits, make_archive, make_relay, smtp_options
from syncd.settings.delivery import JobDestination, Uncertain
from syncd.settings.load import Loaded

if TYPE_CHECKING:
    from syncd.destinations.smtp.pace import History, Pace
    from syncd.destinations.smtp.relay import Relay


@dataclass(frozen=True, slots=True)
class Shelf:
    """An archive in use by this process."""

    row: ArchiveRow
    archive: Archive
    lease: LeaseSet
    lock: threading.Lock = field(default_factory=threading.Lock)


class Destinations:
    """All of them; a context manager, at whose end they are closed and let go. From any thread."""

    def __init__(self, loaded: Loaded, *, dry_run: bool, refill: Collection[str] = ()) -> None:
        """`refill`: the jobs whose archives are begun anew where they are missing, and filled with what they lack."""
        self.to_make: dict[str, UUID] = {}  # archives that a dry run did not find; it takes these UUIDs for theirs
        self._loaded = loaded
        self._dry_run = dry_run
        self._refill = {to.to for job in refill for to in self._of(job)}
        self._shelves: dict[str, Shelf] = {}
        self._relays: dict[str, Relay] = {}
        self._histories: dict[int, History] = {}  # by account
        self._lock = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def take(self, database: Database, job: str) -> list[Shelf]:
        """The archives of a job: made if new, recognised if not, and ours to write until the end."""
        return [self._shelf(database, to.to) for to in self._of(job) if to.to in self._loaded.settings.archives]

    def specs(self, database: Database, job: str) -> list[DestinationSpec]:
        """What a job delivers to, registered. Raises ConfigError for two accounts that are one and the same."""
        found = [spec for to in self._of(job) for spec in self._specs(database, to)]
        marks = [spec.mark for spec in found]
        for spec in found:
            if marks.count(spec.mark) > 1:
                raise ConfigError(
                    f'job "{job}": {spec.target} is named at two accounts of one host and username: leave one out'
                )
        return found

    def routes(self, database: Database, row: JobRow) -> Iterator[Route]:
        """The live routes of a job whose archives were taken: archives first."""
        wanted = {spec: to for to in self._of(row.name) for spec in self._specs(database, to)}
        for route in sorted(row.routes, key=lambda route: route.kind != "archive"):
            if route.archive_id is not None:
                shelf = self._shelves[wanted[DestinationSpec("archive", route.archive_id)].to]
                archive = None if route.name in self.to_make else self._make(shelf.row.name, shelf.row.uuid)
                yield Route(route, route.name, shelf.archive, archive, shelf.lock)
            elif route.account_id is not None:
                spec = DestinationSpec("account", route.account_id, route.target)
                yield self._mail_route(database, row.name, route, wanted[spec])

    def _of(self, job: str) -> Sequence[JobDestination]:
        return self._loaded.settings.jobs[job].destinations

    # --- mail servers ----------------------------------------------------------------------------------

    def _specs(self, database: Database, to: JobDestination) -> list[DestinationSpec]:
        if to.to in self._loaded.settings.archives:
            return [DestinationSpec("archive", self.identified(database, to.to).id)]
        account = Catalog(database).account(to.to, *identity(self._loaded, to.to))
        return [DestinationSpec("account", account.id, recipient) for recipient in to.recipient or ()]

    def _mail_route(self, database: Database, job: str, row: RouteRow, to: JobDestination) -> Route:
        from syncd.destinations.smtp.route import SmtpDestination

        assert row.account_id is not None
        with self._lock:
            relay = self._relays.get(to.to)
            if relay is None:
                relay = self._relays[to.to] = make_relay(self._loaded, to.to)
                self._open.callback(relay.close)
            pace = self._pace(database, row.account_id, to)
        options = smtp_options(self._loaded, job, to, row.target, relay.options)
        several = sum(len(other.recipient or ()) for other in self._of(job) if other.to == to.to) > 1
        name = f"{to.to} ({row.target})" if several else to.to
        hold = to.uncertain is Uncertain.HOLD
        said = frozenset(map(str, limits(to)))
        return Route(row, name, SmtpDestination(options, relay, pace), None, limits=said, hold_uncertain=hold)

    def _pace(self, database: Database, account_id: int, to: JobDestination) -> Pace:
        from syncd.db.ledger.sent import sent_since
        from syncd.destinations.smtp.pace import History, Pace

        if account_id not in self._histories:
            jobs = self._loaded.settings.jobs.values()
            every = [limit for job in jobs for other in job.destinations for limit in limits(other)]
            most = max((limit.messages for limit in every), default=0)
            self._histories[account_id] = History(every, partial(sent_since, database, account_id, limit=most))
        return Pace(limits(to), self._histories[account_id])

    # --- archives --------------------------------------------------------------------------------------

    def _shelf(self, database: Database, name: str) -> Shelf:
        with self._lock:
            shelf = self._shelves.get(name)
            if shelf is None:
                row = self._identify(database, name)
                archive = self._make(name, row.uuid)
                lease = LeaseSet.acquire(database, [archive_resource(row.uuid)], f'writing to archive "{name}"')
                self._open.callback(lease.release)
                self._open.callback(archive.close)
                if name in self._refill and isinstance(archive, Growing):
                    Catalog(database).refill(row)
                shelf = self._shelves[name] = Shelf(row, archive, lease)
            return shelf

    def identified(self, database: Database, name: str) -> ArchiveRow:
        """The archive `name` in the ledger; one that is not there is made, a dry run notes it in `to_make`."""
        with self._lock:
            if name in self._shelves:
                return self._shelves[name].row
            return self._identify(database, name)

    def _make(self, name: str, expected: UUID | None = None) -> Archive:
        settings = self._loaded.settings
        return make_archive(name, settings.archives[name], expected, spool=settings.state_directory / BODIES)

    def _identify(self, database: Database, name: str) -> ArchiveRow:
        settings, catalog, archive = self._loaded.settings.archives[name], Catalog(database), self._make(name)
        try:
            found: UUID | None = archive.identity()
        except ArchiveMissing:
            found = self.to_make.get(name)
        self._refuse_twin(name, found)
        facts = (name, str(settings.path), settings.format.value)
        row = catalog.archive(*facts, found, refill=name in self._refill)
        if row is None:
            found = uuid4()
            if self._dry_run:
                self.to_make[name] = found
            else:
                archive.create(found)
            row = catalog.archive(*facts, found, refill=name in self._refill)
        assert row is not None, "what stands there now has an identity"
        return row

    def _refuse_twin(self, name: str, found: UUID | None) -> None:
        """Raise ConfigError where another archive that jobs use is this one, or a copy of it: the ledger knows one."""
        settings = self._loaded.settings
        used = {job.source for job in settings.jobs.values()} | {to.to for job in settings.jobs for to in self._of(job)}
        for other in sorted(used & settings.archives.keys() - {name}) if found else ():
            with suppress(StorageError, ArchiveMissing):  # who has no identity now is nobody's twin
                if self._make(other).identity() == found:
                    raise ConfigError(
                        f'archives "{name}" and "{other}" are one and the same ({found}): one is a copy of the other.'
                        f" Leave one out of the configuration, or give {settings.archives[other].path} up for an empty"
                        " folder, which the next run fills"
                    )
