"""Work that is due: selects of open deliveries whose time has come, as masks of a job's routes.

A delivery is due when it is PENDING (unless a time was set after "definitely not sent") or DEFERRED and its time has
come. Whether a message can be fetched at all now is said beside it and decided by the plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

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
from syncd.db.instants import MICROSECOND, SLACK, to_microseconds
from syncd.db.ledger.comparison import scratch
from syncd.db.ledger.damaged import is_sound
from syncd.db.ledger.scopes import archive_routes, enabled, is_open, of
from syncd.db.models import ABOUT_MESSAGE, deliveries, messages, problems, routes
from syncd.db.rows import BackfillRow, MailboxScope, ProblemKind, RouteRow, RunScope
from syncd.db.states import DeliveryState, MessageState

AFTER, LIMIT, NOW = (
    bindparam("after", type_=BigInteger),
    bindparam("limit", type_=BigInteger),
    bindparam("now", type_=BigInteger),
)

trouble = problems.alias("trouble")  # with the delivery
fetching = problems.alias("fetching")  # with the message itself


def retry_at(problem: FromClause) -> ColumnElement[Any]:
    """The time of the next try, NULL for none. Parameter: now.

    A problem that is dated ahead was written while a clock was wrong, so its time is now: it might be years away.
    """
    ahead = and_(problem.c.last_at > NOW + number(SLACK // MICROSECOND), problem.c.retry_at.is_not(None))
    return case((ahead, NOW), else_=problem.c.retry_at)


is_due = or_(
    and_(
        deliveries.c.state == number(DeliveryState.PENDING),
        or_(trouble.c.retry_at.is_(None), retry_at(trouble) <= NOW),
    ),
    and_(deliveries.c.state == number(DeliveryState.DEFERRED), retry_at(trouble) <= NOW),
)
about_delivery = and_(trouble.c.message_id == deliveries.c.message_id, trouble.c.route_id == deliveries.c.route_id)
_delivered = deliveries.c.state == number(DeliveryState.DELIVERED)
_NOT_GONE = messages.c.state != number(MessageState.GONE)


@lru_cache(maxsize=32)  # a millisecond to build, asked for page after page
def work(scope: RunScope) -> Select[Any]:
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
            retry_at(fetching),
            page.c.pending_mask,
            page.c.delivered_mask,
        )
        .select_from(_with_fetching(page))
        .order_by(page.c.number)
    )


@lru_cache(maxsize=32)
def outlook(scope: RunScope, message_octets: int) -> Select[Any]:
    """Messages and octets that a run will fetch: due, not too large, in none of its archives. Parameter: now."""
    lines = _due_lines(scope).subquery("lines")
    fetchable = or_(messages.c.state != number(MessageState.UNFETCHABLE), retry_at(fetching) <= NOW)
    archives = sum(route.bit for route in archive_routes(scope))
    return (
        select(func.count(), func.coalesce(func.sum(lines.c.octets), 0))
        .select_from(_with_fetching(lines))
        .where(lines.c.octets <= message_octets, fetchable, lines.c.delivered_mask.bitwise_and(number(archives)) == 0)
    )


@lru_cache(maxsize=32)
def backfill(scope: RunScope) -> Select[Any]:
    """Messages of the account, listed or not, that an archive has and another route waits for; as BackfillRow.

    Parameters: after (key), limit, now.
    """
    return (
        backfill_deliveries(scope)
        .with_only_columns(
            messages.c.id,
            messages.c.mailbox_id,
            messages.c.epoch,
            messages.c.uid,
            messages.c.occurrence,
            messages.c.octets,
            messages.c.sha256,
            _mask_sum(enabled(scope), is_due),
        )
        .where(messages.c.id > AFTER)
        .group_by(messages.c.id)
        .order_by(messages.c.id)
        .limit(LIMIT)
    )


def backfill_rows(connection: Connection, scope: RunScope, after_key: int, limit: int) -> list[BackfillRow]:
    """One page of `backfill`, with the archives that have the messages."""
    now = to_microseconds(clock.now())
    page = connection.execute(backfill(scope), {"after": after_key, "limit": limit, "now": now}).all()
    having = hints(connection, scope, [row[0] for row in page])
    bits = {route.id: route.bit for route in scope.routes}
    return [
        BackfillRow(key, box, epoch, uid, nth, size, sha256, mask, sum(bits[it] for it in having[key]), having[key])
        for key, box, epoch, uid, nth, size, sha256, mask in page
    ]


def backfill_deliveries(scope: RunScope) -> Select[Any]:
    """Due deliveries of messages of the account that an archive of the job has. Parameter: now."""
    joined = deliveries.join(messages, messages.c.id == deliveries.c.message_id).outerjoin(trouble, about_delivery)
    return (
        select(deliveries)
        .select_from(joined)
        .where(
            deliveries.c.route_id.in_([route.id for route in enabled(scope)]),
            is_open,
            is_due,
            of(scope),
            messages.c.sha256.is_not(None),
            in_archive(scope),
        )
    )


def in_archive(scope: RunScope) -> Exists:
    """Returns the condition that an archive of the job has the message, and is not known to have a damaged copy."""
    stored = deliveries.alias("stored")
    return exists().where(
        stored.c.message_id == messages.c.id,
        stored.c.route_id.in_([route.id for route in archive_routes(scope)]),
        stored.c.state == number(DeliveryState.DELIVERED),
        is_sound(stored),
    )


# Begins with the open deliveries, because there are few of them, and many messages.
ANY_OPEN: Final = (
    select(deliveries.c.message_id)
    .where(
        deliveries.c.route_id.in_(bindparam("routes", expanding=True)),
        is_open,
        exists().where(
            messages.c.id == deliveries.c.message_id, _NOT_GONE, messages.c.mailbox_id == bindparam("mailbox")
        ),
    )
    .limit(1)
)


def any_open(connection: Connection, scope: MailboxScope) -> bool:
    """Returns whether a delivery of the job to a message of the mailbox that is not gone may change by itself."""
    values = {"routes": [route.id for route in enabled(scope.run)], "mailbox": scope.mailbox_id}
    return connection.execute(ANY_OPEN, values).first() is not None


_WITH_OPEN: Final = select(routes.c.id).where(
    routes.c.id.in_(bindparam("routes", expanding=True)),
    exists().where(deliveries.c.route_id == routes.c.id, is_open),
)


def with_open(connection: Connection, route_ids: Collection[int]) -> set[int]:
    """Returns the routes with a delivery that may change by itself."""
    return set(connection.execute(_WITH_OPEN, {"routes": list(route_ids)}).scalars())


def open_mailboxes(scope: RunScope) -> Select[int]:
    """Selects the mailboxes with a delivery of the job that may change by itself, to a message that is not gone."""
    routes = [route.id for route in enabled(scope)]
    joined = deliveries.join(messages, messages.c.id == deliveries.c.message_id)
    return (
        select(messages.c.mailbox_id)
        .select_from(joined)
        .where(deliveries.c.route_id.in_(routes), is_open, _NOT_GONE, of(scope))
        .distinct()
    )


def _due_lines(scope: RunScope) -> Select[Any]:
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
        and_(
            fetching.c.message_id == lines.c.message_id,
            fetching.c.route_id == ABOUT_MESSAGE,
            fetching.c.kind == number(ProblemKind.FETCH),
        ),
    )


def hints(connection: Connection, scope: RunScope, keys: Sequence[int]) -> dict[int, dict[int, str]]:
    """Message → the job's archive routes that have it → hint of the receipt ("" if there is none)."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    columns = (deliveries.c.message_id, deliveries.c.route_id, deliveries.c.receipt)
    archives = [route.id for route in archive_routes(scope)]
    for piece in pieces(keys):
        having = select(*columns).where(
            deliveries.c.message_id.in_(piece), deliveries.c.route_id.in_(archives), _delivered, is_sound(deliveries)
        )
        for key, route_id, hint in connection.execute(having):
            found[key][route_id] = hint or ""
    return found
