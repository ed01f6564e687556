"""Destinations of the jobs of this process: archives, each open and leased once, and connections to mail servers.

A destination that is an account has a route for each of its recipients. The routes that lead to one account share its
connections, and messages that one of them sends count against the limits of all.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from syncd.db import restored
from syncd.db.catalog import Catalog
from syncd.db.lease_on_demand import LeaseOnDemand
from syncd.db.leases import LeaseSet, archive_resource, mailboxes_resource, relay_resource
from syncd.db.rows import ArchiveRow, JobRow, RouteRow
from syncd.db.runs import Runs
from syncd.destinations.base import Archive, Growing, Probe
from syncd.engine.job import Connection, Route
from syncd.errors import LeaseHeld
from syncd.mail.allowance import Allowance, Direction
from syncd.services.archives import make_archive
from syncd.services.kept import Kept
from syncd.services.wiring import (
    BODIES,
    allowance,
    limits,
    make_imap_accounts,
    make_relay,
    paths,
    smtp_options,
)
from syncd.settings.delivery import JobDestination, Uncertain
from syncd.settings.schema import DeletedRule, Mode, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from syncd.db.database import Database
    from syncd.destinations.imap.account import ImapAccount
    from syncd.destinations.smtp.pace import History, Pace
    from syncd.destinations.smtp.relay import Relay
    from syncd.services.registry import Registered, Registry
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Account

    RelayKey = tuple[int, Account]  # id of the account, and what the configuration says of it


@dataclass(slots=True)
class OpenArchive:
    """An archive in use by this process, called `name` here. `made`: it is on disk by now.

    Its `lease` is taken before it is written to.
    """

    name: str
    row: ArchiveRow
    archive: Archive
    lease: LeaseOnDemand
    made: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_lost(self) -> bool:
        """Returns whether another process has taken it over: this one was frozen for longer than its lease."""
        return self.lease.is_lost

    def close(self) -> None:
        """Close it, and let other processes write to it."""
        try:
            self.archive.close()
        finally:
            self.lease.release()


@dataclass(slots=True)
class OpenRelay:
    """Connections to a mail server. `lease`: in the service, one process at a time sends through an account."""

    relay: Relay
    lease: LeaseSet | None

    def is_lost(self) -> bool:
        """Returns whether another process sends through the account by now."""
        return self.lease is not None and self.lease.is_lost

    def close(self) -> None:
        """Close them, and let other processes send."""
        try:
            self.relay.close()
        finally:
            if self.lease is not None:
                self.lease.release()


@dataclass(slots=True)
class OpenMailboxes:
    """An IMAP account that mail is put into: its connections, each used by one run at a time (`locks`)."""

    accounts: Sequence[ImapAccount]
    lease: LeaseOnDemand
    allowance: Allowance | None  # of octets that it takes in a day
    locks: Sequence[threading.Lock] = field(init=False)

    def __post_init__(self) -> None:
        self.locks = [threading.Lock() for _ in self.accounts]

    def is_lost(self) -> bool:
        """Returns whether another process may have the right to put mail there by now."""
        return self.lease.is_lost

    def close(self) -> None:
        """Close it, and let other processes put mail there."""
        try:
            for account in self.accounts:
                account.close()
        finally:
            self.lease.release()


class Shared:
    """The parts that the destinations of all jobs of a process share: archives, connections, counts of what was sent.

    Each is closed with its last run, since other processes may wait for it. With `alone=True` no other worker sends
    through an account meanwhile, so that its limits hold for all of them.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        self.archives: Kept[int, OpenArchive] = Kept()  # by id
        self.relays: Kept[RelayKey, OpenRelay] = Kept()
        self.mailboxes: Kept[RelayKey, OpenMailboxes] = Kept()
        self.histories: dict[int, History] = {}  # by account
        self.lock = threading.Lock()  # of the histories

    def close(self) -> None:
        """Close all of it. Repeatable."""
        try:
            self.archives.close()
        finally:
            try:
                self.relays.close()
            finally:
                self.mailboxes.close()


class Destinations:
    """Destinations of the jobs of one configuration, until `close`. Used from any thread."""

    def __init__(
        self,
        loaded: Loaded,
        database: Database,
        registry: Registry,
        shared: Shared,
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
        self._shared = shared
        self._refill = frozenset(refill)
        self._made: set[str] = set()  # archives that were made since the registry looked
        self._refilled: set[str] = set()
        self._relays: dict[str, tuple[RelayKey, OpenRelay]] = {}  # that this configuration has taken, by name
        self._mailboxes: dict[str, tuple[RelayKey, OpenMailboxes]] = {}  # the same of IMAP accounts
        self._lock = threading.RLock()

    def close(self) -> None:
        """Give the mail servers back. Repeatable."""
        with self._lock:
            taken, mailboxes = list(self._relays.values()), list(self._mailboxes.values())
            self._relays.clear()
            self._mailboxes.clear()
        for key, _ in taken:
            self._shared.relays.give_back(key)
        for key, _ in mailboxes:
            self._shared.mailboxes.give_back(key)

    def take(self, job: str) -> list[OpenArchive]:
        """Returns the archives that a job delivers to, until `give_back`; its lease is taken before writing."""
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
        """Take the archives of a job for the block."""
        archives = self.take(job)
        try:
            yield archives
        finally:
            self.give_back(archives)

    def give_back(self, archives: Sequence[OpenArchive]) -> None:
        """Say that a run does not use `archives` any more."""
        for each in archives:
            self._shared.archives.give_back(each.row.id)

    def make(self, archives: Sequence[OpenArchive]) -> None:
        """Make those of `archives` that are not on disk yet; a dry run only notes them.

        Raises StorageError, LeaseHeld.
        """
        for each in archives:
            with each.lock:
                if each.made:
                    continue
                if self._dry_run:
                    self.unmade.add(each.row.name)
                    continue
                each.lease.take()
                each.archive.create(each.row.uuid)
                Catalog(self._database).archive_made(each.row.id)
                self._made.add(each.name)
                each.made = True

    def routes(self, registered: Registered, archives: Sequence[OpenArchive]) -> Iterator[Route]:
        """Yields the routes of a job whose archives were taken and made: archives first."""
        mine = {taken.row.id: taken for taken in archives}
        for route in sorted(registered.job.routes, key=lambda route: route.kind != "archive"):
            to = registered.settings(route)
            if route.archive_id is not None:
                taken = mine[route.archive_id]
                reader = self._object(to.to, taken.row.uuid) if taken.made else None
                yield Route(
                    route, route.name, taken.archive, reader, taken.lock, paths=paths(to), take=taken.lease.take
                )
            elif route.account_id is not None:
                is_imap = self._loaded.settings.accounts[to.to].protocol is Protocol.IMAP
                if is_imap:
                    yield self._imap_route(registered.job, route, route.account_id, to)
                else:
                    yield self._mail_route(registered.job.name, route, route.account_id, to)

    def leases(self, job: str) -> list[LeaseOnDemand]:
        """Returns the leases of the IMAP accounts into which the routes of a job put mail."""
        names = {to.to for to in self._loaded.settings.jobs[job].destinations}
        with self._lock:
            return [taken.lease for name, (_, taken) in self._mailboxes.items() if name in names]

    def _archive(self, name: str) -> OpenArchive:
        row = self._registry.archive(name)
        taken = self._shared.archives.take(row.id, partial(self._open, name, row))
        if taken.is_lost():
            self.give_back([taken])
            raise LeaseHeld(f'archive "{name}" was taken over by another process while runs of this one had it')
        try:
            self._refill_once(taken)
        except BaseException:
            self.give_back([taken])
            raise
        return taken

    def _open(self, name: str, row: ArchiveRow) -> OpenArchive:
        archive = self._object(name, row.uuid)
        lease = LeaseOnDemand(self._database, archive_resource(row.uuid), f'writing to archive "{name}"')
        return OpenArchive(name, row, archive, lease, row.made or name in self._made)

    def _refill_once(self, taken: OpenArchive) -> None:
        with self._lock:
            name = taken.name
            if not taken.made or name not in self._refill or name in self._refilled:
                return
            if isinstance(taken.archive, Growing):
                taken.lease.take()
                Catalog(self._database).refill(taken.row)
                self._refilled.add(name)

    def _object(self, name: str, expected: UUID) -> Archive:
        settings = self._loaded.settings
        return make_archive(name, settings.archives[name], expected, spool=settings.state_directory / BODIES)

    # --- mail servers ----------------------------------------------------------------------------------

    def _imap_route(self, job: JobRow, row: RouteRow, account_id: int, to: JobDestination) -> Route:
        from syncd.destinations.imap.behind import LeftBehind
        from syncd.destinations.imap.existing import Existing
        from syncd.destinations.imap.route import ImapDestination
        from syncd.destinations.imap.twins import Twins

        taken = self._take_mailboxes(account_id, to.to)
        recognises = to.skip_existing is True or restored.is_put_back(self._database)
        settings, behind, twins = self._loaded.settings, LeftBehind(), Twins()
        source = settings.jobs[job.name].source
        removes = any(it.mode is Mode.MOVE for it in settings.jobs.values() if it.source == source)
        existing = Existing(removes=removes) if recognises else None
        if to.skip_existing is None and not recognises and not Runs(self._database).has_ended(job.id):
            behind.looks_before = True
        sharer = object() if settings.accounts[to.to].share_mailboxes else None
        keep_deleted = settings.jobs[job.name].deleted is DeletedRule.KEEP_FLAG
        connections = [
            Connection(
                ImapDestination(
                    account,
                    special_use=to.by_use,
                    existing=existing,
                    keep_deleted=keep_deleted,
                    allowance=taken.allowance,
                    behind=behind,
                    sharer=sharer,
                    twins=twins,
                ),
                lock,
            )
            for account, lock in zip(taken.accounts, taken.locks, strict=True)
        ]
        return Route(
            row,
            to.to,
            connections[0].destination,
            None,
            connections[0].lock,
            paths=paths(to, taken.accounts[0].uses),
            limits=frozenset() if taken.allowance is None else frozenset({taken.allowance.limit}),
            is_counted=taken.allowance is not None,
            more=tuple(connections[1:]),
            take=taken.lease.take,
            hold_uncertain=to.uncertain is Uncertain.HOLD,
        )

    def _take_mailboxes(self, account_id: int, name: str) -> OpenMailboxes:
        with self._lock:
            if name not in self._mailboxes:
                key = (account_id, self._loaded.settings.accounts[name])
                taken = self._shared.mailboxes.take(key, partial(self._open_mailboxes, account_id, name))
                if taken.is_lost():
                    self._shared.mailboxes.give_back(key)
                    raise LeaseHeld(f'another process puts mail into account "{name}" since runs of this one began')
                self._mailboxes[name] = key, taken
            return self._mailboxes[name][1]

    def _open_mailboxes(self, account_id: int, name: str) -> OpenMailboxes:
        doing = f'putting mail into account "{name}"'
        lease = LeaseOnDemand(self._database, mailboxes_resource(account_id), doing)
        most = allowance(self._loaded, name, self._database, account_id, Direction.UP)
        return OpenMailboxes(make_imap_accounts(self._loaded, name), lease, most)

    def _mail_route(self, job: str, row: RouteRow, account_id: int, to: JobDestination) -> Route:
        from syncd.destinations.smtp.route import SmtpDestination

        relay, pace = self._relay(account_id, to.to), self._pace(account_id, to)
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
            probe=self._probe(to, row.target),
        )

    def _probe(self, to: JobDestination, recipient: str) -> Probe | None:
        if to.probe is None:
            return None
        from syncd.destinations.imap.probe import ImapProbe

        return ImapProbe(make_imap_accounts(self._loaded, to.probe)[0], recipient)

    def _relay(self, account_id: int, name: str) -> Relay:
        with self._lock:
            if name not in self._relays:
                key = (account_id, self._loaded.settings.accounts[name])
                taken = self._shared.relays.take(key, partial(self._open_relay, account_id, name))
                if taken.is_lost():
                    self._shared.relays.give_back(key)
                    raise LeaseHeld(f'another process sends through account "{name}" since runs of this one began')
                self._relays[name] = key, taken
            return self._relays[name][1].relay

    def _open_relay(self, account_id: int, name: str) -> OpenRelay:
        """Raises LeaseHeld where another worker sends through the account."""
        relay = make_relay(self._loaded, name)  # first: what it raises must not leave a lease behind
        if not self._shared.alone:
            return OpenRelay(relay, None)
        lease = LeaseSet.acquire(self._database, [relay_resource(account_id)], f'sending through account "{name}"')
        with self._shared.lock:
            self._shared.histories.pop(account_id, None)  # others may have sent meanwhile: the ledger is asked again
        return OpenRelay(relay, lease)

    def _pace(self, account_id: int, to: JobDestination) -> Pace:
        from syncd.db.ledger.sent import sent_since
        from syncd.destinations.smtp.pace import History, Pace

        histories = self._shared.histories
        with self._shared.lock:
            if account_id not in histories:
                jobs = self._loaded.settings.jobs.values()
                every = [limit for job in jobs for other in job.destinations for limit in limits(other)]
                most = max((limit.messages for limit in every), default=0)
                histories[account_id] = History(every, partial(sent_since, self._database, account_id, limit=most))
            return Pace(limits(to), histories[account_id])
