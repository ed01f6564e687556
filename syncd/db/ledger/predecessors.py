"""Mail that another destination may have given to the same recipient: held for a person instead of sent again.

Where a job reaches a recipient by another mail server than before, or takes turns with another job, the ledger has
deliveries to this recipient on a route that is not in use any more. Only a person can say whether they
went to the very mailbox that is meant now (another provider's server) or to another mailbox of this name (a migration).
Routes that are in use are not looked at: two of them to one recipient are two copies, and somebody wants them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)

from syncd import clock
from syncd.db.bulk import number
from syncd.db.instants import to_microseconds
from syncd.db.ledger.scopes import enabled, of
from syncd.db.models import accounts, deliveries, jobs, messages, planned, problems, routes, uncertain_outcomes
from syncd.db.rows import ProblemKind, RunScope
from syncd.db.states import DeliveryState, move
from syncd.mail.outcome import Repeat

_MAY_HAVE_IT: Final = tuple(  # or a person wants it nowhere
    number(state)
    for state in (
        DeliveryState.DELIVERED,
        DeliveryState.SENDING,
        DeliveryState.UNCERTAIN,
        DeliveryState.HELD,
        DeliveryState.DROPPED,
    )
)
_OPEN: Final = (DeliveryState.PENDING, DeliveryState.DEFERRED)
_mine, _theirs = deliveries.alias("mine"), deliveries.alias("theirs")


class Before(NamedTuple):
    """A route of the scope, and one to the same recipient that was used since it was used itself."""

    route_id: int
    before_id: int
    reason: str


def concerns(scope: RunScope) -> bool:
    """Returns whether a run delivers anywhere that this is about."""
    return any(route.repeat is Repeat.UNCERTAIN for route in enabled(scope))


def used_before(connection: Connection, scope: RunScope) -> list[Before]:
    """Returns where a delivery may have to be held; a few small queries, and nothing for most jobs."""
    mine = {route.id: route.target.lower() for route in enabled(scope) if route.repeat is Repeat.UNCERTAIN}
    if not mine:
        return []
    in_use = and_(routes.c.enabled, jobs.c.enabled, jobs.c.account_id == scope.account_id)
    found = connection.execute(
        select(routes.c.id, routes.c.target, accounts.c.name, jobs.c.name.label("job"), in_use.label("in_use"))
        .join(jobs, jobs.c.id == routes.c.job_id)
        .join(accounts, accounts.c.id == routes.c.account_id)
    ).all()
    return [
        Before(route_id, other.id, f'by "{other.name}" for job "{other.job}"')
        for route_id, target in mine.items()
        for other in found
        if not other.in_use
        and other.id not in mine
        and other.target.lower() == target
        and _is_planned(connection, scope, other.id)
        and not _is_planned(connection, scope, route_id)
    ]


def hold(connection: Connection, scope: RunScope, before: Iterable[Before]) -> int:
    """PENDING, DEFERRED or not planned → HELD, with a reason, for what an earlier route may have delivered; how many.

    Each run does so until a listing is planned for the route.
    """
    now = clock.now()
    at, held = to_microseconds(now), 0
    for route_id, before_id, who in before:
        keys = _in_question(scope, route_id, before_id)
        held += connection.execute(select(func.count()).select_from(keys.subquery())).scalar_one()
        connection.execute(delete(problems).where(problems.c.route_id == route_id, problems.c.message_id.in_(keys)))
        reason = (
            f"it was given to this recipient before, {who}, or may have been; `syncd retry` sends it again,"
            " `syncd drop` leaves it"
        )
        values: dict[str, ColumnElement[Any]] = {
            "route_id": literal(route_id, BigInteger),
            "kind": number(ProblemKind.DELIVERY),
            "code": literal("", Text),
            "insisted": false(),
            "reason": literal(reason, Text),
            "attempts": number(1),
            "first_at": literal(at, BigInteger),
            "last_at": literal(at, BigInteger),
            "retry_at": null(),
            "run_id": literal(scope.run_id, BigInteger),
        }
        told = keys.add_columns(*values.values())
        connection.execute(insert(problems).from_select(["message_id", *values], told))
        _hold(connection, keys, route_id, int(now.timestamp()))
    return held


def _hold(connection: Connection, keys: Select[Any], route_id: int, at: int) -> None:
    held_now = move(deliveries.c.state, DeliveryState.HELD, only=_OPEN).values(at=at)
    connection.execute(held_now.where(deliveries.c.route_id == route_id, deliveries.c.message_id.in_(keys)))
    values = [literal(route_id, BigInteger), number(DeliveryState.HELD), literal(at, BigInteger)]
    unplanned = keys.where(_mine.c.message_id.is_(None)).add_columns(*values)
    connection.execute(insert(deliveries).from_select(["message_id", "route_id", "state", "at"], unplanned))


def _in_question(scope: RunScope, route_id: int, before_id: int) -> Select[Any]:
    """Keys of messages that the earlier route may have delivered and the other has not tried for good."""
    recorded = exists().where(
        uncertain_outcomes.c.message_id == messages.c.id, uncertain_outcomes.c.route_id == before_id
    )
    return (
        select(messages.c.id)
        .join(_theirs, and_(_theirs.c.message_id == messages.c.id, _theirs.c.route_id == before_id))
        .outerjoin(_mine, and_(_mine.c.message_id == messages.c.id, _mine.c.route_id == route_id))
        .where(
            of(scope),
            or_(_theirs.c.state.in_(_MAY_HAVE_IT), recorded),
            or_(_mine.c.message_id.is_(None), _mine.c.state.in_([number(state) for state in _OPEN])),
        )
    )


def _is_planned(connection: Connection, scope: RunScope, route_id: int) -> bool:
    """Returns whether a listing of the account was planned for the route since it came into use."""
    here = select(planned.c.route_id).where(planned.c.route_id == route_id, of(scope, planned.c.mailbox_id))
    return connection.execute(here.limit(1)).first() is not None
