"""Messages that an archive holds, by the ledger, and cannot give back: its octets are damaged, or somebody took them.

Such a delivery stays DELIVERED and has a problem beside it, which no other delivered one has. From then on the archive
does not count as holding the message: other destinations get it from the server, while it is listed there, and it is
not removed there. A person settles the problem: `retry` has the archive read again, `drop` gives its copy up.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, bindparam, delete, exists, select, update

from syncd import clock
from syncd.db.bulk import many, number
from syncd.db.instants import to_microseconds
from syncd.db.ledger.outcomes import CLEAR, MAX_REASON, WRITE
from syncd.db.models import deliveries, problems
from syncd.db.rows import Scope
from syncd.db.states import DeliveryState
from syncd.errors import printable

Pairs = list[tuple[int, int]]

_delivered: Final = deliveries.c.state == number(DeliveryState.DELIVERED)
_about: Final = and_(
    problems.c.message_id == deliveries.c.message_id,
    problems.c.route_id == deliveries.c.route_id,
)
_READ_AGAIN: Final = delete(problems).where(
    problems.c.message_id == bindparam("key"),
    problems.c.route_id == bindparam("route"),
    exists().where(_about, _delivered),
)
_GIVE_UP: Final = (
    update(deliveries)
    .values(state=number(DeliveryState.DROPPED))
    .where(
        deliveries.c.message_id == bindparam("key"),
        deliveries.c.route_id == bindparam("route"),
        _delivered,
        exists().where(_about),
    )
)


def mark(connection: Connection, scope: Scope, key: int, route_id: int, reason: str) -> None:
    """The archive of this route cannot give this message back. Repeatable."""
    now = to_microseconds(clock.now())
    many(connection, CLEAR, [(key, route_id)])
    many(connection, WRITE, [(key, route_id, printable(reason, MAX_REASON), 1, now, now, None, scope.run_id)])


def read_again(connection: Connection, pairs: Pairs) -> None:
    """Those of these (message, route) that are damaged are so no longer."""
    many(connection, _READ_AGAIN, pairs)


def give_up(connection: Connection, pairs: Pairs) -> None:
    """Those of these (message, route) that are damaged: DELIVERED → DROPPED. Their problems are left."""
    many(connection, _GIVE_UP, pairs)


def is_sound(held: FromClause) -> ColumnElement[bool]:
    """Of a delivered row of `held` (deliveries, or an alias of them): nothing is known against it."""
    return ~exists().where(problems.c.message_id == held.c.message_id, problems.c.route_id == held.c.route_id)


def messages_of(route_ids: list[int]) -> Select[tuple[int]]:
    """Keys of the messages that one of these routes cannot give back."""
    joined = problems.join(deliveries, _about)
    return select(problems.c.message_id).select_from(joined).where(problems.c.route_id.in_(route_ids), _delivered)
