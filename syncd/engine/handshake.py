"""Delivers to a destination where delivering again is not harmless: SMTP, LMTP, IMAP.

Each group of outcomes is committed at once, before the destination goes on. A message is `sending` in the ledger from
just before its last octets leave until its reply is read, so that a crash leaves uncertain what may have arrived and
nothing else. Whatever is still `sending` when the destination ends, or fails, is uncertain, and recorded.

A destination that can be asked (`Asked`) has its intents committed with `sending`, whole batches at a time. What is
`sending` when its session is lost is asked for at once by another session, or by the next run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from syncd.destinations.base import Asked, Endable, Insistent, Recognising
from syncd.engine.breaker import LIMIT, Breaker, Tripped
from syncd.engine.context import SHORT_WAIT_S, Context
from syncd.engine.job import Route
from syncd.engine.pipe import BATCH_MESSAGES
from syncd.engine.progress import Done, Recorder
from syncd.engine.uncertain import record, resolve
from syncd.errors import Cancelled, DestinationRefuses, LedgerError, SyncdError, TransportError
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict

CHUNK_MESSAGES: Final = 100  # handed over at a time: so many may be refused on top before the breaker is heard
NO_REPLY: Final = "all of it was sent and no reply was read, so it may have arrived"


class Handshake:
    """One route of one run. Not to be used any more when `send` or `finish` has raised."""

    def __init__(
        self, context: Context, route: Route, recorder: Recorder, check_lease: Callable[[], None], breaker: Breaker
    ) -> None:
        self._context = context
        self._route = route
        self._recorder = recorder
        self._check_lease = check_lease
        self._breaker = breaker
        self._sending: set[Key] = set()
        self._known = 0  # messages that the destination had already
        self._altered = 0  # messages that the destination has stored with other octets
        if isinstance(route.destination, Insistent):
            route.destination.insist(frozenset(context.ledger.decisions.insisted(route.row.id)))

    def send(
        self, messages: Sequence[Message], upcoming: Sequence[Message], *, whole: bool = True
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver; yields final outcomes in groups, each committed already.

        With `whole=False` the end of the slice leaves the rest of the messages pending.

        Raises DestinationRefuses when everything is refused, Cancelled, and what the destination raises: then that is
        about the destination. A message without an outcome by then is pending, or its outcome was uncertain and it is
        sent again or held by the route's policy.
        """
        start = answered = 0
        number, over = len(messages), _never if whole else self._over
        if isinstance(self._route.destination, Endable):
            patient = whole or self._context.slice.patient
            self._route.destination.end_when(over, math.inf if patient else SHORT_WAIT_S)
        while start < len(messages) and not over():
            if self._context.room.cancelled:
                raise Cancelled("cancelled while delivering; all that was sent is recorded")
            end = start + (self._most if self._breaker.accepted else self._breaker.limit or CHUNK_MESSAGES)
            following = messages[end : end + CHUNK_MESSAGES] or upcoming
            for group in self._attempts(messages[start:end], following):
                answered += len(group)
                yield group
            if self._breaker.tripped is not None and self._breaker.limit < LIMIT and end < len(messages):
                yield from self._chunk(messages[-1:], upcoming)  # these alone may be at fault, and hold up all others
                messages = messages[:-1]
            self._check_breaker()
            start = end
        if answered < number and over():
            self._context.leave_more()

    @property
    def _most(self) -> int:
        """Messages that are handed over at a time, once one was accepted."""
        return BATCH_MESSAGES if self._route.asked else CHUNK_MESSAGES

    def ask(self) -> Iterator[Sequence[Outcome]]:
        """Ask a destination for what is `sending`; yields what became of it, committed."""
        context, route = self._context, self._route
        destination, account_id = route.destination, route.row.account_id
        intended = context.ledger.intents.find(context.scope, route.row.id)
        if not intended or not isinstance(destination, Asked) or account_id is None:
            return
        with route.lock:
            self._check_lease()
            outcomes = destination.ask(intended, partial(context.ledger.intents.receipts, account_id))
            self._sending.clear()
            found = self._commit(outcomes)
        delivered = sum(outcome.verdict is Verdict.DELIVERED for outcome in found)
        context.note(
            f"{route.name}: {len(found):,} messages were on their way when a session ended: {delivered:,} have arrived"
        )
        yield found

    def _attempts(self, messages: Sequence[Message], upcoming: Sequence[Message]) -> Iterator[Sequence[Outcome]]:
        """Deliver; where a session is lost with a destination that can be asked, ask and go on once."""
        there = self._recognised(messages)
        known = {outcome.key for outcome in there}
        if there:
            yield there
        messages = [message for message in messages if message.key not in known]
        try:
            for group in self._chunk(messages, upcoming):
                known.update(outcome.key for outcome in group)
                yield group
        except TransportError:
            if not self._route.asked:
                raise
        else:
            return
        for group in self.ask():
            known.update(outcome.key for outcome in group if outcome.verdict is not Verdict.NOT_SENT)
            yield [outcome for outcome in group if outcome.verdict is not Verdict.NOT_SENT]
        yield from self._chunk([message for message in messages if message.key not in known], upcoming)

    def _recognised(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Returns the outcomes, committed, of messages that the destination has already."""
        destination, account_id = self._route.destination, self._route.row.account_id
        if not isinstance(destination, Recognising) or account_id is None or not messages:
            return ()
        with self._route.lock:
            self._check_lease()
            found = destination.recognise(messages, partial(self._context.ledger.intents.receipts, account_id))
        self._known += len(found)
        return self._commit(found)

    def _over(self) -> bool:
        return self._context.slice.over

    def finish(self) -> None:
        """Take in that this run has no more messages. Raises DestinationRefuses when all that it had were refused."""
        if self._known:
            self._context.note(f"{self._route.name}: {self._known:,} of the messages were there already")
        if self._altered:
            line = (
                f"{self._route.name}: in {self._altered:,} cases the server said OK and stored other octets than it got"
            )
            self._context.note(line)
        self._breaker.finish()
        self._check_breaker()

    def _chunk(self, messages: Sequence[Message], upcoming: Sequence[Message]) -> Iterator[Sequence[Outcome]]:
        try:
            with self._route.lock:
                self._check_lease()
                for group in self._route.destination.deliver(messages, upcoming):
                    yield self._commit(group)
        except LedgerError:
            raise  # nothing can be written any more: the next run finds what is `sending`
        except SyncdError as error:
            if not self._route.asked:
                self._record_uncertain(f"{NO_REPLY}: {error}")
            raise
        if not self._route.asked:
            self._record_uncertain(NO_REPLY)

    def _commit(self, group: Sequence[Outcome]) -> Sequence[Outcome]:
        """Make a group durable; the destination goes on after that. Returns its final outcomes."""
        route = self._route
        final = [outcome for outcome in group if outcome.verdict is not Verdict.SENDING]
        if group:
            delivered = sum(outcome.verdict is Verdict.DELIVERED for outcome in final)
            done = Done(delivered={route.name: delivered} if delivered else {})
            self._recorder.commit([], [(route.row.id, outcome) for outcome in group], [], done, paced=True)
        self._sending -= {outcome.key for outcome in final}
        if len(final) < len(group):
            self._sending |= {outcome.key for outcome in group if outcome.verdict is Verdict.SENDING}
            self._check_lease()  # next their last octets leave, which cannot be undone
        self._altered += sum(outcome.altered for outcome in final)
        uncertain = sum(outcome.verdict is Verdict.UNCERTAIN for outcome in final)
        if uncertain:
            resolve(self._context, uncertain)
        self._breaker.see(final)
        return final

    def _record_uncertain(self, reason: str) -> None:
        """Record what is still `sending`: the destination is done, or failed, and has not said what became of it."""
        if self._sending:
            record(self._context, [self._route.row.id], reason, self._sending)
            self._sending = set()

    def _check_breaker(self) -> None:
        if self._breaker.tripped is not None:
            raise self._stop(self._breaker.tripped)

    def _stop(self, tripped: Tripped) -> DestinationRefuses:
        self._context.ledger.uncertain.take_back(self._route.row.id, tripped.keys)
        job = self._context.job.name
        return DestinationRefuses(
            f"the server refused {tripped.number} messages in a row and accepted none ({tripped.reason});"
            f" {len(tripped.keys)} stay pending. Check whether this account may send, with this sender and to this"
            f" recipient; to take the server's word for each message: `syncd run {job} --no-brake`"
        )


def _never() -> bool:
    return False
