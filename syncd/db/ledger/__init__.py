"""The ledger: what is known of each message at its source and of each of its deliveries.

The order of commits, which is what makes a crash at any instant harmless:

    1. listing      ListingSession.record     a row for every message, a pending delivery for every route of the job
    2. intent       commit                    `sending`, for destinations that cannot be asked what they have; beside
                                              the outcomes of others
    3. (octets are written, synced, acknowledged by a destination: before the next line, never after it)
    4. outcome      commit                    octets and SHA-256, delivered | deferred | rejected | …, problems
    5. intent       mark_removing             only of what every enabled job on the account is done with
    6. (the server removes)
    7. outcome      mark_removed

A crash between 3 and 4 has the message delivered once more, which a repeat-safe destination does not notice; what is
`sending` after one is uncertain (`doubt`), is recorded, and goes on by its route's policy (`settle_doubts`). A crash
between 6 and 7 is settled by the next listing. Every write is one transaction and begins with the fence, which raises
LeaseLost when somebody else has the right to write. Methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from syncd.db import routing
from syncd.db.ledger import (
    archives as extents,
)
from syncd.db.ledger import (
    damaged,
    epochs,
    outcomes,
    seeding,
    suspensions,
)
from syncd.db.ledger import (
    decisions as settling,
)
from syncd.db.ledger import (
    predecessors as elsewhere,
)
from syncd.db.ledger import (
    uncertain as doubts,
)
from syncd.db.ledger import (
    work as due,
)
from syncd.db.ledger.accounting import accounting, any_problem, queues
from syncd.db.ledger.archives import ASK
from syncd.db.ledger.listing import ListingSession
from syncd.db.ledger.outcomes import Stored
from syncd.db.ledger.problems import holding, problem_rows
from syncd.db.ledger.suspensions import of_account, of_route
from syncd.db.removing import RemovalLedger
from syncd.db.rows import (
    Accounting,
    Cause,
    Overlap,
    ProblemRow,
    RemovalRow,
    RouteRow,
    Scope,
    Settled,
    StrayRow,
    Suspension,
    WorkRow,
)
from syncd.destinations.base import Outcome, Place
from syncd.errors import SyncdError

__all__ = [
    "ASK",
    "Accounting",
    "Cause",
    "Ledger",
    "ListingSession",
    "Overlap",
    "ProblemRow",
    "RemovalRow",
    "RouteRow",
    "Scope",
    "Settled",
    "Stored",
    "StrayRow",
    "Suspension",
    "WorkRow",
    "of_account",
    "of_route",
]


class Ledger(RemovalLedger):
    """The ledger as a run uses it. `fence` is called first in each write transaction."""

    def listing(self, scope: Scope) -> ListingSession:
        """Take in a listing: a context manager."""
        return ListingSession(self._database, self._fence, scope)

    def commit(
        self,
        scope: Scope,
        stored: Sequence[Stored],
        outcomes_: Sequence[tuple[int, Outcome]],
        failures: Sequence[tuple[int, SyncdError]],
        grown: Mapping[int, int] | None = None,
    ) -> None:
        """What became of a batch, in one transaction.

        `stored` is what was received; `outcomes_` are (route id, outcome); `failures` are messages that could not be
        had, with errors of scope message: they are tried again after a growing time, then wait for a person. What
        succeeds clears its problem. `grown`: what of a route's archive is durable now, see `extents`. Told twice is
        told once. Raises Conflict, and writes nothing, for a move that `states.py` does not allow.
        """
        with self._write() as connection:
            outcomes.commit(connection, scope, stored, outcomes_, failures)
            if grown:
                extents.grow(connection, grown)

    def rebind(self, scope: Scope, stored: Sequence[Stored]) -> dict[int, int]:
        """Recognise messages fetched under new names; call it before delivering a batch.

        Key → mask of the scope's routes that need no delivery any more, for each message that has the octets and
        SHA-256 of one that is missing, or known from an earlier epoch of the mailbox. Costs two look-ups while nothing
        waits to be bound.
        """
        with self._database.read() as connection:
            if not epochs.any_candidate(connection, scope):
                return {}
        with self._write() as connection:
            return epochs.rebind(connection, scope, stored)

    def strays(self, scope: Scope, after_key: int, limit: int) -> list[StrayRow]:
        """The next messages, by key, that one of the job's archives can pass on to another of its routes."""
        with self._database.read() as connection:
            return due.stray_rows(connection, scope, after_key, limit)

    def mark_damaged(self, scope: Scope, key: int, route_id: int, reason: str) -> None:
        """The archive of this route cannot give this message back, see `damaged`."""
        with self._write() as connection:
            damaged.mark(connection, scope, key, route_id, reason)

    def is_empty(self, scope: Scope, route_id: int) -> bool:
        """Whether the ledger has planned nothing for this route since it was new or to be filled again: then `seed`."""
        with self._database.read() as connection:
            return seeding.is_unknown(connection, scope, route_id)

    def seed(self, scope: Scope, route_id: int, places: Iterator[Place]) -> int:
        """Take in what an archive holds of the account; how many deliveries are thereby known to be done. Repeatable.

        A mailbox that was never listed is afterwards in the highest epoch seen: go on with `current(scope)`.
        """
        return seeding.seed(self._database, self._fence, scope, route_id, places)

    def hold_found(self, scope: Scope, found: Sequence[tuple[int, datetime]]) -> int:
        """Hold what may have been sent before this ledger was there, see `seeding`; call it before the outcomes."""
        with self._write() as connection:
            return seeding.hold_found(connection, scope, found)

    def current(self, scope: Scope) -> Scope:
        """The scope in the epoch that its mailbox has now."""
        with self._database.read() as connection:
            return epochs.current(connection, scope)

    def extents(self, route_ids: Sequence[int]) -> dict[int, int]:
        """Route → octets of its archive that were durable when it was last delivered to; see `extents`."""
        with self._database.read() as connection:
            return extents.find(connection, route_ids)

    # --- uncertain, refused, suspended -----------------------------------------------------------------

    def mail_routes(self, *, account_id: int | None = None, job_id: int | None = None) -> list[int]:
        """Ids of all routes to mail servers, in use or not, of the jobs that read an account, or of one job."""
        with self._database.read() as connection:
            return routing.mail_routes(connection, account_id=account_id, job_id=job_id)

    def doubt(self, scope: Scope, route_ids: Sequence[int], reason: str, keys: Collection[int] | None = None) -> int:
        """What is `sending` on these routes (of `keys`, or all) is uncertain, and recorded as such; how many."""
        with self._write() as connection:
            return doubts.doubt(connection, scope, route_ids, reason, keys)

    def hold_elsewhere(self, scope: Scope) -> int:
        """Hold what a route that is not in use any more may have given to the same recipient; how many."""
        with self._database.read() as connection:
            before = elsewhere.used_before(connection, scope)
        if not before:
            return 0
        with self._write() as connection:
            return elsewhere.hold(connection, scope, before)

    def settle_doubts(self, scope: Scope, hold: Collection[int]) -> Settled:
        """Uncertain deliveries of the scope's routes are sent again, those on routes in `hold` wait for a person."""
        with self._write() as connection:
            return doubts.settle(connection, scope, hold)

    def take_back(self, route_id: int, keys: Sequence[int]) -> None:
        """These were rejected only because everything was: they are pending again. Raises Conflict."""
        with self._write() as connection:
            doubts.take_back(connection, route_id, keys)

    def refused_lately(self, route_id: int, limit: int, besides: Collection[int] = ()) -> list[str]:
        """Reasons of what else was rejected on a route since anything was delivered there; not quick."""
        with self._database.read() as connection:
            return doubts.refused_lately(connection, route_id, limit, besides)

    def suspend(self, subject: str, suspension: Suspension) -> None:
        """Leave a destination or an account alone until then, in later runs too; see `suspensions`."""
        with self._write() as connection:
            suspensions.put(connection, subject, suspension)

    def back_off(self, subject: str, cause: Cause, reason: str) -> Suspension:
        """Leave it alone for longer than the last time."""
        with self._write() as connection:
            return suspensions.back_off(connection, subject, cause, reason)

    def suspensions(self, subjects: Collection[str]) -> dict[str, Suspension]:
        """What is known of these, also where its time is over."""
        with self._database.read() as connection:
            return suspensions.find(connection, subjects)

    def lift(self, subjects: Collection[str]) -> None:
        """It succeeded: nothing holds it back, and the next refusal is the first. A read where nothing is known."""
        if self.suspensions(subjects):
            with self._write() as connection:
                suspensions.lift(connection, subjects)

    # --- what a person decides -------------------------------------------------------------------------

    def retry(self, pairs: settling.Pairs, looping: settling.Pairs = ()) -> None:
        """Try these (message, route) again in the next run, whatever they wait for; `looping`: even if they loop."""
        with self._write() as connection:
            settling.retry(connection, pairs, looping)

    def insisted(self, route_id: int) -> list[int]:
        """Messages that a person wants to be sent on a route even if they loop."""
        with self._database.read() as connection:
            return settling.insisted(connection, route_id)

    def drop(self, pairs: settling.Pairs, job_id: int) -> None:
        """Never try these (message, route) again, as far as this job is concerned."""
        with self._write() as connection:
            settling.drop(connection, pairs, job_id)

    def resume(self, job_id: int, meant: Callable[[str, str], bool] = lambda *_: True) -> list[str]:
        """Do not leave the job's source and destinations alone any longer, see `suspensions.resume`; their names."""
        with self._write() as connection:
            return suspensions.resume(connection, job_id, meant)

    # --- looking ---------------------------------------------------------------------------------------

    def accounting(self, scope: Scope) -> Accounting:
        """Where every message of the mailbox stands for this job."""
        with self._database.read() as connection:
            return accounting(connection, scope)

    def any_problem(self, scope: Scope) -> bool:
        """Whether something is wrong with a delivery of this job; quick, however many messages there are."""
        with self._database.read() as connection:
            return connection.execute(any_problem(scope)).first() is not None

    def queues(self, scope: Scope) -> dict[str, int]:
        """Mail server (by name) → deliveries that go on there without a person, where there are any."""
        with self._database.read() as connection:
            return queues(connection, scope)

    def problems(self, job_id: int | None = None) -> Iterator[ProblemRow]:
        """What went wrong and is not over, of one job or of all; streamed."""
        return problem_rows(self._database, job_id)

    def holding(self, keys: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
        """Message → names of the archives that hold it, each with the hint of its receipt."""
        with self._database.read() as connection:
            return holding(connection, keys)
