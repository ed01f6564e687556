"""Delivers to a destination that cannot be asked what it has: SMTP, LMTP.

Each group of outcomes is committed at once, before the destination goes on. A message is `sending` in the ledger from
just before its last octets leave until its reply is read, so that a crash leaves in doubt what may have arrived and
nothing else. Whatever is still `sending` when the destination ends, or fails, is uncertain, and recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from syncd.db.ledger import Scope
from syncd.destinations.base import Insistent, Outcome, Verdict
from syncd.engine.breaker import Breaker, Tripped
from syncd.engine.job import Route
from syncd.engine.reader import Context
from syncd.engine.uncertain import doubt, settle_doubts
from syncd.errors import BrakeTripped, Cancelled, LedgerError, SyncdError
from syncd.mail.message import Message

CHUNK_MESSAGES: Final = 100  # handed over at a time: so many may be refused on top before the breaker is heard
NO_REPLY: Final = "all of it was sent and no reply was read, so it may have arrived"


class Sender:
    """One route of one run. Not to be used any more when `send` has raised."""

    def __init__(self, context: Context, route: Route, check_lease: Callable[[], None], breaker: Breaker) -> None:
        self._context = context
        self._route = route
        self._check_lease = check_lease
        self._breaker = breaker
        self._sending: set[int] = set()
        if isinstance(route.destination, Insistent):
            route.destination.insist(frozenset(context.ledger.insisted(route.row.id)))

    def send(
        self, messages: Sequence[Message], scope: Scope, upcoming: Sequence[Message]
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver; yields final outcomes in groups, each committed already.

        Raises BrakeTripped when everything is refused, Cancelled, and what the destination raises: then that is about
        the destination. What has no outcome by then is pending, or was uncertain and is settled by the route's policy.
        """
        start = 0
        while start < len(messages):
            if self._context.room.cancelled:
                raise Cancelled("cancelled while delivering; all that was sent is recorded")
            end = start + (CHUNK_MESSAGES if self._breaker.accepted else self._breaker.limit or CHUNK_MESSAGES)
            following = messages[end : end + CHUNK_MESSAGES] or upcoming
            yield from self._chunk(messages[start:end], scope, following)
            if self._breaker.tripped is not None:
                raise self._stop(self._breaker.tripped)
            start = end

    def _chunk(
        self, messages: Sequence[Message], scope: Scope, upcoming: Sequence[Message]
    ) -> Iterator[Sequence[Outcome]]:
        try:
            with self._route.lock:
                self._check_lease()
                for group in self._route.destination.deliver(messages, upcoming):
                    yield self._commit(group, scope)
        except LedgerError:
            raise  # nothing can be written any more: the next run finds what is `sending`
        except SyncdError as error:
            self._doubt(scope, f"{NO_REPLY}: {error}")
            raise
        self._doubt(scope, NO_REPLY)

    def _commit(self, group: Sequence[Outcome], scope: Scope) -> Sequence[Outcome]:
        """Make a group durable; the destination goes on after that. Gives its final outcomes."""
        final = [outcome for outcome in group if outcome.verdict is not Verdict.SENDING]
        if group:
            self._context.ledger.commit(scope, [], [(self._route.row.id, outcome) for outcome in group], [])
        self._sending -= {outcome.key for outcome in final}
        if len(final) < len(group):
            self._sending |= {outcome.key for outcome in group if outcome.verdict is Verdict.SENDING}
            self._check_lease()  # next their last octets leave, which cannot be undone
        uncertain = sum(outcome.verdict is Verdict.UNCERTAIN for outcome in final)
        if uncertain:
            settle_doubts(self._context, scope, uncertain)
        self._breaker.see(final)
        return final

    def _doubt(self, scope: Scope, reason: str) -> None:
        """The destination is done with them, or they with it, and has not said what became of them."""
        if self._sending:
            doubt(self._context, scope, [self._route.row.id], reason, self._sending)
            self._sending = set()

    def _stop(self, tripped: Tripped) -> BrakeTripped:
        self._context.ledger.take_back(self._route.row.id, tripped.keys)
        job = self._context.job.name
        return BrakeTripped(
            f"the server refused {tripped.number} messages in a row and accepted none ({tripped.reason});"
            f" {len(tripped.keys)} stay pending. Check whether this account may send, with this sender and to this"
            f" recipient; to have each message rejected for you to settle: `syncd run {job} --no-brake`"
        )
