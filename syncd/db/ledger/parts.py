"""The parts of the ledger, each beside the module that it is about: one method, one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from syncd.db import routing
from syncd.db.database import Database
from syncd.db.ledger import (
    archives,
    damaged,
    decisions,
    epochs,
    intents,
    mailboxes,
    predecessors,
    removal,
    seeding,
    suspensions,
    uncertain,
)
from syncd.db.ledger.archives import Delivered
from syncd.db.rows import (
    Became,
    Cause,
    Freeze,
    FrozenMailbox,
    KnownMailbox,
    MailboxScope,
    Resolved,
    RunScope,
    SoughtRow,
    Suspension,
)
from syncd.mail.mailbox import Mailbox
from syncd.mail.message import Key
from syncd.mail.outcome import Intended, Place
from syncd.mail.patterns import EVERYTHING, Selection

Fence = Callable[[Connection], None]


class Part:
    """The base of the ledger's parts: each method is one transaction, each write begins with the fence."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database: Final = database
        self._fence: Final = fence

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write() as connection:
            self._fence(connection)
            yield connection


class Mailboxes(Part):
    """The mailboxes of an account, see `mailboxes`."""

    def known(self, scope: RunScope, chunk: Sequence[Mailbox]) -> list[KnownMailbox]:
        """Each listed mailbox beside what is known of it, in their order.

        New mailboxes are registered and changed facts noted; writes only then.
        """
        names = [mailbox.name for mailbox in chunk]
        with self._database.read() as connection:
            rows = mailboxes.rows_of(connection, scope.account_id, names)
            changed = [mailbox for mailbox in chunk if mailboxes.differs(rows.get(mailbox.name), mailbox)]
            if not changed:
                return mailboxes.compare(connection, scope, chunk, rows)
        with self._write() as connection:
            mailboxes.register(connection, scope.account_id, changed)
        with self._database.read() as connection:
            rows = mailboxes.rows_of(connection, scope.account_id, names)
            return mailboxes.compare(connection, scope, chunk, rows)

    def unlisted(self, scope: RunScope, seen: Collection[int]) -> list[MailboxScope]:
        """Mailboxes with messages that are not gone, and that are not among those `seen` (ids)."""
        with self._database.read() as connection:
            return mailboxes.unlisted(connection, scope, seen)

    def narrowed(self, scope: RunScope, selection: Selection) -> RunScope:
        """Returns the scope without the known mailboxes of the account that a job does not read."""
        if selection == EVERYTHING:
            return scope
        known = self.find(scope).values()
        return replace(scope, left_out=tuple(one.mailbox_id for one in known if not selection.chooses(one.mailbox)))

    def find(self, scope: RunScope) -> dict[int, MailboxScope]:
        """Every mailbox of the account that is known, by id, in its present epoch."""
        with self._database.read() as connection:
            return mailboxes.find(connection, scope)

    def current(self, scope: MailboxScope) -> MailboxScope:
        """The scope in the epoch that its mailbox has now."""
        with self._database.read() as connection:
            return epochs.current(connection, scope)

    def became(self, account_id: int, route_id: int) -> dict[tuple[bytes, str], Became]:
        """Name and label → what a mailbox of the account became at the destination of a route."""
        with self._database.read() as connection:
            return mailboxes.find_became(connection, account_id, route_id)

    def become(self, route_id: int, decided: Mapping[tuple[int, str], Became]) -> None:
        """Note what mailboxes, by id and label, become at the destination of a route, before they get mail there."""
        with self._write() as connection:
            mailboxes.become(connection, route_id, decided)

    def freeze(self, scope: MailboxScope, why: Freeze, reason: str) -> None:
        """Freeze removals from a mailbox. The first reason stays."""
        with self._write() as connection:
            mailboxes.freeze(connection, scope.mailbox_id, why, reason)

    def thaw(self, account_id: int, mailbox_ids: Collection[int] | None = None) -> None:
        """A person lifts what is frozen at mailboxes of an account; by default at all of them."""
        with self._write() as connection:
            removal.thaw(connection, account_id, mailbox_ids)

    def frozen(self, account_id: int) -> list[FrozenMailbox]:
        """The mailboxes of an account from which no message is removed."""
        with self._database.read() as connection:
            return mailboxes.frozen(connection, account_id)


class Archives(Part):
    """The ledger's part about archives, see `archives`, `seeding` and `damaged`."""

    def extents(self, route_ids: Collection[int]) -> dict[int, int]:
        """Route → octets of its archive that were durable when it was last delivered to."""
        with self._database.read() as connection:
            return archives.find(connection, route_ids)

    def to_ask(self, route_ids: Collection[int]) -> set[int]:
        """Returns the routes whose archive is to be filled again, and was not asked yet what it contains."""
        with self._database.read() as connection:
            return archives.to_ask(connection, route_ids)

    def unplanned(self, scope: RunScope, route_ids: Collection[int]) -> set[int]:
        """Returns the routes for which no delivery was planned since they were new, or to be filled: then `seed`."""
        with self._database.read() as connection:
            return seeding.unplanned(connection, scope, route_ids)

    def seed(self, scope: RunScope, route_id: int, places: Iterator[Place]) -> int:
        """Take in what an archive has of the account; how many deliveries are thereby known to be done. Repeatable.

        A mailbox that was never listed is afterwards in the highest epoch that the archive saw.
        """
        return seeding.seed(self._database, self._fence, scope, route_id, places)

    def hold_found(self, scope: MailboxScope, found: Sequence[tuple[Key, datetime]]) -> int:
        """Hold what may have been sent before this ledger was there, see `seeding`; call it before the outcomes."""
        with self._write() as connection:
            return seeding.hold_found(connection, scope, found)

    def mark_damaged(self, scope: RunScope, key: Key, route_id: int, reason: str) -> None:
        """The archive of this route cannot give this message back."""
        with self._write() as connection:
            damaged.mark(connection, scope, key, route_id, reason)

    def having(self, keys: Sequence[Key]) -> dict[Key, list[tuple[str, str]]]:
        """Message → names of the archives that have it, each with the hint of its receipt."""
        with self._database.read() as connection:
            return archives.having(connection, keys)

    def contents(self, archive: UUID) -> Iterator[Delivered]:
        """Every message delivered to an archive, by whatever job; streamed."""
        return archives.contents(self._database, archive)


class Uncertain(Part):
    """Deliveries to servers that cannot be asked, see `uncertain` and `predecessors`."""

    def routes(self, *, account_id: int | None = None, job_id: int | None = None) -> list[int]:
        """Ids of all routes to such servers, in use or not, of the jobs that read an account, or of one job."""
        with self._database.read() as connection:
            return routing.uncertain_routes(connection, account_id=account_id, job_id=job_id)

    def record(
        self, scope: RunScope, route_ids: Sequence[int], reason: str, keys: Collection[Key] | None = None
    ) -> int:
        """Deliveries that are `sending` on these routes (of `keys`, or all) become uncertain and recorded; how many."""
        with self._write() as connection:
            return uncertain.record(connection, scope, route_ids, reason, keys)

    def sought(self, scope: RunScope, route_id: int) -> list[SoughtRow]:
        """Returns the uncertain deliveries of a route, to be looked for where they may have arrived."""
        with self._database.read() as connection:
            return uncertain.sought(connection, scope, route_id)

    def resolve(self, scope: RunScope, hold: Collection[int], waiting: Collection[tuple[Key, int]] = ()) -> Resolved:
        """Uncertain deliveries of the run's routes are sent again; those on routes in `hold` wait for a person.

        Those of `waiting`, message and route, stay uncertain.
        """
        with self._write() as connection:
            return uncertain.resolve(connection, scope, hold, waiting)

    def take_back(self, route_id: int, keys: Sequence[Key]) -> None:
        """These were rejected only because everything was: they are pending again. Raises Conflict."""
        with self._write() as connection:
            uncertain.take_back(connection, route_id, keys)

    def refused_lately(self, route_id: int, limit: int, besides: Collection[Key] = ()) -> list[str]:
        """Codes of other rejections on a route since anything was delivered there; not quick."""
        with self._database.read() as connection:
            return uncertain.refused_lately(connection, route_id, limit, besides)

    def hold_predecessors(self, scope: RunScope) -> int:
        """Hold what a route that is not in use any more may have given to the same recipient; how many."""
        if not predecessors.concerns(scope):
            return 0
        with self._database.read() as connection:
            before = predecessors.used_before(connection, scope)
        if not before:
            return 0
        with self._write() as connection:
            return predecessors.hold(connection, scope, before)


class Intents(Part):
    """Intents of deliveries, at destinations that can be asked, see `intents`."""

    def find(self, scope: RunScope, route_id: int) -> list[Intended]:
        """Returns what is `sending` on a route, of the scope's account, in the order of keys."""
        with self._database.read() as connection:
            return intents.find(connection, scope, route_id)

    def receipts(self, account_id: int, hints: Collection[str]) -> set[str]:
        """Returns those of `hints` that are receipts of deliveries to this account, altered or not; not quick."""
        with self._database.read() as connection:
            return intents.receipts(connection, account_id, hints)


class Suspensions(Part):
    """Destinations and accounts that are not contacted before a time, see `suspensions`."""

    def find(self, subjects: Collection[str]) -> dict[str, Suspension]:
        """The suspensions of these subjects, also those whose time is over."""
        with self._database.read() as connection:
            return suspensions.find(connection, subjects)

    def put(self, subject: str, suspension: Suspension) -> None:
        """Suspend a destination or an account, in later runs too."""
        with self._write() as connection:
            suspensions.put(connection, subject, suspension)

    def back_off(self, subject: str, cause: Cause, reason: str) -> Suspension:
        """Suspend it for longer than the last time."""
        with self._write() as connection:
            return suspensions.back_off(connection, subject, cause, reason)

    def lift(self, subjects: Collection[str]) -> None:
        """It succeeded: nothing holds it back, and the next refusal is the first. A read where nothing is known."""
        if self.find(subjects):
            with self._write() as connection:
                suspensions.lift(connection, subjects)


class Removals(Part):
    """Removal at the source, see `removal`."""

    def due(
        self, scope: RunScope, delivered_before: datetime | None = None, apart: removal.Apart = removal.NOTHING_APART
    ) -> dict[int, int]:
        """Mailbox → messages of its last listing whose deliveries allow their removal; frozen mailboxes included."""
        with self._database.read() as connection:
            return removal.due(connection, scope, delivered_before, apart)

    def waits(
        self, scope: RunScope, delivered_before: datetime | None = None, apart: removal.Apart = removal.NOTHING_APART
    ) -> dict[str, int]:
        """Other job on the account → messages that it has to be done with before they can be removed."""
        with self._database.read() as connection:
            return removal.waits(connection, scope, delivered_before, apart)

    def old_enough(self, scope: RunScope, age: timedelta) -> datetime:
        """Returns an instant: what was delivered before it has surely been so for `age`."""
        with self._database.read() as connection:
            return removal.old_enough(connection, scope, age)

    def mark_removing(self, scope: MailboxScope, keys: Sequence[Key]) -> None:
        """The intent, committed before the act. Raises RemovalsFrozen, Conflict."""
        with self._write() as connection:
            removal.mark_removing(connection, scope, keys)

    def mark_removed(self, keys: Sequence[Key]) -> None:
        """The server removed them: its farewell was read. Raises Conflict."""
        with self._write() as connection:
            removal.mark_removed(connection, keys)

    def mark_frozen(self, scope: RunScope, keys: Sequence[Key], reason: str) -> None:
        """Do not remove these until a person says so."""
        with self._write() as connection:
            removal.mark_frozen(connection, scope, keys, reason)

    def mark_missing(self, keys: Sequence[Key]) -> None:
        """The server shows other messages under their ids."""
        with self._write() as connection:
            removal.mark_missing(connection, keys)


class Decisions(Part):
    """The ledger's part about decisions of a person, see `decisions`."""

    def retry(self, pairs: decisions.Pairs, looping: decisions.Pairs = ()) -> None:
        """Try these (message, route) again in the next run, whatever they wait for; `looping`: even if they loop."""
        with self._write() as connection:
            decisions.retry(connection, pairs, looping)

    def insisted(self, route_id: int) -> list[Key]:
        """Messages that a person wants to be sent on a route even if they loop."""
        with self._database.read() as connection:
            return decisions.insisted(connection, route_id)

    def drop(self, pairs: decisions.Pairs, job_id: int) -> None:
        """Never try these (message, route) again for this job."""
        with self._write() as connection:
            decisions.drop(connection, pairs, job_id)

    def resume(self, job_id: int, meant: Callable[[str, str], bool] = lambda *_: True) -> list[str]:
        """Lift the suspensions of a job's source and destinations, see `suspensions.resume`; their names."""
        with self._write() as connection:
            return suspensions.resume(connection, job_id, meant)
