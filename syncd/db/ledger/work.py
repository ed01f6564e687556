"""What there is to do: selects of open deliveries whose time has come, as masks of a job's routes.

A delivery is due when it is PENDING (unless a time was set after "definitely not sent") or DEFERRED and its time has
come. Whether a message can be fetched at all now is said beside it and decided by the plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Exists,
    FromClause,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
)

from syncd import clock
from syncd.db.bulk import number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.ledger.comparison import scratch
from syncd.db.ledger.damaged import is_sound
from syncd.db.models import ABOUT_MESSAGE, deliveries, mailboxes, messages, problems
from syncd.db.rows import RouteRow, Scope, StrayRow
from syncd.db.states import DeliveryState, MessageState

AFTER, LIMIT, NOW = (
    bindparam("after", type_=BigInteger),
    bindparam("limit", type_=BigInteger),
    bindparam("now", type_=BigInteger),
)

trouble = problems.alias("trouble")  # with the delivery
fetching = problems.alias("fetching")  # with the message itself

is_open = deliveries.c.state.in_([number(state) for state in (0, 1, 3, 5)])  # the condition of ix_deliveries_open
is_due = or_(
    and_(
        deliveries.c.state == number(DeliveryState.PENDING),
        or_(trouble.c.retry_at.is_(None), trouble.c.retry_at <= NOW),
    ),
    and_(deliveries.c.state == number(DeliveryState.DEFERRED), trouble.c.retry_at <= NOW),
)
about_delivery = and_(trouble.c.message_id == deliveries.c.message_id, trouble.c.route_id == deliveries.c.route_id)
_delivered = deliveries.c.state == number(DeliveryState.DELIVERED)


def enabled(scope: Scope) -> list[RouteRow]:
    """The routes that a run delivers to."""
    return [route for route in scope.routes if route.enabled]


def archive_routes(scope: Scope) -> list[RouteRow]:
    """Those of them that can be read back."""
    return [route for route in enabled(scope) if route.kind == "archive"]


@lru_cache(maxsize=32)  # a millisecond to build, asked for page after page
def work(scope: Scope) -> Select[Any]:
    """One page of a listing's due work, in the order of WorkRow. Parameters: after (number), limit, now."""
    page = _due_lines(scope).where(scratch.c.number > AFTER).order_by(scratch.c.number).limit(LIMIT).subquery("page")
    return (
        select(
            page.c.message_id,
            page.c.number,
            page.c.uid,
            page.c.occurrence,
            page.c.octets,
            messages.c.state,
            messages.c.sha256,
            func.coalesce(fetching.c.attempts, 0),
            fetching.c.retry_at,
            page.c.pending_mask,
            page.c.delivered_mask,
        )
        .select_from(_with_fetching(page))
        .order_by(page.c.number)
    )


def outlook(scope: Scope, message_octets: int) -> Select[Any]:
    """Messages and octets that a run will fetch: due, not too large, held by none of its archives. Parameter: now."""
    lines = _due_lines(scope).subquery("lines")
    fetchable = or_(messages.c.state != number(MessageState.UNFETCHABLE), fetching.c.retry_at <= NOW)
    archives = sum(route.bit for route in archive_routes(scope))
    return (
        select(func.count(), func.coalesce(func.sum(lines.c.octets), 0))
        .select_from(_with_fetching(lines))
        .where(lines.c.octets <= message_octets, fetchable, lines.c.delivered_mask.bitwise_and(number(archives)) == 0)
    )


@lru_cache(maxsize=32)
def strays(scope: Scope) -> Select[Any]:
    """Messages of the mailbox, listed or not, that an archive holds and another route waits for; columns of StrayRow.

    Parameters: after (key), limit, now.
    """
    return (
        stray_deliveries(scope)
        .with_only_columns(
            messages.c.id,
            mailboxes.c.name,
            messages.c.epoch,
            messages.c.uid,
            messages.c.occurrence,
            messages.c.octets,
            messages.c.sha256,
            _mask_sum(enabled(scope), is_due),
        )
        .where(messages.c.id > AFTER)
        .group_by(messages.c.id, mailboxes.c.id)
        .order_by(messages.c.id)
        .limit(LIMIT)
    )


def stray_rows(connection: Connection, scope: Scope, after_key: int, limit: int) -> list[StrayRow]:
    """One page of `strays`, with the archives that hold them."""
    now = to_microseconds(clock.now())
    page = connection.execute(strays(scope), {"after": after_key, "limit": limit, "now": now}).all()
    holding = held(connection, scope, [row[0] for row in page])
    bits = {route.id: route.bit for route in scope.routes}
    return [
        StrayRow(key, box, epoch, uid, nth, size, sha256, mask, sum(bits[it] for it in holding[key]), holding[key])
        for key, box, epoch, uid, nth, size, sha256, mask in page
    ]


def stray_deliveries(scope: Scope) -> Select[Any]:
    """Due deliveries of messages of the mailbox that an archive of the job holds. Parameter: now."""
    joined = (
        deliveries.join(messages, messages.c.id == deliveries.c.message_id)
        .join(mailboxes, mailboxes.c.id == messages.c.mailbox_id)
        .outerjoin(trouble, about_delivery)
    )
    return (
        select(deliveries)
        .select_from(joined)
        .where(
            deliveries.c.route_id.in_([route.id for route in enabled(scope)]),
            is_open,
            is_due,
            messages.c.mailbox_id == scope.mailbox_id,
            messages.c.sha256.is_not(None),
            in_archive(scope),
        )
    )


def in_archive(scope: Scope) -> Exists:
    """Whether an archive of the job holds the message, as far as is known undamaged."""
    held = deliveries.alias("held")
    return exists().where(
        held.c.message_id == messages.c.id,
        held.c.route_id.in_([route.id for route in archive_routes(scope)]),
        held.c.state == number(DeliveryState.DELIVERED),
        is_sound(held),
    )


def any_open(scope: Scope) -> Select[tuple[int]]:
    """Selects a row if a delivery of the job to a message that is not gone may still change by itself.

    Asked so that it begins with the open deliveries: there are few of them, and many messages.
    """
    of_mailbox = exists().where(
        messages.c.id == deliveries.c.message_id,
        messages.c.mailbox_id == scope.mailbox_id,
        messages.c.state != number(MessageState.GONE),
    )
    routes = [route.id for route in enabled(scope)]
    return select(deliveries.c.message_id).where(deliveries.c.route_id.in_(routes), is_open, of_mailbox).limit(1)


def _due_lines(scope: Scope) -> Select[Any]:
    """Lines of the listing with due deliveries and the two masks.

    The outer joins keep the order of the lines: left to itself SQLite walks the deliveries first, and sorts them all
    for each page.
    """
    routes = enabled(scope)
    planned = and_(
        deliveries.c.message_id == scratch.c.message_id, deliveries.c.route_id.in_([route.id for route in routes])
    )
    pending = _mask_sum(routes, is_due)
    return (
        select(
            scratch.c.number,
            scratch.c.message_id,
            scratch.c.uid,
            scratch.c.octets,
            scratch.c.occurrence,
            pending.label("pending_mask"),
            _mask_sum(routes, and_(_delivered, trouble.c.message_id.is_(None))).label("delivered_mask"),
        )
        .select_from(scratch.outerjoin(deliveries, planned).outerjoin(trouble, about_delivery))
        .group_by(scratch.c.number)
        .having(pending > 0)
    )


def _mask_sum(routes: Iterable[RouteRow], condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Or-ing bits is adding them: a message has one row for each route."""
    bits = [(and_(condition, deliveries.c.route_id == route.id), number(route.bit)) for route in routes]
    return func.sum(case(*bits, else_=number(0)) if bits else number(0))


def _with_fetching(lines: Subquery) -> FromClause:
    return lines.join(messages, messages.c.id == lines.c.message_id).outerjoin(
        fetching,
        and_(fetching.c.message_id == lines.c.message_id, fetching.c.route_id == ABOUT_MESSAGE),
    )


def held(connection: Connection, scope: Scope, keys: Sequence[int]) -> dict[int, dict[int, str]]:
    """Message → the job's archive routes that hold it → hint of the receipt ("" if there is none)."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    columns = (deliveries.c.message_id, deliveries.c.route_id, deliveries.c.receipt)
    archives = [route.id for route in archive_routes(scope)]
    for piece in pieces(keys):
        holding = select(*columns).where(
            deliveries.c.message_id.in_(piece), deliveries.c.route_id.in_(archives), _delivered, is_sound(deliveries)
        )
        for key, route_id, hint in connection.execute(holding):
            found[key][route_id] = hint or ""
    return found
