"""Uncertain outcomes: the last octet of a message may have left, and no reply to it was read (RFC 1047).

Each is recorded for good when it is noticed, so that copies at a destination ≤ 1 + what is recorded here. The policy of
the route decides what follows: the delivery is sent again, first in the next run, then ever later; or it is held for a
person; or it stays uncertain while it is looked for in the account of its recipient. A server that swallows replies
does not get copies for ever: after `backoff.MAX_UNCERTAIN` outcomes a person decides in any case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import MICROSECOND, SECOND, from_microseconds, to_microseconds
from syncd.db.ledger import outcomes
from syncd.db.ledger.backoff import resend_after
from syncd.db.ledger.outcomes import CLEAR, move_delivery
from syncd.db.ledger.scopes import is_open
from syncd.db.models import deliveries, messages, problems, runs, uncertain_outcomes
from syncd.db.rows import Resolved, RunScope, SoughtRow
from syncd.db.states import DeliveryState
from syncd.errors import Conflict
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Uid
from syncd.mail.outcome import Outcome, Verdict


class _Uncertain(NamedTuple):
    """A delivery in state UNCERTAIN and how often it came to that."""

    key: Key
    route_id: int
    times: int


_RESEND: Final = move_delivery(DeliveryState.PENDING, only=(DeliveryState.UNCERTAIN,))
_HOLD: Final = move_delivery(DeliveryState.HELD, only=(DeliveryState.UNCERTAIN,))
_TAKE_BACK: Final = move_delivery(DeliveryState.PENDING, only=(DeliveryState.REJECTED, DeliveryState.DEFERRED))
_FORGET: Final = CLEAR.where(problems.c.insisted.is_(False))
_WHEN: Final = (
    update(problems)
    .values(retry_at=bindparam("at"))
    .where(problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route"))
)


def record(
    connection: Connection, scope: RunScope, route_ids: Sequence[int], reason: str, keys: Collection[Key] | None
) -> int:
    """SENDING → UNCERTAIN on these routes, all of them or those of `keys`, recorded with `reason`; how many."""
    sending = select(deliveries.c.message_id, deliveries.c.route_id).where(
        deliveries.c.route_id.in_(route_ids), _is(DeliveryState.SENDING)
    )
    found = [
        (route_id, Outcome(Key(key), Verdict.UNCERTAIN, reason=reason))
        for key, route_id in connection.execute(sending)
        if keys is None or key in keys
    ]
    outcomes.commit(connection, scope, [], found, [])
    return len(found)


def sought(connection: Connection, scope: RunScope, route_id: int) -> list[SoughtRow]:
    """The UNCERTAIN deliveries of a route. One left after the start of the run before the one that recorded it."""
    noted = (
        select(
            uncertain_outcomes.c.message_id.label("key"),
            func.max(uncertain_outcomes.c.at).label("at"),
            func.max(uncertain_outcomes.c.run_id).label("run_id"),
        )
        .where(uncertain_outcomes.c.route_id == route_id)
        .group_by(uncertain_outcomes.c.message_id)
        .subquery("noted")
    )
    began = func.coalesce(runs.c.started_at, runs.c.queued_at)
    before = select(func.max(began)).where(runs.c.job_id == scope.job_id, runs.c.id < noted.c.run_id).scalar_subquery()
    found = (
        select(messages.c.id, messages.c.mailbox_id, messages.c.epoch, messages.c.uid, messages.c.occurrence)
        .add_columns(messages.c.octets, messages.c.sha256, noted.c.at, before.label("before"))
        .join(deliveries, deliveries.c.message_id == messages.c.id)
        .join(noted, noted.c.key == messages.c.id)
        .where(deliveries.c.route_id == route_id, _is(DeliveryState.UNCERTAIN))
        .order_by(messages.c.id)
    )
    return [
        SoughtRow(
            Key(row.id),
            row.mailbox_id,
            Epoch(row.epoch),
            Uid(bytes(row.uid)),
            row.occurrence,
            row.octets,
            bytes(row.sha256),
            since=from_microseconds(row.at if row.before is None else min(row.at, row.before)),
            noticed=from_microseconds(row.at),
        )
        for row in connection.execute(found)
    ]


def resolve(
    connection: Connection, scope: RunScope, hold: Collection[int], waiting: Collection[tuple[Key, int]] = ()
) -> Resolved:
    """UNCERTAIN → PENDING on the scope's routes; → HELD on those in `hold` and where it came to that too often.

    Those of `waiting`, message and route, stay as they are.
    """
    now = clock.now()
    at, when = int(now.timestamp()), to_microseconds(now)
    resent: list[tuple[int, Key, int]] = []  # microseconds to wait, message, route
    held: list[tuple[int, Key, int]] = []
    for key, route_id, times_ in _uncertain(connection, [route.id for route in scope.routes]):
        if (key, route_id) in waiting:
            continue
        pause = resend_after(times_)
        if pause is None or route_id in hold:
            held.append((at, key, route_id))
        else:
            resent.append((when + pause // MICROSECOND, key, route_id))
    many(connection, _HOLD, held)
    many(connection, _RESEND, [(at, key, route_id) for _, key, route_id in resent])
    many(connection, _WHEN, resent)
    return Resolved(resent=len(resent), held=len(held))


def take_back(connection: Connection, route_id: int, keys: Sequence[Key]) -> None:
    """REJECTED or DEFERRED → PENDING: the server refused everything. Raises Conflict for a delivery in another state.

    A person who insists on a delivery need not say so again: its problem stays.
    """
    at = int(clock.now().timestamp())
    if many(connection, _TAKE_BACK, [(at, key, route_id) for key in keys]) != len(keys):
        raise Conflict("a delivery that was just refused is in another state by now; run again")
    many(connection, _FORGET, [(key, route_id) for key in keys])


def times(connection: Connection, keys: Sequence[int]) -> dict[tuple[int, int], int]:
    """(message, route) → recorded uncertain outcomes, where there are any."""
    columns = (uncertain_outcomes.c.message_id, uncertain_outcomes.c.route_id)
    return {
        (key, route_id): count
        for piece in pieces(keys)
        for key, route_id, count in connection.execute(
            select(*columns, func.count()).where(uncertain_outcomes.c.message_id.in_(piece)).group_by(*columns)
        )
    }


def refused_lately(connection: Connection, route_id: int, limit: int, besides: Collection[Key]) -> list[str]:
    """Codes of what was rejected on a route since anything was delivered there, the latest first, `besides` these.

    Reads every delivery there is: ask only where something was refused.
    """
    delivered = select(func.max(deliveries.c.at)).where(
        deliveries.c.route_id == route_id, deliveries.c.state == number(DeliveryState.DELIVERED)
    )
    last = connection.execute(delivered).scalar() or 0
    rejected = (
        select(problems.c.code)
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


def _is(state: DeliveryState) -> ColumnElement[bool]:
    """In this state; served by ix_deliveries_open where the state is an open one."""
    return and_(is_open, deliveries.c.state == number(state))


def _uncertain(connection: Connection, route_ids: Sequence[int]) -> list[_Uncertain]:
    found = select(deliveries.c.message_id, deliveries.c.route_id).where(
        deliveries.c.route_id.in_(route_ids), _is(DeliveryState.UNCERTAIN)
    )
    rows = connection.execute(found).all()
    counted = times(connection, [row.message_id for row in rows])
    return [_Uncertain(Key(key), route_id, counted.get((key, route_id), 0)) for key, route_id in rows]
