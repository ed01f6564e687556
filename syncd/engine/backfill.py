"""What a run does besides fetching: learn what archives hold, and pass on from them.

A crash leaves nothing to settle for repeat-safe destinations: a message whose commit was lost is still
pending, is fetched again (at most what was in flight), and delivering it again changes nothing. For the
others see `doubts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from syncd.db.ledger import Ledger, Scope, StrayRow
from syncd.engine.events import Noted, PhaseBegan
from syncd.engine.job import Route
from syncd.engine.pipe import BATCH_MESSAGES, BATCH_OCTETS, Batch
from syncd.engine.reader import PAGE_ROWS, Context
from syncd.engine.writer import Writer
from syncd.errors import Cancelled, FormatDamaged, StorageError
from syncd.mail.body import Body
from syncd.mail.message import Message, MessageRef, Origin, Receipt


def seed(context: Context, scope: Scope) -> Scope:
    """Tell the ledger what the archives hold already, for routes it knows nothing of (a new laptop, a new job).

    The scope that comes back is in the epoch the archives were in.
    """
    for route in context.job.routes:
        if route.archive is None or not context.ledger.is_empty(scope, route.row.id):
            continue
        known = context.ledger.seed(scope, route.row.id, route.archive.places(context.job.account.uuid))
        if known:
            context.listen(Noted(context.job.name, f"{route.name} holds {known:,} messages of this account already"))
    return context.ledger.current(scope)


def serve_from_archives(context: Context, writer: Writer, routes: Sequence[Route], scope: Scope) -> None:
    """Deliver to `routes`, from an archive among them, what they miss; nothing is fetched twice for it.

    Between those that are in use alone: what one that was left out misses is not even read.
    """
    archives = [route for route in routes if route.archive is not None]
    if len(routes) < 2 or not archives:
        return
    scope = replace(scope, routes=tuple(route.row for route in routes))
    before = sum(context.report.delivered.values())
    try:
        for batch in _batches(context, scope, archives, writer):
            writer.settle(batch, scope)
            context.room.give(batch.taken)
    finally:
        context.report.from_archive += sum(context.report.delivered.values()) - before


def count_strays(ledger: Ledger, scope: Scope) -> int:
    """How many messages `serve_from_archives` would pass on."""
    number, after = 0, 0
    while page := ledger.strays(scope, after, PAGE_ROWS):
        number, after = number + len(page), page[-1].key
    return number


def _batches(context: Context, scope: Scope, archives: list[Route], writer: Writer) -> Iterator[Batch]:
    batch, after = Batch(fetched=False), 0
    while page := context.ledger.strays(scope, after, PAGE_ROWS):
        if not after:
            context.listen(PhaseBegan(context.job.name, "passing on from the archive"))
        for row in page:
            if not row.pending_mask & sum(route.bit for route in writer.routes):
                continue  # of one that was left out meanwhile
            if context.room.cancelled:
                batch.close()
                raise Cancelled("cancelled while passing on from the archive")
            if not (_has_place(batch, row) and context.room.try_take(row.octets)):
                if batch:
                    yield batch  # nobody waits for room while holding some: another job may wait for just that
                batch = Batch(fetched=False)
                context.room.take(row.octets)
            body = _read(context, scope, row, archives)
            if body is None:
                context.room.give([row.octets])
            else:
                _add(context, batch, row, body)
        after = page[-1].key
    if batch:
        yield batch


def _has_place(batch: Batch, row: StrayRow) -> bool:
    return not batch or (batch.octets + row.octets <= BATCH_OCTETS and len(batch.messages) < BATCH_MESSAGES)


def _read(context: Context, scope: Scope, row: StrayRow, archives: list[Route]) -> Body | None:
    """The message from the first archive that gives it; what one never will is noted, see `db.damaged`."""
    for route in archives:
        if row.delivered_mask & route.bit and route.archive is not None:
            try:
                return route.archive.read(Receipt(row.sha256, row.hints.get(route.row.id, "")))
            except StorageError as error:
                line = f"{route.name}: {error}"
                context.report.errors.append(line)
                context.listen(Noted(context.job.name, line))
                if isinstance(error, FormatDamaged):
                    context.ledger.mark_damaged(scope, row.key, route.row.id, str(error))
    return None


def _add(context: Context, batch: Batch, row: StrayRow, body: Body) -> None:
    account = context.job.account
    origin = Origin(account.uuid, account.name, row.mailbox, row.epoch)
    batch.messages.append(Message(row.key, MessageRef(origin, row.uid, row.occurrence), body))
    batch.masks.append(row.pending_mask)
    batch.taken.append(row.octets)
    batch.octets += body.octets
