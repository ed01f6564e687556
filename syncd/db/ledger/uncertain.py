"""Uncertain outcomes: the last octet of a message may have left, and no reply to it was read (RFC 1047).

Each is recorded for good when it is noticed, so that copies at a destination ≤ 1 + what is recorded here. What comes
of it is its route's policy: it is sent again, at first in the next run, then ever later; or it is held for a person.
A server that swallows replies does not get copies for ever: after MAX_DOUBTS a person decides in any case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, func, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import SECOND, to_microseconds
from syncd.db.ledger import outcomes
from syncd.db.ledger.outcomes import CLEAR, DELIVERY_BACKOFF
from syncd.db.ledger.work import is_open
from syncd.db.models import deliveries, doubts, problems
from syncd.db.rows import Scope, Settled
from syncd.db.states import DeliveryState
from syncd.destinations.base import Outcome, Verdict
from syncd.errors import Conflict

MAX_DOUBTS: Final = 5  # uncertain outcomes of one delivery, and so copies but one


class _Doubtful(NamedTuple):
    """A delivery in state UNCERTAIN and how often it came to that."""

    key: int
    route_id: int
    times: int


def _is(state: DeliveryState) -> ColumnElement[bool]:
    """In this state; served by ix_deliveries_open where the state is an open one."""
    return and_(is_open, deliveries.c.state == number(state))


def _move(before: DeliveryState, after: DeliveryState) -> Update:
    return (
        update(deliveries)
        .values(state=number(after), at=bindparam("now"))
        .where(
            deliveries.c.message_id == bindparam("key"),
            deliveries.c.route_id == bindparam("route"),
            deliveries.c.state == number(before),
        )
    )


_RESEND: Final = _move(DeliveryState.UNCERTAIN, DeliveryState.PENDING)
_HOLD: Final = _move(DeliveryState.UNCERTAIN, DeliveryState.HELD)
_TAKE_BACK: Final = _move(DeliveryState.REJECTED, DeliveryState.PENDING)
_WHEN: Final = (
    update(problems)
    .values(retry_at=bindparam("at"))
    .where(problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route"))
)


def doubt(
    connection: Connection, scope: Scope, route_ids: Sequence[int], reason: str, keys: Collection[int] | None
) -> int:
    """SENDING → UNCERTAIN on these routes, all of them or those of `keys`, recorded with `reason`; how many."""
    sending = select(deliveries.c.message_id, deliveries.c.route_id).where(
        deliveries.c.route_id.in_(route_ids), _is(DeliveryState.SENDING)
    )
    found = [
        (route_id, Outcome(key, Verdict.UNCERTAIN, reason=reason))
        for key, route_id in connection.execute(sending)
        if keys is None or key in keys
    ]
    outcomes.commit(connection, scope, [], found, [])
    return len(found)


def settle(connection: Connection, scope: Scope, hold: Collection[int]) -> Settled:
    """UNCERTAIN → PENDING on the scope's routes, → HELD on those in `hold` and where it came to that too often."""
    now = clock.now()
    at, when = int(now.timestamp()), to_microseconds(now)
    found = _doubtful(connection, [route.id for route in scope.routes])
    held = [one for one in found if one.route_id in hold or one.times > MAX_DOUBTS]
    again = [one for one in found if one not in held]
    many(connection, _HOLD, [(at, one.key, one.route_id) for one in held])
    many(connection, _RESEND, [(at, one.key, one.route_id) for one in again])
    many(connection, _WHEN, [(when + _pause(one.times), one.key, one.route_id) for one in again])
    return Settled(resent=len(again), held=len(held))


def take_back(connection: Connection, route_id: int, keys: Sequence[int]) -> None:
    """REJECTED → PENDING: what refused them refuses everything. Raises Conflict for one that was not rejected."""
    at = int(clock.now().timestamp())
    if many(connection, _TAKE_BACK, [(at, key, route_id) for key in keys]) != len(keys):
        raise Conflict("a delivery that was just rejected is in another state by now; run again")
    many(connection, CLEAR, [(key, route_id) for key in keys])


def times(connection: Connection, keys: Sequence[int]) -> dict[tuple[int, int], int]:
    """(message, route) → recorded uncertain outcomes, where there are any."""
    columns = (doubts.c.message_id, doubts.c.route_id)
    return {
        (key, route_id): count
        for piece in pieces(keys)
        for key, route_id, count in connection.execute(
            select(*columns, func.count()).where(doubts.c.message_id.in_(piece)).group_by(*columns)
        )
    }


def refused_lately(connection: Connection, route_id: int, limit: int, besides: Collection[int]) -> list[str]:
    """Reasons of what was rejected on a route since anything was delivered there, the latest first, `besides` these.

    Reads every delivery there is: ask only where something was refused.
    """
    delivered = select(func.max(deliveries.c.at)).where(
        deliveries.c.route_id == route_id, deliveries.c.state == number(DeliveryState.DELIVERED)
    )
    last = connection.execute(delivered).scalar() or 0
    rejected = (
        select(problems.c.reason)
        .join(
            deliveries,
            and_(deliveries.c.message_id == problems.c.message_id, deliveries.c.route_id == problems.c.route_id),
        )
        .where(
            problems.c.route_id == route_id,
            problems.c.message_id.not_in(besides),
            problems.c.last_at >= (last + 1) * SECOND,
            deliveries.c.state == number(DeliveryState.REJECTED),
        )
        .order_by(problems.c.last_at.desc())
        .limit(limit)
    )
    return list(connection.execute(rejected).scalars())


def _doubtful(connection: Connection, route_ids: Sequence[int]) -> list[_Doubtful]:
    found = select(deliveries.c.message_id, deliveries.c.route_id).where(
        deliveries.c.route_id.in_(route_ids), _is(DeliveryState.UNCERTAIN)
    )
    rows = connection.execute(found).all()
    counted = times(connection, [row.message_id for row in rows])
    return [_Doubtful(key, route_id, counted.get((key, route_id), 0)) for key, route_id in rows]


def _pause(times_: int) -> int:
    """Microseconds until it is sent again."""
    pause = DELIVERY_BACKOFF[times_ - 2] if times_ > 1 else timedelta()
    return pause // timedelta(microseconds=1)
