"""The ledger's side of `syncd verify`: what is known of each message of a mailbox and of its delivery on one route.

Only reads. Rows come in the order of the unique index over messages, in pages, so that a mailbox of any size takes
little memory, no sorting and no long transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Row, Select, and_, or_, select, tuple_

from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.models import ABOUT_MESSAGE, deliveries, messages, problems
from syncd.db.rows import MailboxScope, ProblemKind
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Uid

PAGE: Final = 1000
_LOWEST: Final = -1  # below every epoch
_BY_UID: Final = (messages.c.uid, messages.c.occurrence)
_BY_EPOCH: Final = (messages.c.epoch, *_BY_UID)
_STATE: Final = messages.c.state + number(0)  # a sum, so that SQLite takes the unique index and not that of the present
_MESSAGE: Final = tuple(MessageState)
_DISPOSAL: Final = tuple(Disposal)
_DELIVERY: Final = tuple(DeliveryState)
_fetching = problems.alias("fetching")


class Known(NamedTuple):
    """A message as the ledger knows it, and its delivery on a route; `delivery` is None where none is planned.

    `octets`, `sha256` and `header_hash` are of what was received: None where it was never fetched. `receipt` is a hint.
    `reason` says why it is not delivered, `unfetchable` why it could not be fetched; empty where nothing is wrong.
    """

    key: Key
    epoch: Epoch
    uid: Uid
    occurrence: int
    state: MessageState
    disposal: Disposal
    listed_octets: int
    octets: int | None
    sha256: bytes | None
    header_hash: bytes | None
    delivery: DeliveryState | None
    at: datetime | None
    receipt: str
    reason: str
    unfetchable: str


def present(database: Database, scope: MailboxScope, route_id: int) -> Iterator[Known]:
    """Messages of the mailbox's epoch that were there at its last listing, or are missing; by uid and occurrence."""
    query = _query(scope, route_id).where(messages.c.epoch == scope.epoch, number(MessageState.GONE) != _STATE)
    return _pages(database, query, _BY_UID, lambda row: (bytes(row.uid), row.occurrence), (b"", 0))


def departed(database: Database, scope: MailboxScope, route_id: int) -> Iterator[Known]:
    """All other messages of the mailbox: gone, or of an epoch before."""
    elsewhere = or_(messages.c.epoch != scope.epoch, number(MessageState.GONE) == _STATE)
    query = _query(scope, route_id).where(elsewhere)
    return _pages(
        database, query, _BY_EPOCH, lambda row: (row.epoch, bytes(row.uid), row.occurrence), (_LOWEST, b"", 0)
    )


def _pages(
    database: Database,
    query: Select[Any],
    order: tuple[Column[Any], ...],
    place: Callable[[Row[Any]], tuple[Any, ...]],
    after: tuple[Any, ...],
) -> Iterator[Known]:
    query = query.order_by(*order).limit(PAGE)
    while True:
        with database.read() as connection:
            page = connection.execute(query.where(tuple_(*order) > after)).all()
        for row in page:
            yield _row(row)
        if len(page) < PAGE:
            return
        after = place(page[-1])


def _query(scope: MailboxScope, route_id: int) -> Select[Any]:
    on_route = and_(deliveries.c.message_id == messages.c.id, deliveries.c.route_id == route_id)
    about_it = and_(problems.c.message_id == messages.c.id, problems.c.route_id == route_id)
    about_fetching = and_(
        _fetching.c.message_id == messages.c.id,
        _fetching.c.route_id == ABOUT_MESSAGE,
        _fetching.c.kind == number(ProblemKind.FETCH),
    )
    return (
        select(
            messages.c.id,
            *_BY_EPOCH,
            messages.c.state,
            messages.c.disposal,
            messages.c.listed_octets,
            messages.c.octets,
            messages.c.sha256,
            messages.c.header_hash,
            deliveries.c.state.label("delivery"),
            deliveries.c.at,
            deliveries.c.receipt,
            problems.c.reason,
            _fetching.c.reason.label("unfetchable"),
        )
        .select_from(
            messages.outerjoin(deliveries, on_route).outerjoin(problems, about_it).outerjoin(_fetching, about_fetching)
        )
        .where(messages.c.mailbox_id == scope.mailbox_id)
    )


def _row(row: Sequence[Any]) -> Known:
    key, epoch, uid, occurrence, state, disposal, listed, octets, sha256, header, delivery, at, *rest = row
    receipt, reason, unfetchable = rest
    return Known(
        Key(key),
        Epoch(epoch),
        Uid(bytes(uid)),
        occurrence,
        _MESSAGE[state],
        _DISPOSAL[disposal],
        listed,
        octets,
        None if sha256 is None else bytes(sha256),
        None if header is None else bytes(header),
        None if delivery is None else _DELIVERY[delivery],
        None if at is None else datetime.fromtimestamp(at, UTC),
        receipt or "",
        reason or "",
        unfetchable or "",
    )
