"""Delivers to a destination where delivering again is not harmless: SMTP, LMTP, IMAP.

Each group of outcomes is committed at once, before the destination goes on. A message is `sending` in the ledger from
just before its last octets leave until its reply is read, so that a crash leaves uncertain what may have arrived and
nothing else. Whatever is still `sending` when the destination ends, or fails, is uncertain, and recorded.

A destination that can be asked (`Asked`) has its intents committed with `sending`, whole batches at a time. What is
`sending` when its session is lost is asked for at once by another session, or by the next run.

Where a destination has several connections, each has a handshake, in a thread of its own, that delivers batches of its
own. A server may take fewer connections than we are told to use. So a connection that cannot be
opened, or is lost twice, is not used any more in this run, and its work goes on by one that stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from syncd.db.ledger.traffic import Traffic
from syncd.destinations.base import Asked, Endable, Following, Guarded, Insistent, Noting, Recognising
from syncd.engine.breaker import LIMIT, Breaker, Tripped
from syncd.engine.closing import ended
from syncd.engine.context import SHORT_WAIT_S, Context
from syncd.engine.job import Connection, Route
from syncd.engine.pipe import BATCH_MESSAGES
from syncd.engine.progress import Done, Recorder
from syncd.engine.suspects import Suspects
from syncd.engine.turn import Turn
from syncd.engine.uncertain import record, resolve
from syncd.errors import (
    Cancelled,
    ConnectFailed,
    DestinationRefuses,
    LedgerError,
    Refused,
    Scope,
    SyncdError,
    Throttled,
    TransportError,
    count,
)
from syncd.mail.allowance import Direction
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict

More = Callable[[], Sequence[Message]]

APPEND: Final = "APPEND"  # a no to it is about the mail or the account, not about the session
ALL_LOST: Final = 3  # batches in which nothing but what was put aside was left: the server is broken, or the line
CHUNK_MESSAGES: Final = 100  # handed over at a time: so many may be refused on top before the breaker is heard
NO_REPLY: Final = "all of it was sent and no reply was read, so it may have arrived"


class Standing:
    """The connections of a route that a run uses; fewer where the server does not let us have all of them."""

    def __init__(self, context: Context, route: Route, turn: Turn) -> None:
        self.turn = turn
        self._context = context
        self._name = route.name
        self.all = route.connections
        self.several = len(self.all) > 1
        self.known = 0  # messages that the destination had already
        self.altered = 0  # messages that the destination has stored with other octets
        self.answers: dict[Key, Outcome] = {}  # what became of messages, for the connection that has sent them
        self._aside: list[Suspects] = []  # of batches in which nothing was accepted
        self._left = list(self.all)
        self._opened = [self.all[0]]  # the others follow when there is something for them

    def first(self) -> Connection:
        """Returns the first of those that stand."""
        return self._left[0]

    def has(self, connection: Connection) -> bool:
        """Returns whether a connection is in use."""
        return connection in self._left

    def is_open(self, connection: Connection) -> bool:
        """Returns whether the server lets us have a connection."""
        return connection in self._opened

    def opened(self, connection: Connection) -> None:
        """Note that the server lets us have a connection."""
        self._opened.append(connection)

    def put_aside(self, suspects: Suspects) -> None:
        """Keep what was put aside while nothing was accepted. Raises the last loss where these are too many."""
        if suspects.aside and suspects.why is not None:
            self._aside.append(suspects)
            if len(self._aside) >= ALL_LOST:
                raise suspects.why

    def blamed(self) -> list[Outcome]:
        """Returns DEFERRED for those that were kept, as the destination takes others."""
        kept, self._aside = self._aside, []
        return [outcome for suspects in kept for outcome in suspects.blamed()]

    def why_aside(self) -> SyncdError | None:
        """Returns the loss at those that were kept; None where there are none."""
        return self._aside[-1].why if self._aside else None

    def leave(self, connection: Connection, error: SyncdError) -> bool:
        """Use a connection no more, nor open others; returns False where it is the last one, which stays."""
        left = [one for one in self._opened if one is not connection]
        if not left:
            return False
        if len(self._left) == len(self.all):
            line = f"{self._name}: the server lets us have fewer than {len(self.all)} connections; this run goes on"
            self._context.note(f"{line} with those it has: {error}")
        self._left = self._opened = left
        return True


class Handshake:
    """One connection of a route in a run. Not to be used any more when `send` or `finish` has raised."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self,
        context: Context,
        route: Route,
        recorder: Recorder,
        check_lease: Callable[[], None],
        breaker: Breaker,
        standing: Standing,
        connection: Connection,
    ) -> None:
        """`breaker` and `standing` are the route's, for all its connections."""
        self._standing = standing
        self._connection = connection
        self._began_with = connection
        self._context = context
        self._route = route
        self._recorder = recorder
        self._check_lease = check_lease
        self._breaker = breaker
        self._sending: set[Key] = set()
        self._octets: dict[Key, int] = {}  # of the messages that were handed over last, where they are counted
        if isinstance(connection.destination, Guarded):
            connection.destination.guard(check_lease)
        if isinstance(connection.destination, Insistent):
            connection.destination.insist(frozenset(context.ledger.decisions.insisted(route.row.id)))

    def send(
        self, messages: Sequence[Message], upcoming: Sequence[Message], *, whole: bool = True, more: More | None = None
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver; yields final outcomes in groups, each committed already.

        With `whole=False` the end of the slice leaves the rest of the messages pending. `more` gives messages of the
        same mailbox that are ready to be sent, while answers are waited for; their outcomes come as well.

        Raises DestinationRefuses when everything is refused, Cancelled, and what the destination raises: then that is
        about the destination. A message without an outcome by then is pending, or its outcome was uncertain and it is
        sent again or held by the route's policy.
        """
        start = answered = 0
        number, over = len(messages), _never if whole else self._over
        for connection in (self._connection, self._standing.first()):
            if isinstance(connection.destination, Endable):
                patient = whole or self._context.slice.patient
                connection.destination.end_when(over, math.inf if patient else SHORT_WAIT_S)
        while start < len(messages) and not over():
            if self._context.room.cancelled:
                raise Cancelled("cancelled while delivering; all that was sent is recorded")
            end = start + (self._most if self._breaker.accepted else self._breaker.limit or CHUNK_MESSAGES)
            following = messages[end : end + CHUNK_MESSAGES] or upcoming
            for group in self._attempts(messages[start:end], following, more if end >= len(messages) else None):
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

    def ask(self, *, all_of_it: bool = False) -> Iterator[Sequence[Outcome]]:
        """Ask a destination for what this connection left `sending`; yields what became of it, committed.

        What others left is asked for with it: asked for one connection at a time, one's copy might be taken for the
        other's. With `all_of_it=True` it is all told here, as an earlier run has left it.
        """
        context, route, answers = self._context, self._route, self._standing.answers
        destination, account_id = self._connection.destination, route.row.account_id
        intended = partial(context.ledger.intents.find, context.scope, route.row.id)
        if not isinstance(destination, Asked) or account_id is None:
            return
        mine = frozenset(self._sending)
        if all_of_it and isinstance(destination, Endable):
            destination.end_when(self._over)
        if intended():  # not so where another connection has asked for ours, too
            route.take()
            with self._at_line():
                self._check_lease()
                taken = partial(context.ledger.intents.receipts, account_id)
                with ended(destination.ask(intended, taken)) as groups:
                    while (group := self._next(groups)) is not None:
                        answers.update((outcome.key, outcome) for outcome in group)
                        self._commit([outcome for outcome in group if outcome.verdict is not Verdict.SENDING])
        self._sending.clear()
        found = [answers.pop(key) for key in list(answers) if all_of_it or key in mine]
        if not found:
            return
        delivered = sum(outcome.verdict is Verdict.DELIVERED for outcome in found)
        on_the_way = f"{count(len(found), 'message')} on the way when a session ended"
        context.note(f"{route.name}: {on_the_way}, of which {delivered:,} arrived")
        if unknown := [outcome for outcome in found if outcome.verdict is Verdict.SENDING]:
            why = unknown[0].reason
            context.note(f"{route.name}: of {len(unknown):,} that cannot be told now; the next run asks again: {why}")
            if self._over():
                context.leave_more()
        yield found

    def _attempts(
        self, messages: Sequence[Message], upcoming: Sequence[Message], more: More | None = None
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver; where a session is lost with a destination that can be asked, ask and go on."""
        known: set[Key] = set()
        going = list(messages)  # and those that `more` gave, as long as they may have to be sent again
        suspects = Suspects()

        def follow() -> Sequence[Message]:
            added = () if more is None else more()
            going[:] = [message for message in going if message.key not in known] + [*added]
            return added

        while going:
            try:
                self._open()
                for group in self.ask() if self._sending and self._route.asked else ():
                    found = [outcome for outcome in group if outcome.verdict is not Verdict.NOT_SENT]
                    known.update(outcome.key for outcome in found)
                    yield found
                going[:] = [message for message in going if message.key not in known]
                suspects.take(going)
                if self._breaker.accepted and (blamed := [*self._standing.blamed(), *suspects.blamed()]):
                    yield self._commit(blamed)
                due = going[:1] if suspects.alone else list(going)
                there = self._recognised(due)
                known.update(outcome.key for outcome in there)
                if there:
                    yield there
                now = tuple(message for message in due if message.key not in known)
                for group in self._chunk(now, upcoming, None if more is None or suspects.alone else follow):
                    known.update(outcome.key for outcome in group)
                    yield group
                if not (suspects.alone and due and due[0].key in known):
                    break
            except SyncdError as error:
                goes_on = self._goes_on(error, lost=suspects.losses > 0)
                if not goes_on and not (self._may_be_the_message(error) and suspects.may_be(going)):
                    raise
                suspects.lost(error)
        self._standing.put_aside(suspects)

    def _open(self) -> None:
        if not self._standing.has(self._connection):
            self._connection = self._standing.first()
        if not self._opened:
            with self._at_line(), self._apart():
                self._connection.destination.open()
            self._standing.opened(self._connection)
            self._note()

    def _goes_on(self, error: SyncdError, *, lost: bool) -> bool:
        """Returns whether to ask and go on after an error: by another session, or another connection.

        With `lost=True` this is not the first error since `send` was called.
        """
        if error.scope is Scope.RUN or not self._route.asked or (isinstance(error, Throttled) and error.limit):
            return False
        if isinstance(error, TransportError) and self._opened and not lost:
            return True
        is_over = isinstance(error, TransportError) or (isinstance(error, Refused) and error.command != APPEND)
        return (is_over or not self._opened) and self._standing.leave(self._connection, error)

    def _may_be_the_message(self, error: SyncdError) -> bool:
        """Returns whether a session may have been lost at what was sent."""
        lost = isinstance(error, TransportError) and not isinstance(error, ConnectFailed)
        return lost and self._route.asked and self._opened

    @property
    def _opened(self) -> bool:
        return self._standing.is_open(self._connection)

    @property
    def stands(self) -> bool:
        """Returns whether the connection that it began with is in use still."""
        return self._standing.has(self._began_with)

    def _recognised(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Returns the outcomes, committed, of messages that the destination has already, or may have."""
        destination, account_id = self._connection.destination, self._route.row.account_id
        if not isinstance(destination, Recognising) or account_id is None or not messages:
            return ()
        found: list[Outcome] = []
        with self._at_line():
            self._check_lease()
            taken = partial(self._context.ledger.intents.receipts, account_id)
            with ended(destination.recognise(messages, taken)) as groups:
                while (group := self._next(groups)) is not None:
                    found += self._commit(group)
        self._standing.known += sum(outcome.verdict is Verdict.DELIVERED for outcome in found)
        return found

    @contextmanager
    def _at_line(self) -> Iterator[None]:
        """Have the connection for the block; its thread is not to wait for it while it is its turn."""
        with self._apart():
            self._connection.lock.acquire()
        lock = self._connection.lock
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Let the threads of other connections have their turn, while this one waits for the server."""
        if not self._standing.several:
            yield
            return
        with self._standing.turn.given_up():
            yield

    def _over(self) -> bool:
        return self._context.slice.over

    def finish(self) -> None:
        """Take in that this run has no more messages. Raises DestinationRefuses when all that it had were refused."""
        if self._standing.known:
            self._context.note(f"{self._route.name}: {self._standing.known:,} of the messages were there already")
        if self._standing.altered:
            what = f"in {self._standing.altered:,} cases the server said OK and stored other octets than it got"
            self._context.note(f"{self._route.name}: {what}")
        self._note()
        if self._breaker.accepted and (blamed := self._standing.blamed()):
            self._commit(blamed)
        if (why := self._standing.why_aside()) is not None:
            raise why
        self._breaker.finish()
        self._check_breaker()

    def _note(self) -> None:
        """Tell what the destination has to tell a person."""
        if isinstance(self._route.destination, Noting):
            for line in self._route.destination.notes():
                self._context.note(f"{self._route.name}: {line}")

    def _chunk(
        self, messages: Sequence[Message], upcoming: Sequence[Message], more: More | None = None
    ) -> Iterator[Sequence[Outcome]]:
        if self._route.is_counted:
            self._octets = {message.key: message.body.octets for message in messages}
        try:
            with self._at_line():
                self._check_lease()
                with ended(self._connection.destination.deliver(messages, upcoming)) as groups:
                    while (group := self._next(groups)) is not None:
                        if group or more is None:
                            yield self._commit(group)
                        else:
                            self._add(more)
        except LedgerError:
            raise  # nothing can be written any more: the next run finds what is `sending`
        except SyncdError as error:
            if not self._route.asked:
                self._record_uncertain(f"{NO_REPLY}: {error}")
            raise
        if not self._route.asked:
            self._record_uncertain(NO_REPLY)

    def _add(self, more: More) -> None:
        """Give the destination what is ready, while it waits for answers."""
        destination, breaker = self._connection.destination, self._breaker
        if isinstance(destination, Following) and breaker.accepted and breaker.tripped is None:
            added = more()
            if self._route.is_counted:
                self._octets.update({message.key: message.body.octets for message in added})
            destination.add(added)

    def _next(self, groups: Iterator[Sequence[Outcome]]) -> Sequence[Outcome] | None:
        with self._apart():
            return next(groups, None)

    def _commit(self, group: Sequence[Outcome]) -> Sequence[Outcome]:
        """Make a group durable; the destination goes on after that. Returns its final outcomes."""
        route = self._route
        final = [outcome for outcome in group if outcome.verdict is not Verdict.SENDING]
        if group:
            delivered = sum(outcome.verdict is Verdict.DELIVERED for outcome in final)
            done = Done(delivered={route.name: delivered} if delivered else {})
            outcomes = [(route.row.id, outcome) for outcome in group]
            self._recorder.commit([], outcomes, [], done, paced=True, passed=self._passed(group))
        self._sending -= {outcome.key for outcome in final}
        if len(final) < len(group):
            self._sending |= {outcome.key for outcome in group if outcome.verdict is Verdict.SENDING}
            self._check_lease()  # next their last octets leave, which cannot be undone
        self._standing.altered += sum(outcome.altered for outcome in final)
        uncertain = sum(outcome.verdict is Verdict.UNCERTAIN for outcome in final)
        if uncertain:
            resolve(self._context, uncertain)
        self._breaker.see(final)
        return final

    def _passed(self, group: Sequence[Outcome]) -> Traffic | None:
        """Returns what is about to leave, where that is counted."""
        account_id = self._route.row.account_id
        if not self._route.is_counted or account_id is None:
            return None
        octets = sum(self._octets.get(outcome.key, 0) for outcome in group if outcome.verdict is Verdict.SENDING)
        return Traffic(account_id, Direction.UP, octets) if octets else None

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
        what = "store mail there" if self._route.asked else "send, with this sender and to this recipient"
        return DestinationRefuses(
            f"the server refused {tripped.number} messages in a row and accepted none ({tripped.reason});"
            f" {len(tripped.keys)} stay pending. Check whether this account may {what};"
            f" to take the server's word for each message: `syncd run {job} --no-brake`"
        )


def _never() -> bool:
    return False
