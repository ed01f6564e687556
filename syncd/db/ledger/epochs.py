"""Messages under new names: when a server names all of them anew, or some, and how known ones are recognised.

`bump` begins an epoch of the mailbox: removals at the account freeze, and what was fetched in earlier epochs becomes a
candidate (disposal FROZEN: the partial index over it finds candidates). So is what was fetched in this epoch and is
missing now, unless we removed it. `rebind` is asked with each batch that was fetched: a new message with the octets of
a candidate takes over what became of it, so that nothing is delivered twice; the candidate becomes GONE, and what it
still waited for is skipped, as the new row waits for it. Equal copies are bound one to one, the oldest first.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from syncd.db.bulk import many, number, pieces
from syncd.db.ledger.comparison import IS_MISSING, LEAVING
from syncd.db.ledger.outcomes import CLEAR, Stored, store
from syncd.db.ledger.removal import freeze
from syncd.db.models import deliveries, doubts, mailboxes, messages, problems
from syncd.db.rows import Scope
from syncd.db.states import DISPOSAL_MOVES, DeliveryState, Disposal, MessageState, origins
from syncd.errors import Conflict

_STILL_OPEN: Final = (DeliveryState.PENDING, DeliveryState.DEFERRED)  # what the new row has to do itself

_FROZEN = messages.c.disposal == number(Disposal.FROZEN)  # word for word the condition of ix_messages_frozen
_EPOCH: Final = messages.c.epoch + number(0)  # a sum, so that SQLite takes the small index and not that of all uids
_CANDIDATES: Final = (  # two kinds, each found by an index of its own: of earlier epochs, and missing in this one
    and_(messages.c.mailbox_id == bindparam("mailbox"), _FROZEN, bindparam("epoch") > _EPOCH),
    and_(
        messages.c.mailbox_id == bindparam("mailbox"),
        IS_MISSING,
        bindparam("epoch") == _EPOCH,
        messages.c.sha256.is_not(None),
        messages.c.disposal.not_in([number(state) for state in LEAVING]),
    ),
)
_ANY: Final = tuple(select(messages.c.id).where(kind).limit(1) for kind in _CANDIDATES)  # asked for each batch
_DROP = delete(deliveries).where(
    deliveries.c.message_id == bindparam("new"), deliveries.c.route_id == bindparam("route")
)
_INHERIT = insert(deliveries).values({column.name: bindparam(column.name) for column in deliveries.c})
_INHERIT_PROBLEM = (
    update(problems)
    .values(message_id=bindparam("new"))
    .where(problems.c.message_id == bindparam("old"), problems.c.route_id == bindparam("route"))
)
_INHERIT_DOUBTS = update(doubts).values(message_id=bindparam("new")).where(doubts.c.message_id == bindparam("old"))
_SKIP = (
    update(deliveries)
    .values(state=number(DeliveryState.SKIPPED))
    .where(
        deliveries.c.message_id == bindparam("old"),
        deliveries.c.state.in_([number(state) for state in (*_STILL_OPEN, DeliveryState.SENDING)]),
    )
)
_RETIRE = (
    update(messages)
    .values(state=number(MessageState.GONE), disposal=number(Disposal.KEPT))
    .where(messages.c.id == bindparam("old"))
)


def check(connection: Connection, scope: Scope) -> None:
    """Raise Conflict when the mailbox has another epoch than the scope: its rows would be written twice."""
    epoch = current(connection, scope).epoch
    if epoch != scope.epoch:
        raise Conflict(f"the mailbox is in epoch {epoch} by now, this run began in {scope.epoch}; run again")


def current(connection: Connection, scope: Scope) -> Scope:
    """The scope in its mailbox's epoch."""
    epoch = connection.execute(select(mailboxes.c.epoch).where(mailboxes.c.id == scope.mailbox_id)).scalar_one()
    return replace(scope, epoch=epoch)


def bump(connection: Connection, scope: Scope, reason: str) -> Scope:
    """Begin the next epoch; the scope to go on with. Removals at the account freeze for `reason`."""
    check(connection, scope)
    bumped = replace(scope, epoch=scope.epoch + 1)
    connection.execute(update(mailboxes).where(mailboxes.c.id == scope.mailbox_id).values(epoch=bumped.epoch))
    freeze(connection, scope.account_id, reason)
    leave_behind(connection, scope.mailbox_id)
    return bumped


def leave_behind(connection: Connection, mailbox_id: int) -> None:
    """What was fetched in earlier epochs of the mailbox, and is not gone, may be bound again."""
    epoch = select(mailboxes.c.epoch).where(mailboxes.c.id == mailbox_id).scalar_subquery()
    may_freeze = [number(state) for state in sorted(origins(DISPOSAL_MOVES, Disposal.FROZEN))]
    connection.execute(
        update(messages)
        .values(disposal=number(Disposal.FROZEN))
        .where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.state != number(MessageState.GONE),
            messages.c.epoch < epoch,
            messages.c.sha256.is_not(None),
            messages.c.disposal.in_(may_freeze),
        )
    )


def any_candidate(connection: Connection, scope: Scope) -> bool:
    """Whether the mailbox has messages that may be bound again."""
    return any(connection.execute(query, _of(scope)).first() is not None for query in _ANY)


def rebind(connection: Connection, scope: Scope, stored: Sequence[Stored]) -> dict[int, int]:
    """Bind what is known; see `Ledger.rebind`."""
    pairs = _pair(connection, scope, stored)
    if not pairs:
        return {}
    store(connection, [row for row in stored if row[0] in pairs])
    inherited = _inherit(connection, pairs)
    olds = [(old,) for old in pairs.values()]
    many(connection, _SKIP, olds)
    many(connection, _RETIRE, olds)
    many(connection, _INHERIT_DOUBTS, list(pairs.items()))
    bits = {route.id: route.bit for route in scope.routes}
    return {new: sum(bits.get(route_id, 0) for route_id in inherited[new]) for new in pairs}


def _of(scope: Scope) -> dict[str, int]:
    return {"mailbox": scope.mailbox_id, "epoch": scope.epoch}


def _pair(connection: Connection, scope: Scope, stored: Sequence[Stored]) -> dict[int, int]:
    """Messages never fetched before → the candidates that they are."""
    known: dict[tuple[int, bytes], deque[int]] = defaultdict(deque)
    fresh: set[int] = set()
    columns = (messages.c.id, messages.c.octets, messages.c.sha256)
    for piece in pieces(stored):
        same = messages.c.sha256.in_({sha256 for _, _, sha256, _ in piece})
        for kind in _CANDIDATES:
            candidates = select(*columns).where(kind, same).order_by(messages.c.epoch, messages.c.id)
            for old, octets, sha256 in connection.execute(candidates, _of(scope)):
                if old not in known[octets, bytes(sha256)]:
                    known[octets, bytes(sha256)].append(old)
        unknown = select(messages.c.id).where(messages.c.id.in_([row[0] for row in piece]), messages.c.sha256.is_(None))
        fresh.update(connection.execute(unknown).scalars())
    return {
        key: known[octets, sha256].popleft()
        for key, octets, sha256, _ in stored
        if key in fresh and known[octets, sha256]
    }


def _inherit(connection: Connection, pairs: dict[int, int]) -> dict[int, list[int]]:
    """Copy what became of the old rows to the new ones; new key → routes for which something was settled."""
    heirs = {old: new for new, old in pairs.items()}
    settled: dict[int, list[int]] = defaultdict(list)
    rows, troubles = [], []
    for piece in pieces(list(heirs)):
        what = select(deliveries).where(
            deliveries.c.message_id.in_(piece), deliveries.c.state.not_in([number(state) for state in _STILL_OPEN])
        )
        for old, route_id, *rest in connection.execute(what):
            rows.append((heirs[old], route_id, *rest))
            troubles.append((heirs[old], old, route_id))
            settled[heirs[old]].append(route_id)
    mine = [(new, route_id) for new, route_id, *_ in rows]
    many(connection, _DROP, mine)
    many(connection, CLEAR, mine)
    many(connection, _INHERIT, rows)
    many(connection, _INHERIT_PROBLEM, troubles)
    return settled
