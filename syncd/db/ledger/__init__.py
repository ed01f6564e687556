"""The ledger: what is known of each message at its source and of each of its deliveries.

The order of commits, which is what makes a crash at any instant harmless:

    1. listing      ListingSession.record     a row for every message, a pending delivery for every route of the job
    2. intent       commit                    `sending`, for destinations that are not repeat-safe, with the place where
                                              they are asked after a crash; beside outcomes of other messages
    3. (octets are written, synced, acknowledged by a destination: before the next line, never after it)
    4. outcome      commit                    octets and SHA-256, delivered | deferred | rejected …, problems, progress
    5. intent       removals.mark_removing    only of messages that every enabled job on the account is done with
    6. (the server removes)
    7. outcome      removals.mark_removed

A crash between 3 and 4 has the message delivered once more, which a repeat-safe destination does not notice. A delivery
that is `sending` after a crash is asked for (`intents.find`), or uncertain (`uncertain.record`) and goes on by its
route's policy (`uncertain.resolve`). After a crash between 6 and 7 the next listing shows what happened. Every write is
one transaction and begins with the fence, which raises LeaseLost when somebody else has the right to write. Methods may
be called from any thread.

    listing.py comparison.py matching.py   a listing is taken in        outcomes.py     what became of a batch
    mailboxes.py                           of an account, freezes       epochs.py       messages under new ids
    work.py                                what is due                  accounting.py   where every message stands
    archives.py seeding.py damaged.py      what archives have           removal.py      what may go at the source
    uncertain.py predecessors.py sent.py   what servers may have        backoff.py      every delay
    intents.py                             where to ask for it
    problems.py decisions.py               shown, and decided           suspensions.py  not contacted before a time
    parts.py                               these as methods, each a transaction
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from syncd.db.database import Database
from syncd.db.ledger import (
    archives,
    epochs,
    outcomes,
    seeding,
    traffic,
    work,
)
from syncd.db.ledger.accounting import accounting, any_problem, queues
from syncd.db.ledger.archives import Delivered
from syncd.db.ledger.listing import ListingSession
from syncd.db.ledger.outcomes import Stored
from syncd.db.ledger.parts import (
    Archives,
    Decisions,
    Fence,
    Intents,
    Mailboxes,
    Part,
    Removals,
    Suspensions,
    Uncertain,
)
from syncd.db.ledger.problems import problem_rows
from syncd.db.ledger.suspensions import of_account, of_route
from syncd.db.ledger.traffic import Traffic
from syncd.db.progress import write_progress
from syncd.db.rows import (
    Accounting,
    BackfillRow,
    Cause,
    Freeze,
    FrozenMailbox,
    KnownMailbox,
    MailboxScope,
    Overlap,
    ProblemKind,
    ProblemRow,
    Progress,
    RemovalRow,
    Resolved,
    RouteRow,
    RunScope,
    SuspectLine,
    Suspension,
    WorkRow,
)
from syncd.errors import SyncdError
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome

__all__ = [
    "Accounting",
    "BackfillRow",
    "Cause",
    "Delivered",
    "Freeze",
    "FrozenMailbox",
    "KnownMailbox",
    "Ledger",
    "ListingSession",
    "MailboxScope",
    "Overlap",
    "ProblemKind",
    "ProblemRow",
    "Progress",
    "RemovalRow",
    "Resolved",
    "RouteRow",
    "RunScope",
    "Stored",
    "SuspectLine",
    "Suspension",
    "WorkRow",
    "of_account",
    "of_route",
]


class Ledger(Part):
    """The ledger as a run uses it. `fence` is called first in each write transaction."""

    def __init__(self, database: Database, fence: Fence) -> None:
        super().__init__(database, fence)
        self.mailboxes: Final = Mailboxes(database, fence)
        self.archives: Final = Archives(database, fence)
        self.uncertain: Final = Uncertain(database, fence)
        self.intents: Final = Intents(database, fence)
        self.suspensions: Final = Suspensions(database, fence)
        self.removals: Final = Removals(database, fence)
        self.decisions: Final = Decisions(database, fence)

    def listing(self, scope: MailboxScope) -> ListingSession:
        """Take in a listing: a context manager."""
        return ListingSession(self._database, self._fence, scope)

    def commit(
        self,
        scope: RunScope,
        stored: Sequence[Stored],
        outcomes_: Sequence[tuple[int, Outcome]],
        failures: Sequence[tuple[Key, SyncdError]],
        *,
        grown: Mapping[int, int] | None = None,
        progress: Progress | None = None,
        passed: Traffic | None = None,
    ) -> None:
        """Write what became of a batch, in one transaction.

        `stored` is what was received; `outcomes_` are (route id, outcome); `failures` are messages that could not be
        had, with errors of scope message: they are tried again after a growing time, then wait for a person. A
        success clears its problem. `grown`: route → octets of its archive that are durable now, see `archives`.
        `passed` is counted for an account that has a daily limit.
        Told twice is told once. Raises Conflict, and writes nothing, for a move that `states.py` does not allow;
        LeaseLost when somebody took the run over.
        """
        with self._write() as connection:
            outcomes.commit(connection, scope, stored, outcomes_, failures)
            if grown:
                archives.grow(connection, grown)
            if passed is not None:
                traffic.add(connection, passed)
            if progress is not None:
                write_progress(connection, scope.run_id, scope.generation, progress)

    def report(self, scope: RunScope, progress: Progress) -> None:
        """Write how far the run is, where there is nothing else to commit. Raises LeaseLost."""
        with self._write() as connection:
            write_progress(connection, scope.run_id, scope.generation, progress)

    def rebind(self, scope: MailboxScope, stored: Sequence[Stored]) -> dict[Key, int]:
        """Recognise messages fetched under new ids; call it before delivering a batch.

        Key → mask of the run's routes that need no delivery any more, for each message that has the octets and
        SHA-256 of a message of the account that is missing, or known from another epoch of its mailbox. Costs two
        look-ups while no message waits to be bound.
        """
        with self._database.read() as connection:
            if not epochs.any_candidate(connection, scope):
                return {}
        with self._write() as connection:
            return epochs.rebind(connection, scope, stored)

    def recognise(self, scope: MailboxScope, heads: Sequence[epochs.Head]) -> dict[Key, int]:
        """Recognise messages under new ids before they are fetched, as `rebind` does afterwards.

        A message is known if exactly one text among the candidates has its size and its header.
        """
        with self._write() as connection:
            return epochs.recognise(connection, scope, heads)

    def backfill(self, scope: RunScope, after: Key, limit: int) -> list[BackfillRow]:
        """The next messages, by key, that one of the job's archives can give to another of its routes."""
        with self._database.read() as connection:
            return work.backfill_rows(connection, scope, after, limit)

    def expecting(self, scope: RunScope, route_ids: Collection[int]) -> set[int]:
        """Returns the routes that a run surely has something for: nothing is planned yet, or a delivery is open."""
        with self._database.read() as connection:
            return seeding.unplanned(connection, scope, route_ids) | work.with_open(connection, route_ids)

    # --- looking ---------------------------------------------------------------------------------------

    def accounting(self, scope: RunScope) -> Accounting:
        """Returns where every message of the account stands for this job."""
        with self._database.read() as connection:
            return accounting(connection, scope)

    def any_problem(self, scope: RunScope) -> bool:
        """Returns whether something is wrong with a delivery of this job; quick, however many messages there are."""
        with self._database.read() as connection:
            return any_problem(connection, scope)

    def queues(self, scope: RunScope) -> dict[str, int]:
        """Mail server (by name) → deliveries that go on there without a person, where there are any."""
        with self._database.read() as connection:
            return queues(connection, scope)

    def problems(self, job_id: int | None = None) -> Iterator[ProblemRow]:
        """Yields the problems that are not over, of one job or of all; streamed."""
        return problem_rows(self._database, job_id)
