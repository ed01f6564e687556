"""Octets of messages that an account gave or took lately, in buckets of a quarter of an hour: see `mail.allowance`.

Only accounts with such a limit have rows; those of more than a day ago go when a new one comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, select, text

from syncd import clock
from syncd.db.database import Database
from syncd.db.models import traffic
from syncd.mail.allowance import BUCKET_S, WINDOW_S, Direction

_ADD: Final = text(
    "INSERT INTO traffic (account_id, direction, since, octets) VALUES (:account, :direction, :since, :octets)"
    " ON CONFLICT (account_id, direction, since) DO UPDATE SET octets = traffic.octets + excluded.octets"
)


class Traffic(NamedTuple):
    """Octets that passed."""

    account_id: int
    direction: Direction
    octets: int


def add(connection: Connection, passed: Traffic) -> None:
    """Count octets, inside the caller's transaction."""
    now = int(clock.now().timestamp())
    mine = (traffic.c.account_id == passed.account_id, traffic.c.direction == int(passed.direction))
    connection.execute(delete(traffic).where(*mine, traffic.c.since < now - WINDOW_S - BUCKET_S))
    values = {"account": passed.account_id, "direction": int(passed.direction), "octets": passed.octets}
    connection.execute(_ADD, {**values, "since": now // BUCKET_S * BUCKET_S})


def passed_since(database: Database, account_id: int, direction: Direction, since: float) -> Sequence[tuple[int, int]]:
    """Returns begin and octets of each bucket that is not over by `since`, ascending.

    Octets that are dated ahead, by a clock that was wrong, do not count: they would for long.
    """
    found = (
        select(traffic.c.since, traffic.c.octets)
        .where(traffic.c.account_id == account_id, traffic.c.direction == int(direction))
        .where(traffic.c.since.between(int(since) - BUCKET_S, int(clock.now().timestamp())))
        .order_by(traffic.c.since)
    )
    with database.read() as connection:
        return [(int(begin), int(octets)) for begin, octets in connection.execute(found)]
