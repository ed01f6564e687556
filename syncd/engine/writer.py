"""The writer: takes batches from the pipe, delivers them to every route, commits what became of them.

Archives first: a batch for them is delivered and committed as a whole. Then the destinations that cannot be asked what
they have, message by message (`sender.py`): where an archive holds what was fetched they are served from there when
the source's session is over, so that none waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from syncd import clock
from syncd.db.ledger import Cause, Scope, Suspension, of_account, of_route
from syncd.destinations.base import Growing, Outcome, Verdict
from syncd.engine.events import Committed, Noted
from syncd.engine.handshake import Sender
from syncd.engine.job import Route
from syncd.engine.pipe import Batch, Pipe
from syncd.engine.reader import Context, Reader
from syncd.engine.suspension import breaker, cause_of, left_alone, refusal, subjects
from syncd.errors import AuthRefused, BrakeTripped, Cancelled, LedgerError, SafetyStop, SyncdError, Throttled
from syncd.mail.message import Message

STOPPED = "stopped on request; all that was delivered is recorded, the next run goes on from here"
TELL_S = 0.1  # a screen is drawn as often; each message may be a commit of its own
ABORTING = (Cancelled, LedgerError, SafetyStop)  # about the run as a whole, not about one destination


class Writer:
    """Runs in the thread that asked for the run. `check_lease` raises when our right to write is running out."""

    def __init__(self, context: Context, check_lease: Callable[[], None]) -> None:
        self._job = context.job
        self._ledger = context.ledger
        self._room = context.room
        self._listen = context.listen
        self._report = context.report
        self._check_lease = check_lease
        self.routes = list(context.job.routes)  # those still in use
        self.left_out: list[SyncdError] = []
        self._extents: dict[int, int] = {}  # by route: how far its archive is durable
        self._grown: dict[int, int] = {}  # the same, where the ledger does not have it yet
        self._told_at = -TELL_S
        self._told_of_found = False
        self._lifted: set[int] = set()  # routes that accepted something
        self._senders = {
            route.row.id: Sender(context, route, check_lease, breaker(context.job, context.ledger, route))
            for route in context.job.routes
            if not route.repeats
        }

    def drain(self, pipe: Pipe, reader: Reader) -> None:
        """Settle every batch. Raises the reader's error, or ours when no destination is left."""
        try:
            while (batch := pipe.next()) is not None:
                if self._room.cancelled:
                    batch.close()
                    raise Cancelled(STOPPED)
                durable = self.settle(batch, reader.scope, pipe.upcoming())
                self._room.give(batch.taken)
                pipe.settle(durable=durable)
        finally:
            pipe.stop()

    def settle(self, batch: Batch, scope: Scope, upcoming: Batch | None = None) -> bool:
        """Deliver and commit one batch; whether each of its messages is now held by some destination.

        Destinations are told of the `upcoming` batch, which is not settled. What was fetched and is in an archive now
        is for archives alone.
        """
        held: set[int] = set()
        try:
            stored = [(m.key, m.body.octets, m.body.sha256, m.body.header_hash) for m in batch.messages]
            known = self._ledger.rebind(scope, stored)  # also after a run that broke off amid a renaming
            masks = self._without_known(batch.masks, batch.messages, known) if known else batch.masks
            outcomes = [
                (route, outcome)
                for route in self._in_use(repeats=True)
                for outcome in self._deliver(route, _part(route, batch.messages, masks), upcoming)
            ]
            told = [(route.row.id, outcome) for route, outcome in outcomes]
            self._hold_found(scope, outcomes)
            self._ledger.commit(scope, stored, told, batch.failures, self._grown)
            self._grown = {}
            self._count_fetched(batch)
            held.update(self._count(outcomes))
            archived = frozenset(held if batch.fetched else ())  # served from there when the session is over
            for route in self._in_use(repeats=False):
                part = [m for m in _part(route, batch.messages, masks) if m.key not in archived]
                held.update(self._send(route, part, scope, _upcoming_part(route, upcoming)))
        finally:
            batch.close()
        if not self.routes:
            raise self.left_out[-1]
        return all(m.key in held or not mask for m, mask in zip(batch.messages, masks, strict=True))

    @property
    def is_direct(self) -> bool:
        """No archive is in use: what is fetched goes to the other destinations while the source's session lasts."""
        return not any(route.archive is not None for route in self.routes)

    def leaves_alone(self, route: Route) -> bool:
        """Whether a destination is suspended: then it is left out."""
        suspended = left_alone(self._job, self._ledger, route)
        if suspended is not None:
            self._suspend(route, suspended)
        return suspended is not None

    def leave_out(self, route: Route, error: SyncdError) -> None:
        """Go on without a destination that failed; what it misses stays pending."""
        self.routes.remove(route)
        self.left_out.append(error)
        self._report.errors.append(f"{route.name}: {error}")
        if self.routes:
            self._listen(Noted(self._job.name, f"{route.name} is left out for the rest of this run: {error}"))

    def _in_use(self, *, repeats: bool) -> list[Route]:
        return [route for route in self.routes if route.repeats is repeats]

    def _deliver(self, route: Route, messages: list[Message], upcoming: Batch | None) -> list[Outcome]:
        """Deliver to an archive; the outcomes that are known, even where it failed."""
        outcomes: list[Outcome] = []
        if not messages:
            return outcomes
        try:
            with route.lock:
                self._check_lease()
                for group in route.destination.deliver(messages, _upcoming_part(route, upcoming)):
                    outcomes.extend(group)  # what was yielded before an error counts
                self._measure(route)
        except ABORTING:
            raise
        except SyncdError as error:
            self.leave_out(route, error)
        return outcomes

    def _hold_found(self, scope: Scope, outcomes: Iterable[tuple[Route, Outcome]]) -> None:
        """What an archive had before this ledger knew it may have been sent on: that is for a person to say."""
        found = [(outcome.key, outcome.there_since) for _, outcome in outcomes if outcome.there_since is not None]
        if not found or all(route.repeats for route in self._job.routes):
            return
        if self._ledger.hold_found(scope, found) and not self._told_of_found:
            self._told_of_found = True
            line = "what was in the archive before this ledger was there may have been sent, and is held for you"
            self._listen(Noted(self._job.name, f"{line}; see: syncd errors {self._job.name}"))

    def _measure(self, route: Route) -> None:
        """See whether an archive has grown, which is told with what was delivered."""
        if isinstance(route.destination, Growing):
            octets = route.destination.extent()
            if octets != self._extents.get(route.row.id):
                self._extents[route.row.id] = self._grown[route.row.id] = octets

    def _send(self, route: Route, messages: list[Message], scope: Scope, upcoming: Sequence[Message]) -> set[int]:
        """Deliver to one of the others; the messages that it accepted."""
        accepted: set[int] = set()
        if route not in self.routes:
            return accepted  # it went with another of its account, just now
        try:
            for group in self._senders[route.row.id].send(messages, scope, upcoming):
                accepted |= self._count((route, outcome) for outcome in group)
                self._lift(route, accepted)
        except BrakeTripped as error:
            self._suspend(route, self._ledger.back_off(of_route(route.row.id), Cause.REFUSED, str(error)))
        except ABORTING:
            raise
        except AuthRefused as error:
            assert route.row.account_id is not None, "only who has an account signs in"
            suspension = self._ledger.back_off(of_account(route.row.account_id), Cause.SIGN_IN, str(error))
            for other in [it for it in self.routes if it.row.account_id == route.row.account_id]:
                self._suspend(other, suspension)
        except Throttled as error:
            suspension = Suspension(error.until, str(error), cause_of(route, error))
            self._ledger.suspend(of_route(route.row.id), suspension)
            self._suspend(route, suspension)
        except SyncdError as error:
            self.leave_out(route, error)
        return accepted

    def _suspend(self, route: Route, suspension: Suspension) -> None:
        self._report.suspended[route.name] = suspension.until
        self.leave_out(route, refusal(self._job.name, suspension))

    def _lift(self, route: Route, accepted: set[int]) -> None:
        """It works: whatever an earlier run held against it is over."""
        if accepted and route.row.id not in self._lifted:
            self._lifted.add(route.row.id)
            self._ledger.lift(subjects(route))

    def _without_known(self, masks: list[int], messages: list[Message], known: dict[int, int]) -> list[int]:
        self._report.recognised += len(known)
        return [mask & ~known.get(m.key, 0) for m, mask in zip(messages, masks, strict=True)]

    def _count_fetched(self, batch: Batch) -> None:
        if batch.fetched:
            self._report.fetched += len(batch.messages)
            self._report.fetched_octets += batch.octets

    def _count(self, outcomes: Iterable[tuple[Route, Outcome]]) -> set[int]:
        """Count what was delivered, and tell; the keys of it."""
        delivered = self._report.delivered
        keys = set()
        for route, outcome in outcomes:
            if outcome.verdict is Verdict.DELIVERED:
                delivered[route.name] = delivered.get(route.name, 0) + 1
                keys.add(outcome.key)
        self._tell()
        return keys

    def _tell(self) -> None:
        """How far it is, at most once in TELL_S."""
        now = clock.monotonic()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            self._listen(Committed(self._job.name, self._report.fetched, self._report.fetched_octets))


def _part(route: Route, messages: list[Message], masks: list[int]) -> list[Message]:
    """Those of a batch that are for this route."""
    bit = route.bit
    if all(mask & bit for mask in masks):
        return messages
    return [m for m, mask in zip(messages, masks, strict=True) if mask & bit]


def _upcoming_part(route: Route, upcoming: Batch | None) -> list[Message]:
    return _part(route, upcoming.messages, upcoming.masks) if upcoming else []
