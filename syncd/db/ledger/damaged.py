"""Messages that an archive has, by the ledger, and cannot give back: the octets are damaged, or somebody deleted them.

Such a delivery stays DELIVERED and has a problem of kind DAMAGED. From then on the archive does not count as having
the message: other destinations get it from the server, while it is listed there, and it is not removed there. A person
decides: `retry` has the archive read again, `drop` gives its copy up.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, bindparam, delete, exists, select

from syncd import clock
from syncd.db.bulk import many, number
from syncd.db.instants import to_microseconds
from syncd.db.ledger.outcomes import CLEAR, MAX_REASON, WRITE
from syncd.db.models import deliveries, problems
from syncd.db.rows import ProblemKind, RunScope
from syncd.db.states import DeliveryState, move
from syncd.errors import printable
from syncd.mail.message import Key

Pairs = list[tuple[Key, int]]

_delivered: Final = deliveries.c.state == number(DeliveryState.DELIVERED)
_is_damage: Final = problems.c.kind == number(ProblemKind.DAMAGED)
_about: Final = and_(
    problems.c.message_id == deliveries.c.message_id, problems.c.route_id == deliveries.c.route_id, _is_damage
)
_READ_AGAIN: Final = delete(problems).where(
    problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route"), _is_damage
)
_GIVE_UP: Final = move(deliveries.c.state, DeliveryState.DROPPED, only=(DeliveryState.DELIVERED,)).where(
    deliveries.c.message_id == bindparam("key"), deliveries.c.route_id == bindparam("route"), exists().where(_about)
)


def mark(connection: Connection, scope: RunScope, key: Key, route_id: int, reason: str) -> None:
    """The archive of this route cannot give this message back. Repeatable."""
    now = to_microseconds(clock.now())
    many(connection, CLEAR, [(key, route_id)])
    facts = (int(ProblemKind.DAMAGED), "", False, printable(reason, MAX_REASON), 1, now, now, None, scope.run_id)
    many(connection, WRITE, [(key, route_id, *facts)])


def read_again(connection: Connection, pairs: Pairs) -> None:
    """The copies among these (message, route) that count as damaged are sound again."""
    many(connection, _READ_AGAIN, pairs)


def give_up(connection: Connection, pairs: Pairs) -> None:
    """The damaged copies among these (message, route): DELIVERED → DROPPED. Their problems stay."""
    many(connection, _GIVE_UP, pairs)


def is_sound(stored: FromClause) -> ColumnElement[bool]:
    """Returns the condition that a delivered row of `stored` (deliveries, or an alias) is not known to be damaged."""
    return ~exists().where(
        problems.c.message_id == stored.c.message_id, problems.c.route_id == stored.c.route_id, _is_damage
    )


def messages_of(route_ids: list[int]) -> Select[tuple[int]]:
    """Keys of the messages that one of these routes cannot give back."""
    return select(problems.c.message_id).where(problems.c.route_id.in_(route_ids), _is_damage)
