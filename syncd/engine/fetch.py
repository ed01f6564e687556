"""Streams what is due in one opened mailbox into the pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

from syncd import clock
from syncd.db.ledger import ListingSession
from syncd.db.rows import WorkRow
from syncd.engine.budget import Door, RunRoom
from syncd.engine.closing import ended
from syncd.engine.context import Context
from syncd.engine.job import origin
from syncd.engine.pipe import Inlet
from syncd.engine.plan import Action, Rules, plan
from syncd.errors import LocalProtocolError, MessageTooLarge, Throttled
from syncd.mail.listing import Fetched, LineNumber, Wanted
from syncd.mail.message import Key, Message, MessageRef
from syncd.sources.base import OpenMailbox

PAGE_ROWS = 1000  # work is read from the ledger in pages: memory stays flat, transactions short


class MailboxFetch:
    """The fetch of one mailbox in one session. `usable` has the bits of the routes that take deliveries in this run."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self,
        context: Context,
        inlet: Inlet,
        room: RunRoom,
        door: Door,
        opened: OpenMailbox,
        listing: ListingSession,
        usable: int,
    ) -> None:
        self._context = context
        self._inlet = inlet
        self._room = room
        self._door = door
        self._opened = opened
        self._listing = listing
        self._usable = usable
        self._asked: dict[Key, WorkRow] = {}  # what the source has not answered yet
        self._used_up: Throttled | None = None  # the day's octets

    def run(self, *, behind: bool = False) -> None:
        """Hand over every message that is due, or the reason why it could not be had.

        What failed before comes last, each message in a stream of its own, what failed least often first: a message at
        which the server breaks off takes nothing with it, and the other suspects get their turn in the next run.

        When the slice is over no more is asked for. Raises Throttled, after all that was asked for has come, where the
        account may give no more today.

        With `behind=True` the messages that stand first, at which the last sessions got no further, come behind all
        others, the first of them at the end.
        """
        self._inlet.enter(self._listing.scope)
        first: list[WorkRow] = []
        last: list[WorkRow] = []
        self._stream(self._wanted(first, last, PAGE_ROWS if behind else 0))
        if first:
            self._stream(map(self._ask, takewhile(self._goes_on, reversed(first))))
        for row in takewhile(self._goes_on, sorted(last, key=lambda row: (row.attempts, row.number))):
            self._stream([self._ask(row)], alone=True)
        if self._used_up is not None:
            raise self._used_up

    def _stream(self, wanted: Iterable[Wanted], *, alone: bool = False) -> None:
        """Hand over each answer as it comes; they come in any order, one for each wanted message."""
        scope = self._listing.scope
        place = origin(self._context.job.account, scope.mailbox, scope.epoch)
        asked, usable, room = self._asked, self._usable, self._room
        add, answered, most = self._inlet.add, asked.pop, room.most
        with ended(self._opened.fetch(wanted, self._door, alone=alone)) as answers:
            for answer in answers:
                if answer is None:  # no room left: the writer can only make some with what we have handed over
                    self._inlet.flush()
                    continue
                key, body, error, flags, date, labels = answer
                row = answered(key, None)
                if row is None:
                    raise _unasked(answer)
                octets = row.octets
                if body is not None:
                    taken = octets if octets == body.octets <= most else room.taken_by(octets, body)
                    ref = MessageRef(place, row.uid, row.occurrence)
                    add(Message(key, ref, body, flags, date, labels=labels), row.pending_mask & usable, taken)
                elif error is not None:
                    room.give(room.taken_by(octets, None), 1)
                    self._inlet.fail(key, error)
        if asked:
            raise LocalProtocolError(f"the source left {len(asked):,} messages without an answer; please report this")

    def _wanted(self, first: list[WorkRow], last: list[WorkRow], kept: int) -> Iterator[Wanted]:
        """Yield what to fetch now; the first `kept` messages go to `first`, what is better fetched alone to `last`."""
        job = self._context.job
        rules = Rules(
            now=clock.now(),
            message_octets=job.message_octets,
            archive_mask=sum(route.bit for route in job.routes if route.archive is not None),
            usable_mask=self._usable,
        )
        after = LineNumber(0)
        while page := self._listing.work(after, PAGE_ROWS):
            for action, row in plan(page, rules):
                if action is Action.FETCH and len(first) >= kept:
                    if not self._goes_on(row):
                        return
                    yield self._ask(row)
                elif action is Action.FETCH:
                    first.append(row)
                elif action is Action.FETCH_LAST:
                    last.append(row)
                elif action is Action.TOO_LARGE:
                    self._inlet.fail(row.key, too_large(row.octets, rules.message_octets))
            after = page[-1].number

    def _goes_on(self, row: WorkRow) -> bool:
        """Returns whether to ask for a message; it is left for another slice where this one, or the day's, is over."""
        if self._context.slice.over:
            self._context.leave_more()
            return False
        allowance = self._context.job.allowance
        if self._used_up is None and allowance is not None:
            self._used_up = allowance.take(row.octets)
        return self._used_up is None

    def _ask(self, row: WorkRow) -> Wanted:
        self._asked[row.key] = row
        return Wanted(row.key, row.number, row.uid, row.octets)


def too_large(octets: int, limit: int) -> MessageTooLarge:
    """Returns why a message is not fetched at all."""
    return MessageTooLarge(
        f"has {octets:,} octets, more than limits.message_octets = {limit:,}; raise the limit to fetch it",
    )


def _unasked(answer: Fetched) -> LocalProtocolError:
    if answer.body is not None:
        answer.body.close()
    return LocalProtocolError(
        f"the source answered for message {answer.key}, which was not asked for or was answered already;"
        " please report this"
    )
