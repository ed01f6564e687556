"""Backfill: learn what archives have, and deliver from them what other destinations lack. Nothing is fetched for it.

For repeat-safe destinations a crash leaves nothing to decide: a message whose commit was lost is still pending, is
fetched again (at most what was in flight), and delivering it again changes nothing. For the others see `uncertain.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.db.rows import BackfillRow, MailboxScope, RunScope
from syncd.engine.closing import ended
from syncd.engine.context import Context
from syncd.engine.fetch import PAGE_ROWS
from syncd.engine.job import Route, origin
from syncd.engine.pipe import BATCH_MESSAGES, BATCH_OCTETS, Batch
from syncd.engine.writer import Writer
from syncd.errors import Cancelled, FormatDamaged, StorageError, count
from syncd.mail.message import Key, Message, MessageRef, Receipt, StoredMessage


def seed(context: Context, ready: Callable[[Route], bool]) -> None:
    """Tell the ledger what archives have, for routes that it has planned nothing for (a new laptop, a new job).

    These are made `ready`, which takes up what a crash left; one that cannot be opened is still read.
    """
    archives, scope = context.ledger.archives, context.scope
    readable = [route.row.id for route in context.job.routes if route.archive is not None]
    unplanned = archives.unplanned(scope, readable) if readable else set[int]()
    for route in context.job.routes:
        if route.archive is None or route.row.id not in unplanned:
            continue
        ready(route)
        known = archives.seed(scope, route.row.id, route.archive.places(context.job.account.uuid))
        if known:
            context.note(f"{route.name} has {count(known, 'message')} of this account already")


def backfill_from_archives(context: Context, writer: Writer, routes: Sequence[Route]) -> None:
    """Deliver to `routes`, from an archive among them, what they lack. When the slice is over no more is read.

    Only between routes that are in use: what a destination lacks that was left out is not even read.
    """
    archives = [route for route in routes if route.archive is not None]
    if len(routes) < 2 or not archives:
        return
    scope = replace(context.scope, routes=tuple(route.row for route in routes))
    before = sum(context.report.delivered.values())
    try:
        with ended(_Backfill(context, scope, archives, writer).batches()) as batches:
            for batch in batches:
                writer.write(batch)
                context.room.give(batch.taken, len(batch.messages))
    finally:
        writer.ahead = None
        context.report.backfilled += sum(context.report.delivered.values()) - before


def count_backfill(context: Context) -> int:
    """Returns how many messages `backfill_from_archives` would read."""
    number, after = 0, Key(0)
    while page := context.ledger.backfill(context.scope, after, PAGE_ROWS):
        number, after = number + len(page), page[-1].key
    return number


@dataclass(slots=True)
class _Backfill:
    """The messages that archives have and other routes lack, as batches of one mailbox each."""

    context: Context
    scope: RunScope  # of the routes in use
    archives: Sequence[Route]
    writer: Writer
    mailboxes: Mapping[int, MailboxScope] = field(default_factory=dict)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches; the bodies are the writer's. Raises Cancelled."""
        room, batch = self.context.room, None
        try:
            for row in self._rows():
                if room.cancelled:
                    raise Cancelled("cancelled while backfilling from the archive")
                if batch is None or not (_has_place(batch, row) and room.try_take(row.octets)):
                    if batch:
                        yield batch  # nobody waits for room while keeping some: another job may wait for just that
                    batch = Batch(self.mailboxes[row.mailbox_id])
                    room.take(row.octets)
                self._add(batch, row)
            if batch:
                yield batch
        finally:
            if batch is not None:
                batch.close()

    def _rows(self) -> Iterator[BackfillRow]:
        """Yield what is to be delivered to destinations that are in use still."""
        after = Key(0)
        while page := self.context.ledger.backfill(self.scope, after, PAGE_ROWS):
            if not after:
                self.context.begin("backfilling")
                names = {route.row.name for route in self.writer.routes.in_use}
                waiting = self.context.ledger.queues(self.scope)
                total = sum(number for name, number in waiting.items() if name in names)
                self.writer.ahead = sum(self.context.report.delivered.values()), total
                self.mailboxes = self.context.ledger.mailboxes.find(self.scope)
            for row in sorted(page, key=lambda row: row.mailbox_id):  # for fewer batches: each is of one mailbox
                if self.context.slice.over:
                    self.context.leave_more()
                    return
                if row.pending_mask & sum(route.bit for route in self.writer.routes.in_use):
                    yield row
            after = page[-1].key

    def _add(self, batch: Batch, row: BackfillRow) -> None:
        """Add a message whose room was taken, or give the room back."""
        account, room = self.context.job.account, self.context.room
        ref = MessageRef(origin(account, batch.scope.mailbox, row.epoch), row.uid, row.occurrence)
        stored = self._read(row, ref)
        if stored is None:
            room.give(room.taken_by(row.octets, None), 1)
            return
        body, flags, date, labels = stored
        batch.messages.append(Message(row.key, ref, body, flags, date, labels=labels))
        batch.masks.append(row.pending_mask)
        batch.taken += room.taken_by(row.octets, body)
        batch.octets += body.octets

    def _read(self, row: BackfillRow, ref: MessageRef) -> StoredMessage | None:
        """Read a message from the first archive that gives it; a damaged copy is noted, see `db.ledger.damaged`."""
        context = self.context
        for route in self.archives:
            if row.delivered_mask & route.bit and route.archive is not None:
                try:
                    return route.archive.read(Receipt(row.sha256, row.hints.get(route.row.id, "")), ref)
                except StorageError as error:
                    line = f"{route.name}: {error}"
                    context.report.errors.append(line)
                    context.note(line)
                    if isinstance(error, FormatDamaged):
                        context.ledger.archives.mark_damaged(self.scope, row.key, route.row.id, str(error))
        return None


def _has_place(batch: Batch, row: BackfillRow) -> bool:
    if batch.scope.mailbox_id != row.mailbox_id:
        return False
    return not batch or (batch.octets + row.octets <= BATCH_OCTETS and len(batch.messages) < BATCH_MESSAGES)
