"""What a person decides: tried again now, or dropped.

Pairs are (message, route), where route 0 is about the message itself: it cannot be fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, Update, bindparam, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.ledger import damaged
from syncd.db.ledger.outcomes import CLEAR
from syncd.db.ledger.work import is_open
from syncd.db.models import ABOUT_MESSAGE, deliveries, doubts, problems, routes
from syncd.db.states import DELIVERY_MOVES, DeliveryState, origins

_UNDONE: Final = frozenset({DeliveryState.PENDING, DeliveryState.DEFERRED})  # of a message that cannot be fetched

ALL_THE_SAME: Final = "all the same"  # in the place of a receipt: sent although it looks like a loop

Pairs = Sequence[tuple[int, int]]


def _move(target: DeliveryState, before: Iterable[DeliveryState]) -> Update:
    return (
        update(deliveries)
        .values(state=number(target), at=bindparam("now"))
        .where(
            deliveries.c.message_id == bindparam("key"),
            deliveries.c.route_id == bindparam("route"),
            deliveries.c.state.in_([number(state) for state in sorted(before)]),
        )
    )


_AGAIN: Final = _move(
    DeliveryState.PENDING,
    origins(DELIVERY_MOVES, DeliveryState.PENDING)
    - {DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.SENDING},
)
_DROP: Final = _move(DeliveryState.DROPPED, origins(DELIVERY_MOVES, DeliveryState.DROPPED) - {DeliveryState.DELIVERED})
_NOW: Final = (  # the back-off begins anew; a note on a frozen removal (no attempts) is not about trying
    update(problems)
    .values(attempts=number(1), first_at=bindparam("begin"), retry_at=bindparam("when"))
    .where(
        problems.c.message_id == bindparam("key"),
        problems.c.route_id == bindparam("route"),
        problems.c.attempts > number(0),
    )
)
_INSIST: Final = (
    update(deliveries)
    .values(receipt=bindparam("word"))
    .where(
        deliveries.c.message_id == bindparam("key"),
        deliveries.c.route_id == bindparam("route"),
        deliveries.c.state == number(DeliveryState.PENDING),
    )
)
_NOTED: Final = (
    update(doubts)
    .values(noted=bindparam("seen"))
    .where(doubts.c.message_id == bindparam("key"), doubts.c.route_id == bindparam("route"))
)


def retry(connection: Connection, pairs: Pairs, looping: Pairs = ()) -> None:
    """Everything that waits, for time or a person, is due now. What was delivered stays so, and is read again.

    Those of `looping` are sent even if they look like a loop, until they are delivered.
    """
    now = clock.now()
    at = to_microseconds(now)
    damaged.read_again(connection, list(pairs))
    many(connection, _AGAIN, [(int(now.timestamp()), key, route) for key, route in pairs if route != ABOUT_MESSAGE])
    many(connection, _INSIST, [(ALL_THE_SAME, key, route) for key, route in looping])
    many(connection, _NOW, [(at, at, key, route) for key, route in pairs])


def insisted(connection: Connection, route_id: int) -> list[int]:
    """Messages that are to be sent on a route even if they look like a loop."""
    waiting = select(deliveries.c.message_id).where(
        deliveries.c.route_id == route_id, is_open, deliveries.c.receipt == ALL_THE_SAME
    )
    return list(connection.execute(waiting).scalars())


def drop(connection: Connection, pairs: Pairs, job_id: int) -> None:
    """Nothing more is tried for these, and nothing more is said of what may have been delivered twice.

    A copy that an archive cannot give back is given up.

    Of a message that cannot be fetched, the deliveries of this job; what other jobs want of it stays.
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


def _of_job(connection: Connection, keys: Sequence[int], route_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Deliveries of these messages on these routes that are not done."""
    undone = deliveries.c.state.in_([number(state) for state in sorted(_UNDONE)])
    found: list[tuple[int, int]] = []
    for piece in pieces(keys):
        rows = connection.execute(
            select(deliveries.c.message_id, deliveries.c.route_id).where(
                deliveries.c.message_id.in_(piece), deliveries.c.route_id.in_(route_ids), undone
            )
        )
        found += [(key, route) for key, route in rows]
    return found


def _wanted(connection: Connection, keys: Sequence[int]) -> set[int]:
    """Those of these messages that some job still waits for."""
    undone = deliveries.c.state.in_([number(state) for state in sorted(_UNDONE)])
    wanted: set[int] = set()
    for piece in pieces(keys):
        wanted.update(
            connection.execute(
                select(deliveries.c.message_id).where(deliveries.c.message_id.in_(piece), undone)
            ).scalars()
        )
    return wanted
