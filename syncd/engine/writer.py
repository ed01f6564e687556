"""The writer: takes batches from the pipe, delivers them to every route, commits what became of them."""

from __future__ import annotations

from collections.abc import Callable

from syncd.db.ledger import Scope
from syncd.destinations.base import Outcome, Verdict
from syncd.engine.events import Committed, Noted
from syncd.engine.job import Route
from syncd.engine.pipe import Batch, Pipe
from syncd.engine.reader import Context, Reader
from syncd.errors import Cancelled, LedgerError, SafetyStop, SyncdError
from syncd.mail.message import Message

STOPPED = "stopped on request; all that was delivered is recorded, the next run goes on from here"
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

        Destinations are told of the `upcoming` batch, which is not settled.
        """
        try:
            stored = [(m.key, m.body.octets, m.body.sha256, m.body.header_hash) for m in batch.messages]
            known = self._ledger.rebind(scope, stored)  # also after a run that broke off amid a renaming
            masks = self._without_known(batch.masks, batch.messages, known) if known else batch.masks
            outcomes = [
                (route.row.id, outcome)
                for route in tuple(self.routes)
                for outcome in self._deliver(route, _part(route, batch.messages, masks), upcoming)
            ]
            self._ledger.commit(scope, stored, outcomes, batch.failures)
        finally:
            batch.close()
        held = {outcome.key for _, outcome in outcomes if outcome.verdict is Verdict.DELIVERED}
        self._count(batch, outcomes)
        if not self.routes:
            raise self.left_out[-1]
        return all(m.key in held or not mask for m, mask in zip(batch.messages, masks, strict=True))

    def _deliver(self, route: Route, messages: list[Message], upcoming: Batch | None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if not messages:
            return outcomes
        following = _part(route, upcoming.messages, upcoming.masks) if upcoming else []
        try:
            with route.lock:
                self._check_lease()
                for group in route.destination.deliver(messages, following):
                    outcomes.extend(group)  # what was yielded before an error counts
        except ABORTING:
            raise
        except SyncdError as error:
            self.leave_out(route, error)
        return outcomes

    def leave_out(self, route: Route, error: SyncdError) -> None:
        """Go on without a destination that failed; what it misses stays pending."""
        self.routes.remove(route)
        self.left_out.append(error)
        self._report.errors.append(f"{route.name}: {error}")
        if self.routes:
            self._listen(Noted(self._job.name, f"{route.name} is left out for the rest of this run: {error}"))

    def _without_known(self, masks: list[int], messages: list[Message], known: dict[int, int]) -> list[int]:
        self._report.recognised += len(known)
        return [mask & ~known.get(m.key, 0) for m, mask in zip(messages, masks, strict=True)]

    def _count(self, batch: Batch, outcomes: list[tuple[int, Outcome]]) -> None:
        report = self._report
        if batch.fetched:
            report.fetched += len(batch.messages)
            report.fetched_octets += batch.octets
        names = {route.row.id: route.name for route in self._job.routes}
        for route_id, outcome in outcomes:
            if outcome.verdict is Verdict.DELIVERED:
                report.delivered[names[route_id]] = report.delivered.get(names[route_id], 0) + 1
        self._listen(Committed(self._job.name, report.fetched, report.fetched_octets))


def _part(route: Route, messages: list[Message], masks: list[int]) -> list[Message]:
    """Those of a batch that are for this route."""
    bit = route.bit
    if all(mask & bit for mask in masks):
        return messages
    return [m for m, mask in zip(messages, masks, strict=True) if mask & bit]
