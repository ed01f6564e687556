"""One complete listing of a mailbox: taken in, compared, recorded, and asked which work it leaves.

The lines go into a running SHA-256 and a temporary table; few of them are kept in Python. A listing that changes
nothing writes nothing, and a short one does not even need the table. Everything else is decided by the statements of
`comparison` in one write transaction, so that after a crash a listing is recorded as a whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, bindparam, delete, insert, select

from syncd import clock
from syncd.db.bulk import many
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.ledger import comparison, epochs, matching, removal, work
from syncd.db.ledger.scopes import enabled
from syncd.db.models import listings, planned
from syncd.db.rows import Freeze, ListingReport, MailboxScope, Overlap, RemovalRow, SuspectLine, WorkRow
from syncd.db.states import MessageState
from syncd.mail.listing import LineNumber, Listed, Totals
from syncd.mail.mailbox import Epoch

MOST_KEPT: Final = 2000  # lines in Python, 300 octets each: most polls find a short mailbox as it was
MOST_TIDIED: Final = 20_000  # lines after which a temporary table is dropped, and the connection used again
_STATES: Final = tuple(MessageState)


# The last listing of a mailbox that was recorded; how many messages are present, of any epoch; how many are missing.
_LAST: Final = (
    select(
        listings.c.complete,
        listings.c.epoch,
        listings.c.digest,
        *(column.scalar_subquery() for column in comparison.presence(bindparam("mailbox"))),
    )
    .where(listings.c.mailbox_id == bindparam("mailbox"))
    .order_by(listings.c.id.desc())
    .limit(1)
)
_FORGET_PLANNED: Final = delete(planned).where(
    planned.c.mailbox_id == bindparam("mailbox"), planned.c.route_id.in_(bindparam("routes", expanding=True))
)
_PLANNED: Final = select(planned.c.route_id).where(
    planned.c.mailbox_id == bindparam("mailbox"),
    planned.c.route_id.in_(bindparam("routes", expanding=True)),
    planned.c.contents == bindparam("contents"),
)


class ListingSession:
    """A listing being taken in; a context manager that owns one connection, if it needs one. For one thread.

    In order: `add` each chunk, perhaps `suspects` and `judge`, `overlap`, `bump_epoch`; `record` once, then `work`,
    `outlook`, `removable`.
    Memory: flat for listings of any size; the lines are in a temporary file in the state directory.
    """

    def __init__(self, database: Database, fence: Callable[[Connection], None], scope: MailboxScope) -> None:
        self.scope = scope
        self._database = database
        self._fence = fence
        self._digest = hashlib.sha256()
        self._listed = 0
        self._octets = 0
        self._matched = False
        self._kept: list[Listed] = []  # that the temporary table does not have
        self._connection: Connection | None = None  # with the temporary table
        self._same: bool | None = None  # see `_shows_all`; None: not asked yet
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def add(self, chunk: Sequence[Listed]) -> None:
        """Take in the next lines, in the order of their numbers."""
        self._same = None
        self._kept += chunk
        if len(self._kept) > MOST_KEPT:
            with self._read():
                pass  # has put them into the table
        self._digest.update(b"".join([b"%d %d %b" % (octets, len(uid), uid) for _, uid, octets in chunk]))
        self._listed += len(chunk)
        self._octets += sum([line.octets for line in chunk])

    def distrust_above(self, uid_next: int) -> None:
        """Make every line suspect if a known uid of this epoch, a number, is not below the server's next one."""
        with self._look() as connection:
            highest = matching.highest_uid(connection, self.scope)
        if highest is None or highest < uid_next:
            return
        self._same = False
        with self._read() as connection:
            self._match(connection)
            matching.distrust(connection)

    def suspects(self, after_number: int, limit: int) -> list[SuspectLine]:
        """The next lines that may belong to another message than known under their id; none if nothing changed."""
        if self._shows_all():
            return []
        with self._read() as connection:
            self._match(connection)
            return matching.suspects(connection, after_number, limit)

    def judge(self, same: Sequence[LineNumber], other: Sequence[LineNumber]) -> None:
        """Take in what the server says of suspect lines; if any is another message, more lines become suspect."""
        with self._read() as connection:
            matching.judge(connection, same, other)

    def overlap(self) -> Overlap:
        """Returns how many messages that were present in this epoch the listing shows. Before `record`."""
        if self._shows_all():
            return Overlap(self._listed, self._listed, self._listed)
        with self._read() as connection:
            self._match(connection)
            return Overlap(self._listed, *comparison.present(connection, self.scope))

    def bump_epoch(self, why: Freeze | None, reason: str, to: Epoch | None = None) -> MailboxScope:
        """Begin a new epoch of the mailbox, as the server gave every message another id; see `epochs.bump`."""
        with self._write() as connection:
            self.scope = epochs.bump(connection, self.scope, why, reason, to)
            matching.forget(connection)
        self._matched, self._same = False, None
        return self.scope

    def record(self, totals: Totals, *, suspicious: bool = False) -> ListingReport:
        """Bring the ledger up to this listing, in one transaction. Once.

        No message is taken for absent when the listing is `suspicious` or does not have as many messages as the server
        counts. Raises Conflict when the mailbox's epoch is not the scope's; LedgerError, and records nothing, when not
        every line has a row of its own in the end.
        """
        complete = self._listed == totals.messages and not suspicious
        if complete and self._is_unchanged():
            return ListingReport(None, self._listed, 0, self._listed, self._listed, 0, 0, 0, unchanged=True)
        with self._write() as connection:
            epochs.check(connection, self.scope)
            listing_id = self._insert(connection, complete=complete)
            return self._compare(connection, listing_id, complete=complete)

    def work(self, after_number: int, limit: int) -> list[WorkRow]:
        """The next due messages behind `after_number`, at most `limit`; an empty page is the last."""
        now = to_microseconds(clock.now())
        with self._read() as connection:
            rows = connection.execute(
                work.work(self.scope.run), {"after": after_number, "limit": limit, "now": now}
            ).all()
        return [
            WorkRow(
                key, nr, uid, nth, size, _STATES[state], sha256, tries, when and from_microseconds(when), due_, done
            )
            for key, nr, uid, nth, size, state, sha256, tries, when, due_, done in rows
        ]

    def outlook(self, message_octets: int) -> tuple[int, int]:
        """Messages and octets (as listed) to be fetched now, without those over `message_octets`."""
        parameters = {"now": to_microseconds(clock.now())}
        with self._read() as connection:
            messages, octets = connection.execute(work.outlook(self.scope.run, message_octets), parameters).one()
        return int(messages), int(octets)

    def removable(
        self,
        after_number: int,
        limit: int,
        delivered_before: datetime | None = None,
        apart: removal.Apart = removal.NOTHING_APART,
    ) -> list[RemovalRow]:
        """The next messages that may be removed, at most `limit`; see `removal.removable`."""
        with self._read() as connection:
            self._match(connection)  # an unchanged listing was recorded without
            return removal.removable(connection, self.scope, after_number, limit, delivered_before, apart)

    # --- inside ----------------------------------------------------------------------------------------

    def _compare(self, connection: Connection, listing_id: int, *, complete: bool) -> ListingReport:
        self._match(connection)
        matching.decide(connection, self.scope)
        new = comparison.insert_new(connection, self.scope)
        if new:
            matching.identify(connection, self.scope)
        comparison.check_accounts(connection, self._listed)
        comparison.plan_deliveries(connection, self.scope)
        self._note_planned(connection, listing_id, complete=complete)
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
    def _contents(self) -> bytes:
        """The contents that the routes are planned from: the source's token, or the digest of the lines."""
        return self.scope.mailbox.contents or self._digest.digest()

    def _shows_all(self) -> bool:
        """Returns whether the listing equals the last one, and the ledger has no other message."""
        if self._same is None:
            with self._look() as connection:
                last = connection.execute(_LAST, {"mailbox": self.scope.mailbox_id}).first()
            known = (True, self.scope.epoch, self._digest.digest(), self._listed, 0)
            self._same = last is not None and (*last[:2], bytes(last[2]), *last[3:]) == known
        return self._same

    def _is_unchanged(self) -> bool:
        """Returns whether the listing equals the last one, every route was planned from it, and no delivery is open."""
        if not self._shows_all():
            return False
        with self._look() as connection:
            return self._is_planned(connection) and not work.any_open(connection, self.scope)

    def _is_planned(self, connection: Connection) -> bool:
        wanted = {route.id for route in enabled(self.scope.run)}
        values = {"mailbox": self.scope.mailbox_id, "routes": list(wanted), "contents": self._contents}
        same = connection.execute(_PLANNED, values)
        return wanted.issubset(same.scalars())

    def _note_planned(self, connection: Connection, listing_id: int, *, complete: bool) -> None:
        """Note from which contents the deliveries of each route were planned; of an incomplete listing none."""
        contents, modseq = (self._contents, self.scope.mailbox.modseq) if complete else (b"", None)
        wanted = [route.id for route in enabled(self.scope.run)]
        connection.execute(_FORGET_PLANNED, {"mailbox": self.scope.mailbox_id, "routes": wanted})
        rows = [
            {
                "mailbox_id": self.scope.mailbox_id,
                "route_id": route_id,
                "listing_id": listing_id,
                "contents": contents,
                "modseq": modseq,
            }
            for route_id in wanted
        ]
        if rows:
            connection.execute(insert(planned), rows)

    def _insert(self, connection: Connection, *, complete: bool) -> int:
        values = {
            "mailbox_id": self.scope.mailbox_id,
            "run_id": self.scope.run.run_id,
            "at": to_microseconds(clock.now()),
            "epoch": self.scope.epoch,
            "messages": self._listed,
            "octets": self._octets,
            "digest": self._digest.digest(),
            "complete": complete,
        }
        key = connection.execute(insert(listings).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    @contextmanager
    def _look(self) -> Iterator[Connection]:
        """A read transaction without the temporary table, which may not be there."""
        with self._database.read(self._connection) as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._database.read(self._with_lines()) as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write(self._with_lines()) as connection:
            self._fence(connection)
            yield connection

    def _with_lines(self) -> Connection:
        """Returns the connection whose temporary table has the lines that came so far."""
        if self._connection is not None and not self._kept:
            return self._connection
        found = self._connection
        if found is None:
            found = self._connection = self._stack.enter_context(self._database.session(self._tidy))
            with self._database.read(found) as connection:
                comparison.scratch.create(connection, checkfirst=False)
        with self._database.read(found) as connection:
            many(connection, comparison.ADD, self._kept)
        self._kept = []
        return found

    def _tidy(self, connection: Connection) -> bool:
        """Drop the temporary table if it is short; a long one goes with its connection, and its file with it."""
        if self._listed > MOST_TIDIED:
            return False
        with self._database.read(connection):
            comparison.scratch.drop(connection, checkfirst=False)
        return True
