"""From the configuration to the catalog: accounts, archives, jobs with their routes. Nothing is made on disk.

An archive that is not on disk yet is registered as such (`ArchiveRow.made` is False) and gets its UUID here; the run
that takes it makes it, see `services.destinations`.

A job delivers to destinations; one that mail is sent to has a route for each of its recipients.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from syncd.db.catalog import Catalog
from syncd.db.fingerprints import fingerprint
from syncd.db.routing import DestinationSpec
from syncd.db.rows import AccountRow, ArchiveRow, JobRow, RouteRow
from syncd.errors import ArchiveMissing, ConfigError, StorageError
from syncd.mail.outcome import Repeat
from syncd.mail.patterns import Selection
from syncd.services.archives import archive_uuid, make_archive, refuse_other_format
from syncd.services.wiring import identity, owner, reached
from syncd.settings.delivery import JobDestination
from syncd.settings.load import Loaded
from syncd.settings.schema import Protocol

if TYPE_CHECKING:
    from syncd.db.database import Database

Mark = tuple[str, int, str]  # of a route: kind, id of its archive or account, recipient in lower case


class Registered(NamedTuple):
    """A job as the catalog has it now. `wanted`: what the configuration says of each of its routes.

    `beside` has the other jobs on the account, by id, with the mailboxes that they read; only for a job that removes.
    """

    job: JobRow
    account: AccountRow
    wanted: Mapping[Mark, JobDestination]
    beside: Mapping[int, Selection] = MappingProxyType({})

    def settings(self, route: RouteRow) -> JobDestination:
        """Returns the destination of the configuration that a route of the job belongs to."""
        return self.wanted[route.kind, route.archive_id or route.account_id or 0, route.target.lower()]


class Registry:
    """Registers what the configuration names. Used from any thread; an archive is looked at once."""

    def __init__(self, loaded: Loaded, database: Database, *, refill: Collection[str] = ()) -> None:
        """`refill`: archives that a person wants to have filled again, whatever became of them."""
        self._loaded = loaded
        self._catalog = Catalog(database, owner(loaded))
        self._refill = frozenset(refill)
        self._archives: dict[str, ArchiveRow] = {}
        self._lock = threading.Lock()

    def retire(self) -> None:
        """Disable jobs and routes that the configuration had and does not have any more, before any is registered."""
        self._catalog.retire(reached(self._loaded))

    def account(self, source: str, *, rebind: bool = False) -> AccountRow:
        """Register the account or archive that a job reads.

        With `rebind=True` a changed host, port or username is the same mailbox. Raises AccountChanged otherwise,
        ArchiveMissing, StorageError where an archive cannot say which one it is.
        """
        return self._catalog.account(source, *identity(self._loaded, source), rebind=rebind)

    def job(self, name: str, account: AccountRow) -> Registered:
        """Register a job that reads `account`, and its destinations.

        If it removes mail, the other enabled jobs on the account are registered, too: nothing is removed that any of
        them has not delivered, even if it has never run. Raises ConfigError, ArchiveMissing, AccountChanged.
        """
        registered = self._job(name, account)
        if not registered.job.removes:
            return registered
        jobs = self._loaded.settings.jobs
        beside = {self._job(other, account).job.id: jobs[other].selection for other in self._others(name, account)}
        return registered._replace(beside=beside)

    def archive(self, name: str) -> ArchiveRow:
        """Register an archive. Raises ConfigError, ArchiveMissing, StorageError."""
        with self._lock:
            known = self._archives.get(name)
            if known is None or not known.made:  # somebody may have made it since
                known = self._archives[name] = self._archive(name)
            return known

    def _job(self, name: str, account: AccountRow) -> Registered:
        found = [(spec, to) for to in self._destinations(name) for spec in self._specs(to)]
        marks = [spec.mark for spec, _ in found]
        for spec, _ in found:
            if marks.count(spec.mark) > 1:
                raise ConfigError(
                    f'job "{name}": {spec.target} is named at two accounts of one server and username: leave one out'
                )
        row = self._catalog.job(
            name,
            account.id,
            [spec for spec, _ in found],
            removes=self._loaded.settings.jobs[name].removes,
        )
        return Registered(row, account, {spec.mark: to for spec, to in found})

    def _others(self, name: str, account: AccountRow) -> Iterator[str]:
        """Yields the other enabled jobs of this configuration on the account, which may have two names in it."""
        settings = self._loaded.settings
        for other, job in settings.jobs.items():
            reads_account = job.enabled and other != name and job.source in settings.accounts
            if reads_account and fingerprint(*identity(self._loaded, job.source)) == account.fingerprint:
                yield other

    def _destinations(self, job: str) -> Sequence[JobDestination]:
        return self._loaded.settings.jobs[job].destinations

    def _specs(self, to: JobDestination) -> list[DestinationSpec]:
        if to.to in self._loaded.settings.archives:
            return [DestinationSpec("archive", self.archive(to.to).id)]
        account = self._catalog.account(to.to, *identity(self._loaded, to.to))
        if self._loaded.settings.accounts[to.to].protocol is Protocol.IMAP:
            return [DestinationSpec("account", account.id, repeat=Repeat.ASKED)]
        return [DestinationSpec("account", account.id, recipient, Repeat.UNCERTAIN) for recipient in to.recipient or ()]

    # --- archives --------------------------------------------------------------------------------------

    def _archive(self, name: str) -> ArchiveRow:
        """Another process may make the archive between our look at the disk and the catalog: then look again."""
        try:
            return self._look_up(name, self._found(name))
        except ArchiveMissing:
            found = self._found(name)
            if found is None:
                raise
            return self._look_up(name, found)

    def _look_up(self, name: str, found: UUID | None) -> ArchiveRow:
        settings = self._loaded.settings.archives[name]
        return self._catalog.archive(
            name, str(settings.path), settings.format.value, found, refill=name in self._refill
        )

    def _found(self, name: str) -> UUID | None:
        """Returns the UUID of the archive on disk, None if there is none. Raises StorageError, ConfigError."""
        settings = self._loaded.settings.archives[name]
        try:
            found = make_archive(name, settings).identity()
        except ArchiveMissing:
            refuse_other_format(name, settings)
            return None
        self._refuse_twin(name, found)
        return found

    def _refuse_twin(self, name: str, found: UUID) -> None:
        """Raise ConfigError where another archive that jobs use is this one or a copy of it: the ledger knows one."""
        settings = self._loaded.settings
        used = {job.source for job in settings.jobs.values()}
        used |= {to.to for job in settings.jobs for to in self._destinations(job)}
        for other in sorted(used & settings.archives.keys() - {name}):
            with suppress(StorageError, ArchiveMissing):  # an archive without an identity is no twin
                if archive_uuid(other, settings.archives[other]) == found:
                    raise ConfigError(
                        f'archives "{name}" and "{other}" are one and the same ({found}): one is a copy of the other.'
                        " Leave one out of the configuration, or replace"
                        f" {settings.archives[other].path} by an empty folder, which the next run fills"
                    )


def refilled(loaded: Loaded, jobs: Collection[str]) -> frozenset[str]:
    """Returns the archives that these jobs deliver to."""
    settings = loaded.settings
    return frozenset(to.to for job in jobs for to in settings.jobs[job].destinations if to.to in settings.archives)
