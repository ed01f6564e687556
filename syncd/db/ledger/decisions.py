"""Decisions of a person: try again now, or drop.

Pairs are (message, route), where route 0 is about the message itself: it cannot be fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, and_, bindparam, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.ledger import damaged
from syncd.db.ledger.outcomes import CLEAR, move_delivery
from syncd.db.ledger.scopes import is_open
from syncd.db.models import ABOUT_MESSAGE, deliveries, problems, routes, uncertain_outcomes
from syncd.db.rows import ProblemKind
from syncd.db.states import DeliveryState
from syncd.mail.message import Key

_UNDONE: Final = frozenset({DeliveryState.PENDING, DeliveryState.DEFERRED})  # of a message that cannot be fetched

Pairs = Sequence[tuple[Key, int]]


_AGAIN: Final = move_delivery(
    DeliveryState.PENDING,
    only=(DeliveryState.DEFERRED, DeliveryState.UNCERTAIN, DeliveryState.HELD, DeliveryState.REJECTED),
)
_DROP: Final = move_delivery(
    DeliveryState.DROPPED,
    only=(
        DeliveryState.PENDING,
        DeliveryState.DEFERRED,
        DeliveryState.UNCERTAIN,
        DeliveryState.HELD,
        DeliveryState.REJECTED,
    ),
)
_NOW: Final = (  # the back-off begins again; a note that a message is kept at its source is not about trying
    update(problems)
    .values(attempts=number(1), first_at=bindparam("begin"), retry_at=bindparam("when"))
    .where(
        problems.c.message_id == bindparam("key"),
        problems.c.route_id == bindparam("route"),
        problems.c.kind != number(ProblemKind.KEPT),
    )
)
_INSIST: Final = (
    update(problems)
    .values(insisted=bindparam("wanted"))
    .where(problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route"))
)
_NOTED: Final = (
    update(uncertain_outcomes)
    .values(noted=bindparam("seen"))
    .where(uncertain_outcomes.c.message_id == bindparam("key"), uncertain_outcomes.c.route_id == bindparam("route"))
)


def retry(connection: Connection, pairs: Pairs, looping: Pairs = ()) -> None:
    """Everything that waits, for time or a person, is due now. A delivered copy stays delivered, and is read again.

    Deliveries in `looping` are sent even if their messages look like a loop, until they are delivered.
    """
    now = clock.now()
    at = to_microseconds(now)
    damaged.read_again(connection, list(pairs))
    many(connection, _AGAIN, [(int(now.timestamp()), key, route) for key, route in pairs if route != ABOUT_MESSAGE])
    many(connection, _INSIST, [(True, key, route) for key, route in looping])
    many(connection, _NOW, [(at, at, key, route) for key, route in pairs])


def insisted(connection: Connection, route_id: int) -> list[Key]:
    """Messages that are to be sent on a route even if they look like a loop."""
    waiting = (
        select(problems.c.message_id)
        .join(
            deliveries,
            and_(deliveries.c.message_id == problems.c.message_id, deliveries.c.route_id == problems.c.route_id),
        )
        .where(problems.c.route_id == route_id, problems.c.insisted, is_open)
    )
    return [Key(key) for key in connection.execute(waiting).scalars()]


def drop(connection: Connection, pairs: Pairs, job_id: int) -> None:
    """These deliveries are not tried again, and no longer shown if they may have been made twice.

    A copy that an archive cannot give back is given up. For a message that cannot be fetched, the deliveries of this
    job are dropped; those of other jobs stay.
    """
    now = int(clock.now().timestamp())
    mine = list(connection.execute(select(routes.c.id).where(routes.c.job_id == job_id)).scalars())
    unfetchable = [key for key, route in pairs if route == ABOUT_MESSAGE]
    told = [pair for pair in pairs if pair[1] != ABOUT_MESSAGE]
    undone = _of_job(connection, unfetchable, mine)
    many(connection, _DROP, [(now, key, route) for key, route in dict.fromkeys([*told, *undone])])
    damaged.give_up(connection, told)
    many(connection, _NOTED, [(True, key, route) for key, route in told])
    many(connection, CLEAR, told)
    wanted = _wanted(connection, unfetchable)
    many(connection, CLEAR, [(key, ABOUT_MESSAGE) for key in unfetchable if key not in wanted])


def _of_job(connection: Connection, keys: Sequence[Key], route_ids: Sequence[int]) -> list[tuple[Key, int]]:
    """Deliveries of these messages on these routes that are not done."""
    undone = deliveries.c.state.in_([number(state) for state in sorted(_UNDONE)])
    found: list[tuple[Key, int]] = []
    for piece in pieces(keys):
        rows = connection.execute(
            select(deliveries.c.message_id, deliveries.c.route_id).where(
                deliveries.c.message_id.in_(piece), deliveries.c.route_id.in_(route_ids), undone
            )
        )
        found += [(Key(key), route) for key, route in rows]
    return found


def _wanted(connection: Connection, keys: Sequence[Key]) -> set[int]:
    """The messages among these that some job still waits for."""
    undone = deliveries.c.state.in_([number(state) for state in sorted(_UNDONE)])
    wanted: set[int] = set()
    for piece in pieces(keys):
        wanted.update(
            connection.execute(
                select(deliveries.c.message_id).where(deliveries.c.message_id.in_(piece), undone)
            ).scalars()
        )
    return wanted
