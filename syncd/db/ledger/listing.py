"""One complete listing of a mailbox: taken in, compared, recorded, and asked what it leaves to do.

The lines go into a temporary table and a running SHA-256; nothing is kept in Python. A listing equal to the last one
of its mailbox, with nothing open, costs one row. Everything else is decided by the statements of `comparison` in one
write transaction, so that after a crash a listing is recorded as a whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, insert, select

from syncd import clock
from syncd.db.bulk import many
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.ledger import comparison, epochs, matching, removal
from syncd.db.ledger import work as due
from syncd.db.models import listings
from syncd.db.rows import DoubtfulLine, ListingReport, Overlap, RemovalRow, Scope, WorkRow
from syncd.db.states import MessageState
from syncd.sources.base import Listed, Totals

RECENT: Final = 8  # listings looked at to find that nothing changed: jobs that share an account list it in turn
_Recorded = tuple[bool, int, bytes, str]  # a listing: complete, epoch, digest, routes

_STATES: Final = tuple(MessageState)


class ListingSession:
    """A listing being taken in; a context manager that owns one connection. For one thread.

    In order: `add` each chunk, perhaps `doubtful` and `settle`, `overlap`, `bump_epoch`; `record` once, then `work`,
    `outlook`, `removable`.
    Memory: flat for listings of any size; the lines are in a temporary file in the state directory.
    """

    def __init__(self, database: Database, fence: Callable[[Connection], None], scope: Scope) -> None:
        self.scope = scope
        self._database = database
        self._fence = fence
        self._digest = hashlib.sha256()
        self._listed = 0
        self._octets = 0
        self._matched = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._connection = self._stack.enter_context(self._database.session())
        with self._read() as connection:
            comparison.scratch.create(connection, checkfirst=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def add(self, chunk: Sequence[Listed]) -> None:
        """Take in the next lines, in the order of their numbers."""
        with self._read() as connection:
            many(connection, comparison.ADD, chunk)
        self._digest.update(b"".join([b"%d %d %b" % (octets, len(uid), uid) for _, uid, octets in chunk]))
        self._listed += len(chunk)
        self._octets += sum([line.octets for line in chunk])

    def doubtful(self, after_number: int, limit: int) -> list[DoubtfulLine]:
        """The next lines that may be of another message than known under their id; none where all is as it was."""
        with self._read() as connection:
            if self._shows_all(connection, self._recent(connection)):
                return []
            self._match(connection)
            return matching.doubtful(connection, after_number, limit)

    def settle(self, same: list[int], other: list[int]) -> None:
        """What the server says of doubtful lines (numbers); if any is another message, more of them are in doubt."""
        with self._read() as connection:
            matching.settle(connection, same, other)

    def overlap(self) -> Overlap:
        """How much of what was present in this epoch the listing shows: asked before `record`, changes nothing."""
        with self._read() as connection:
            if self._shows_all(connection, self._recent(connection)):
                return Overlap(self._listed, self._listed, self._listed)
            self._match(connection)
            return Overlap(self._listed, *comparison.present(connection, self.scope))

    def bump_epoch(self, reason: str) -> Scope:
        """Begin a new epoch of the mailbox, as the server names everything anew; see `epochs.bump`."""
        with self._write() as connection:
            self.scope = epochs.bump(connection, self.scope, reason)
            matching.forget(connection)
        self._matched = False
        return self.scope

    def record(self, totals: Totals, *, suspicious: bool = False) -> ListingReport:
        """Bring the ledger up to this listing, in one transaction. Once.

        Nothing is taken for absent when the listing is `suspicious` or does not have as many messages as the server
        counts.
        Raises Conflict when the mailbox's epoch is not the scope's, or another job recorded this mailbox meanwhile;
        LedgerError, and records nothing, when not every line has a row of its own in the end.
        """
        complete = self._listed == totals.messages and not suspicious
        with self._write() as connection:
            epochs.check(connection, self.scope)
            unchanged = complete and self._is_unchanged(connection)
            listing_id = self._insert(connection, complete=complete)
            if unchanged:
                return ListingReport(listing_id, self._listed, 0, self._listed, self._listed, 0, 0, 0, unchanged=True)
            return self._compare(connection, listing_id, complete=complete)

    def work(self, after_number: int, limit: int) -> list[WorkRow]:
        """The next due messages behind `after_number`, at most `limit`; an empty page is the last."""
        now = to_microseconds(clock.now())
        with self._read() as connection:
            rows = connection.execute(due.work(self.scope), {"after": after_number, "limit": limit, "now": now}).all()
        return [
            WorkRow(
                key, nr, uid, nth, size, _STATES[state], sha256, tries, when and from_microseconds(when), due_, done
            )
            for key, nr, uid, nth, size, state, sha256, tries, when, due_, done in rows
        ]

    def outlook(self, message_octets: int) -> tuple[int, int]:
        """Messages and octets (as listed) to be fetched now, those over `message_octets` left out."""
        parameters = {"now": to_microseconds(clock.now())}
        with self._read() as connection:
            messages, octets = connection.execute(due.outlook(self.scope, message_octets), parameters).one()
        return int(messages), int(octets)

    def removable(self, after_number: int, limit: int, delivered_before: datetime | None = None) -> list[RemovalRow]:
        """The next messages that may be removed, at most `limit`; see `removal.removable`."""
        with self._read() as connection:
            self._match(connection)  # a listing like the last one was recorded without
            return removal.removable(connection, self.scope, after_number, limit, delivered_before)

    # --- inside ----------------------------------------------------------------------------------------

    def _compare(self, connection: Connection, listing_id: int, *, complete: bool) -> ListingReport:
        self._match(connection)
        matching.decide(connection, self.scope)
        new = comparison.insert_new(connection, self.scope)
        if new:
            matching.identify(connection, self.scope)
        comparison.check_accounts(connection, self._listed)
        comparison.plan_deliveries(connection, self.scope)
        returned = comparison.take_back(connection)
        missing, gone = comparison.mark_absent(connection, self.scope, listing_id, new=new) if complete else (0, 0)
        known = self._listed - new
        return ListingReport(
            listing_id, self._listed, new, known, known - returned, missing, gone, returned, unchanged=False
        )

    def _match(self, connection: Connection) -> None:
        if not self._matched:
            matching.match(connection, self.scope)
            self._matched = True

    @property
    def _routes(self) -> str:
        return " ".join(str(route.id) for route in sorted(due.enabled(self.scope), key=lambda route: route.id))

    def _recent(self, connection: Connection) -> list[_Recorded]:
        """The mailbox's last listings, the latest first."""
        rows = connection.execute(
            select(listings.c.complete, listings.c.epoch, listings.c.digest, listings.c.routes)
            .where(listings.c.mailbox_id == self.scope.mailbox_id)
            .order_by(listings.c.id.desc())
            .limit(RECENT)
        )
        return [(complete, epoch, bytes(digest), routes) for complete, epoch, digest, routes in rows]

    def _shows_all(self, connection: Connection, recent: Sequence[_Recorded]) -> bool:
        """The listing is the same as the last, and the ledger has nothing else: missing, seeded or of another epoch."""
        return (
            bool(recent)
            and recent[0][:3] == (True, self.scope.epoch, self._digest.digest())
            and comparison.has_only(connection, self.scope, self._listed)
        )

    def _is_unchanged(self, connection: Connection) -> bool:
        """The listing is the same as the last, was planned for the same routes before, and nothing is left to do."""
        recent = self._recent(connection)
        ours = (True, self.scope.epoch, self._digest.digest(), self._routes)
        if ours not in recent or not self._shows_all(connection, recent):
            return False
        return connection.execute(due.any_open(self.scope)).first() is None

    def _insert(self, connection: Connection, *, complete: bool) -> int:
        values = {
            "mailbox_id": self.scope.mailbox_id,
            "run_id": self.scope.run_id,
            "at": to_microseconds(clock.now()),
            "epoch": self.scope.epoch,
            "messages": self._listed,
            "octets": self._octets,
            "digest": self._digest.digest(),
            "routes": self._routes,
            "complete": complete,
        }
        key = connection.execute(insert(listings).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._database.read(self._connection) as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write(self._connection) as connection:
            self._fence(connection)
            yield connection
